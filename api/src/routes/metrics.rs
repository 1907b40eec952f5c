//! A job's metric points.

use actix_web::{get, web};
use stoker_domain::JobId;
use stoker_domain::view::{MetricList, Problem};

use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// A job's metric points, by metric and step.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("metric" = Option<String>, Query, description = "only this metric"),
    ("from_step" = Option<u64>, Query, description = "first step; 0 when absent"),
    ("limit" = Option<u32>, Query, description = "most points on the page"),
), responses((status = 200, body = MetricList), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/metrics")]
pub(crate) async fn list_metrics(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
) -> Result<web::Json<MetricList>, ApiError> {
    params.only(&["metric", "from_step", "limit"])?;
    let metric = params.text("metric")?;
    let from_step = params.parse("from_step")?.unwrap_or(0);
    let max = authorized.config.points_max;
    let limit = match params.text("limit")? {
        Some(_) => params.limit(&authorized.config, max)?,
        None => max,
    };
    let record = authorized.job(&id).await?;
    let points = (authorized.ports.telemetry)
        .points(record.id, metric, from_step, limit)
        .await?;
    Ok(web::Json(MetricList { points }))
}
