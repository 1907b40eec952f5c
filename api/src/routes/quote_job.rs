//! What a job would take, before there is one: read, pinned and compiled as on submit, and not
//! stored.

use actix_web::{HttpRequest, post, web};
use stoker_domain::spec::JobSpec;
use stoker_domain::view::{DurationQuote, JobQuote, MemoryQuote, Problem};
use stoker_domain::worker::{DeviceProfile, WorkerRecord};
use stoker_model::{Plan, count_steps};

use super::create_job::{Resolved, parse, resolve, spec_format, workers_of};
use crate::compile::Compiled;
use crate::extract::{Announced, Authorized, Make, Within, read_body};
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
    authorized: Authorized<Within<Make>>,
    announced: Announced,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<web::Json<JobQuote>, ApiError> {
    let format = spec_format(&request)?;
    let max = authorized.config.spec_max_bytes as u64;
    let body = read_body(&announced, payload, "spec", max).await?;
    let spec = parse(&body, format)?;
    authorized.check_project(&spec.project).await?;
    let resolved = resolve(&authorized, spec).await?;
    let workers = workers_of(&authorized, &resolved.spec.resources.pool).await?;
    Ok(web::Json(view(&resolved, &workers)))
}

pub(super) fn view(resolved: &Resolved, workers: &[WorkerRecord]) -> JobQuote {
    let Resolved {
        spec,
        dataset,
        compiled: Compiled { plan, rows },
        ..
    } = resolved;
    let quote = plan.quote();
    let steps = rows.and_then(|[rows, _]| count_steps(&spec.train, rows));
    let held_out = rows.map_or(0, |[_, held_out]| held_out);
    let profiles = workers.iter().filter_map(|worker| worker.profile.as_ref());
    let durations = profiles.map(|profile| duration(plan, profile, steps, held_out));
    let apart = quote.arena_bytes + quote.optimizer_bytes + quote.gradient_bytes;
    JobQuote {
        dataset: spec.data.dataset.clone(),
        parameters: quote.parameters,
        flops_per_step: quote.flops_per_step,
        training_rows: rows.map(|[rows, _]| rows),
        held_out_rows: rows.map(|[_, held_out]| held_out),
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
        duration: durations.max_by_key(|duration| duration.step_us),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive, and a float beyond the range becomes its end"
)]
fn duration(
    plan: &Plan,
    profile: &DeviceProfile,
    steps: Option<(u64, u64)>,
    held_out: u64,
) -> DurationQuote {
    let total = |steps| plan.run_seconds(profile, steps, held_out);
    DurationQuote {
        step_us: (plan.step_seconds(profile) * 1e6).ceil() as u64,
        total_ms: steps.map(|steps| (total(steps) * 1e3).ceil() as u64),
        device_class: profile.device_class.clone(),
        threads: profile.threads,
    }
}
