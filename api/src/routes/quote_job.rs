//! What a job would take, before there is one: read, pinned and compiled as on submit, and not
//! stored.

use actix_web::{HttpRequest, post, web};
use stoker_domain::spec::JobSpec;
use stoker_domain::view::{JobQuote, MemoryQuote, Problem};

use super::create_job::{Resolved, parse, resolve, spec_format};
use crate::extract::{Announced, Authorized, Make, read_body};
use crate::problem::ApiError;

/// Says what a job would take. Nothing is stored, so that it may be asked any number of times.
#[utoipa::path(tag = "jobs",
    request_body(content(
        (JobSpec = "application/json"),
        (String = "application/toml", example = "name = \"digits\""),
    ), description = "the spec, as JSON or TOML"),
    responses(
        (status = 200, body = JobQuote),
        (status = "default", body = Problem),
    ))]
#[post("/v1/jobs/quote")]
pub(crate) async fn quote_job(
    authorized: Authorized<Make>,
    announced: Announced,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<web::Json<JobQuote>, ApiError> {
    let format = spec_format(&request)?;
    let max = authorized.config.spec_max_bytes as u64;
    let body = read_body(&announced, payload, "spec", max).await?;
    let resolved = resolve(&authorized, parse(&body, format)?).await?;
    Ok(web::Json(view(&resolved)))
}

fn view(resolved: &Resolved) -> JobQuote {
    let (quote, dataset) = (&resolved.quote, &resolved.dataset);
    let steps = count_steps(&resolved.spec, dataset.schema.rows);
    let apart = quote.arena_bytes + quote.optimizer_bytes + quote.gradient_bytes;
    JobQuote {
        dataset: resolved.spec.data.dataset.clone(),
        parameters: quote.parameters,
        flops_per_step: quote.flops_per_step,
        steps_per_epoch: steps.map(|(per_epoch, _)| per_epoch),
        steps: steps.map(|(_, steps)| steps),
        peak_bytes: quote.peak_bytes,
        memory: MemoryQuote {
            weight_bytes: quote.peak_bytes.saturating_sub(apart),
            arena_bytes: quote.arena_bytes,
            optimizer_bytes: quote.optimizer_bytes,
            gradient_bytes: quote.gradient_bytes,
        },
        checkpoint_bytes: quote.checkpoint_bytes,
        dataset_bytes: dataset.size_bytes,
    }
}

/// Steps per epoch and in all, by the engine's rule: the share held out is rounded up. `None` when
/// it leaves no batch to train on, which fails the run.
fn count_steps(spec: &JobSpec, rows: u64) -> Option<(u64, u64)> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    let held_out = (rows as f64 * spec.data.split.test).ceil() as u64;
    let (rows, train) = (rows.saturating_sub(held_out), &spec.train);
    let batch = train.step_rows();
    let per_epoch = match train.drop_last {
        true => rows.checked_div(batch)?,
        false => rows.div_ceil(batch.max(1)),
    };
    let epochs = u64::from(train.epochs.unwrap_or(1));
    let steps = train.steps.unwrap_or(epochs.saturating_mul(per_epoch));
    (per_epoch > 0).then_some((per_epoch, steps))
}
