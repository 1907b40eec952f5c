//! The same with many jobs.

use actix_web::{post, web};
use stoker_domain::job::{JobRecord, JobState, LetGo, Transition};
use stoker_domain::port::{JobFilter, TransitionFailed, transition_with};
use stoker_domain::spec::read_json;
use stoker_domain::view::{BatchAction, BatchRequest, BatchResult, Problem};

use super::jobs::{audit_job, remove};
use crate::extract::{Announced, Authorized, Make, Within, read_body};
use crate::problem::ApiError;

/// Largest body.
const BODY_MAX_BYTES: u64 = 64 << 10;
/// How long one request goes on, in milliseconds: less than requests may take.
const TIME_MAX_MS: u64 = 10_000;
/// Jobs that one request looks at.
const JOBS_MAX: usize = 500;

/// Does the same with all jobs that a filter finds, newest first, up to 500; `next` says where to go
/// on. Jobs whose state doesn't allow it are left. A repeat finds what is left.
#[utoipa::path(tag = "jobs", request_body = BatchRequest, responses((status = 200, body = BatchResult), (status = "default", body = Problem)))]
#[post("/v1/jobs/batch")]
pub(crate) async fn batch_jobs(
    authorized: Authorized<Within<Make>>,
    announced: Announced,
    payload: web::Payload,
) -> Result<web::Json<BatchResult>, ApiError> {
    let body = read_body(&announced, payload, "request", BODY_MAX_BYTES).await?;
    let request: BatchRequest = read_json(&body).map_err(|error| ApiError::syntax(vec![error]))?;
    let filter = JobFilter {
        state: request.state,
        project: request.project.clone(),
        name: request.name.clone(),
        tags: request.tags.clone(),
        visible: authorized.visible().await?,
    };
    let tenant = &authorized.caller.tenant;
    let page = (authorized.ports.jobs)
        .list_jobs(tenant, &filter, request.after, JOBS_MAX)
        .await?;
    let mut result = BatchResult {
        done: Vec::new(),
        left: Vec::new(),
        next: page.next,
    };
    let begun_ms = authorized.ports.clock.monotonic_ms();
    for job in page.jobs {
        let id = job.id;
        let past_ms = authorized
            .ports
            .clock
            .monotonic_ms()
            .saturating_sub(begun_ms);
        let looked_at = result.done.iter().chain(&result.left).min().copied();
        if past_ms > TIME_MAX_MS && looked_at.is_some() {
            // The list goes from the newest to the oldest: the rest comes after the oldest so far.
            result.next = looked_at;
            break;
        }
        let is_done = allows(request.action, &job)
            && (request.dry_run || act(&authorized, request.action, job).await?);
        match is_done {
            true => result.done.push(id),
            false => result.left.push(id),
        }
    }
    Ok(web::Json(result))
}

const fn allows(action: BatchAction, job: &JobRecord) -> bool {
    let state = job.state;
    match action {
        BatchAction::Cancel => !state.is_final(),
        BatchAction::CancelGently => {
            !state.is_final() && !matches!(job.letting_go, Some(LetGo::Cancel))
        }
        BatchAction::Pause => {
            matches!(
                state,
                JobState::Queued | JobState::Dispatched | JobState::Running
            ) || matches!(job.letting_go, Some(LetGo::Preempt))
        }
        BatchAction::Resume => matches!(state, JobState::Paused),
        BatchAction::Delete => state.is_final(),
    }
}

/// `false` when the job's state didn't allow it any more.
async fn act(
    authorized: &Authorized<Within<Make>>,
    action: BatchAction,
    job: JobRecord,
) -> Result<bool, ApiError> {
    let wanted = match action {
        BatchAction::Cancel => Transition::Cancel,
        BatchAction::CancelGently => Transition::CancelGently,
        BatchAction::Pause => Transition::Pause,
        BatchAction::Resume => Transition::Resume,
        BatchAction::Delete => {
            remove(authorized, &job).await?;
            return Ok(true);
        }
    };
    let ports = &authorized.ports;
    let now = ports.clock.now();
    let also = |before: &JobRecord, after: &JobRecord| {
        Some(audit_job(authorized, "batch_jobs", before, after))
    };
    let jobs = ports.jobs.as_ref();
    match transition_with(jobs, job.id, &wanted, None, now, also).await {
        Ok(change) => {
            ports.relay.notify(change.outbox());
            Ok(true)
        }
        Err(TransitionFailed::Refused(_) | TransitionFailed::Gone) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
