//! Predicting a few rows with the model of a finished job.

use actix_web::{HttpRequest, post, web};
use serde::Deserialize;
use serde_json::{Map, Value};
use stoker_domain::model::PREDICT_ROWS_MAX;
use stoker_domain::view::{PredictionList, Problem};
use stoker_domain::{ErrorCode, JobId};
use utoipa::ToSchema;

use crate::extract::{Announced, Authorized, Make, Within, read_body};
use crate::problem::ApiError;

/// Rows to predict.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// Each a value by the name of a column of the data set: a number, an array of the column's
    /// shape, a text, or a PNG or JPEG in base64. At most 1,000.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
}

/// Predicts rows with the model of a finished job, after the same preprocessing as in training.
/// Nothing is stored, so that it may be asked any number of times.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)),
    request_body(content = PredictRequest),
    responses((status = 200, body = PredictionList), (status = "default", body = Problem)))]
#[post("/v1/jobs/{id}/predict")]
pub(crate) async fn predict(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
    announced: Announced,
    _request: HttpRequest,
    payload: web::Payload,
) -> Result<web::Json<PredictionList>, ApiError> {
    let record = authorized.job(&id).await?;
    let max = authorized.config.predict_max_bytes;
    let body = read_body(&announced, payload, "rows", max).await?;
    let request: PredictRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::syntax_field("", error.to_string()))?;
    let count = request.rows.len();
    if !(1..=PREDICT_ROWS_MAX).contains(&count) {
        let message = format!(
            "{count} given, 1 to {PREDICT_ROWS_MAX} allowed: `stoker model predict` takes any number"
        );
        return Err(ApiError::invalid_field("rows", message));
    }
    let busy = "too many predictions are being made; try again";
    let permits = authorized.predictions.try_acquire();
    let _permit = permits.map_err(|_| ApiError::new(ErrorCode::RateLimited, busy))?;
    let predicted = authorized.ports.predictor.predict(&record, request.rows);
    let predictions = predicted.await.map_err(|error| match error.code {
        ErrorCode::InvalidInput => ApiError::invalid_field("rows", error.message),
        ErrorCode::Internal => ApiError::internal(error),
        ErrorCode::Unavailable => ApiError::unavailable(error),
        code => ApiError::new(code, error.message),
    })?;
    Ok(web::Json(PredictionList { predictions }))
}
