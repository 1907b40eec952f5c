//! A job's metric points.

use actix_web::{get, web};
use stoker_domain::JobId;
use stoker_domain::port::SAMPLE_MIN;
use stoker_domain::view::{MetricList, Problem};

use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// Most points of each metric in a sample.
const SAMPLE_MAX: usize = 10_000;

/// A job's metric points, by metric and step: a page of them, or with `sample` whole curves, thinned
/// to what a picture of them needs.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("metric" = Option<String>, Query, description = "only this metric"),
    ("from_step" = Option<u64>, Query, description = "first step; 0 when absent"),
    ("to_step" = Option<u64>, Query, description = "last step"),
    ("limit" = Option<u32>, Query, description = "most points on the page; not with `sample`"),
    ("sample" = Option<u32>, Query, description = "most points of each metric, 4 to 10,000: the first, the last, and of each stretch of steps between them the least and the greatest"),
), responses((status = 200, body = MetricList), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/metrics")]
pub(crate) async fn list_metrics(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
) -> Result<web::Json<MetricList>, ApiError> {
    params.only(&["metric", "from_step", "to_step", "limit", "sample"])?;
    let metric = params.text("metric")?;
    let from_step: u64 = params.parse("from_step")?.unwrap_or(0);
    let to_step: u64 = params.parse("to_step")?.unwrap_or(u64::MAX);
    if from_step > to_step {
        let message = format!("{to_step} given, at least from_step = {from_step} needed");
        return Err(ApiError::syntax_field("to_step", message));
    }
    let max = authorized.config.points_max;
    let limit = match params.text("limit")? {
        Some(_) => params.limit(&authorized.config, max)?,
        None => max,
    };
    let sample: Option<usize> = params.parse("sample")?;
    let record = authorized.job(&id).await?;
    let (telemetry, steps) = (&authorized.ports.telemetry, from_step..=to_step);
    let Some(most) = sample else {
        let points = telemetry.points(record.id, metric, steps, limit).await?;
        return Ok(web::Json(MetricList {
            points,
            totals: None,
        }));
    };
    if !(SAMPLE_MIN..=SAMPLE_MAX).contains(&most) {
        let message = format!("{most} given, {SAMPLE_MIN} to {SAMPLE_MAX} allowed");
        return Err(ApiError::syntax_field("sample", message));
    }
    if params.text("limit")?.is_some() {
        let message = "given with `sample`, which has a number of its own";
        return Err(ApiError::syntax_field("limit", message));
    }
    let sample = telemetry.sample(record.id, metric, steps, most).await?;
    Ok(web::Json(MetricList {
        points: sample.points,
        totals: Some(sample.totals),
    }))
}
