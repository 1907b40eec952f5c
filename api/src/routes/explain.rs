//! Why a job is where it is.

use actix_web::{get, web};
use stoker_domain::explain::{Explanation, WhatIf};
use stoker_domain::job::{Failure, FailureKind, JobRecord, LetGo};
use stoker_domain::spec::Priority;
use stoker_domain::view::{JobExplanation, Problem};
use stoker_domain::worker::Progress;
use stoker_domain::{ErrorCode, JobId, JobState, PoolName};

use super::pools;
use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// Most devices of a worker that may be asked about.
const DEVICES_MAX: u32 = 1_024;

/// Why a job is where it is: for one that waits its place, what keeps it, and when it will start;
/// what would be with another priority, pool or number of devices; for one that runs how far it is;
/// for one that has ended why.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("priority" = Option<Priority>, Query, description = "what if it had this priority"),
    ("devices" = Option<u32>, Query, description = "what if it needed so many devices"),
    ("pool" = Option<PoolName>, Query, description = "what if it were in this pool"),
), responses((status = 200, body = JobExplanation), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/explain")]
pub(crate) async fn explain_job(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
) -> Result<web::Json<JobExplanation>, ApiError> {
    params.only(&["priority", "devices", "pool"])?;
    let job = authorized.job(&id).await?;
    let asked = what_if(&authorized, &params).await?;
    let explainer = &authorized.ports.explainer;
    let busy = "too many jobs are being explained; try again";
    let permits = authorized.explanations.try_acquire();
    let _permit = permits.map_err(|_| ApiError::new(ErrorCode::RateLimited, busy))?;
    let queue = match job.state {
        JobState::Queued => explainer.explain(&job, None).await?,
        _ => None,
    };
    let what_if = match asked {
        None => None,
        Some((what_if, pool)) => {
            let mut other = job.clone();
            if let Some(pool) = pool {
                other.spec.resources.pool = pool;
            }
            explainer.explain(&other, Some(&what_if)).await?
        }
    };
    let progress = match job.state.is_leased() {
        true => authorized.ports.jobs.progress(job.id).await?,
        false => None,
    };
    Ok(web::Json(JobExplanation {
        job: job.id,
        state: job.state,
        sentence: sentence(&job, queue.as_ref(), progress.as_ref()),
        queue,
        what_if,
        progress,
        failure: job.failure,
    }))
}

async fn what_if(
    authorized: &Authorized<Within<Look>>,
    params: &Params,
) -> Result<Option<(WhatIf, Option<PoolName>)>, ApiError> {
    let priorities = [
        ("low", Priority::Low),
        ("normal", Priority::Normal),
        ("high", Priority::High),
    ];
    let priority = params.one_of("priority", &priorities)?;
    let devices = params.parse::<u32>("devices")?;
    if devices.is_some_and(|devices| !(1..=DEVICES_MAX).contains(&devices)) {
        let message = format!("not in 1 to {DEVICES_MAX}");
        return Err(ApiError::syntax_field("devices", message));
    }
    let pool = params.parse::<PoolName>("pool")?;
    if let Some(pool) = &pool
        && !pools::names(authorized).await?.contains(pool)
    {
        let message = format!("there is no pool `{pool}`");
        return Err(ApiError::invalid_field("pool", message));
    }
    let is_asked = priority.is_some() || devices.is_some() || pool.is_some();
    let what_if = WhatIf {
        priority,
        devices,
        ..WhatIf::default()
    };
    Ok(is_asked.then_some((what_if, pool)))
}

/// One sentence for the person who owns the job.
fn sentence(job: &JobRecord, queue: Option<&Explanation>, progress: Option<&Progress>) -> String {
    match (job.state, &job.failure) {
        (JobState::Queued, _) => queue.map_or_else(
            || "It waits; its scheduler hasn't seen it yet.".to_owned(),
            |queue| queue.rule.clone(),
        ),
        (JobState::Dispatched, _) => "Its worker is about to begin.".to_owned(),
        (JobState::Running, _) => match progress.filter(|progress| progress.steps > 0) {
            Some(progress) => format!("It runs: step {} of {}.", progress.step, progress.steps),
            None => "It runs, and prepares its rows.".to_owned(),
        },
        (JobState::Pausing, _) => match job.letting_go {
            Some(LetGo::Cancel) => "It saves a checkpoint, and is cancelled then.".to_owned(),
            Some(LetGo::Preempt) => {
                "It saves a checkpoint and makes room; it is queued again then.".to_owned()
            }
            _ => "It saves a checkpoint, and waits then until it is resumed.".to_owned(),
        },
        (JobState::Paused, _) => {
            "It waits until somebody resumes it: `stoker job resume`.".to_owned()
        }
        (JobState::Cancelled, _) => "It was ended by request.".to_owned(),
        (JobState::Succeeded, _) => "It ended well.".to_owned(),
        (JobState::Failed, Some(failure)) => failed(failure),
        (JobState::Failed, None) => "It failed.".to_owned(),
    }
}

/// Why, and what may be done about it.
fn failed(failure: &Failure) -> String {
    let (whose, remedy) = match failure.kind {
        FailureKind::User => ("the spec asks for what can't be done", "change the spec"),
        FailureKind::Data => ("the data isn't what the spec needs", "mend the data"),
        FailureKind::Plugin => ("a plugin failed", "mend the plugin"),
        FailureKind::Numeric => (
            "a number stopped being finite",
            "try a smaller learning rate, or `train.clip`",
        ),
        FailureKind::Capacity => (
            "memory or disk ran out",
            "ask for less, or for another pool",
        ),
        FailureKind::Hardware => ("its workers or devices broke", "ask your operator"),
        FailureKind::Timeout => ("a limit of the spec was reached", "raise the limit"),
        FailureKind::Platform => ("Stoker couldn't go on", "ask your operator"),
    };
    format!(
        "It failed because {whose}: {}. You may {remedy}.",
        failure.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_cause_and_a_remedy() {
        let failure = Failure::new(
            FailureKind::Data,
            "row 7, column `age`: \"x\" is not a number",
        );
        assert_eq!(
            failed(&failure),
            "It failed because the data isn't what the spec needs: row 7, column `age`: \"x\" is not a number. You may mend the data."
        );
    }
}
