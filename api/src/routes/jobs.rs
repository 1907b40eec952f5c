//! Jobs: looking, steering, removing.

use actix_web::{HttpResponse, delete, get, post, web};
use futures::future::try_join_all;
use serde_json::{Value, json};
use stoker_domain::job::{JobRecord, JobState, LetGo, Transition, TransitionError};
use stoker_domain::port::{Document, JobFilter, TransitionFailed, transition_with};
use stoker_domain::view::{JobList, JobView, Problem};
use stoker_domain::{ErrorCode, FieldError, JobId};

use crate::extract::{Authorized, Look, Make, Params, Within};
use crate::problem::ApiError;

async fn view<P>(authorized: &Authorized<P>, record: JobRecord) -> Result<JobView, ApiError> {
    let progress = if record.state.is_leased() {
        authorized.ports.jobs.progress(record.id).await?
    } else {
        None
    };
    Ok(JobView::new(record, progress))
}

/// The tenant's jobs, newest first.
#[utoipa::path(tag = "jobs", params(
    ("state" = Option<JobState>, Query, description = "only jobs in this state"),
    ("project" = Option<String>, Query, description = "only jobs of this project"),
    ("name" = Option<String>, Query, description = "only jobs with this name"),
    ("tag" = Option<Vec<String>>, Query, description = "only jobs with this tag, as `key:value`; may be repeated"),
    ("after" = Option<JobId>, Query, description = "`next` of the page before"),
    ("limit" = Option<u32>, Query, description = "most jobs on the page"),
), responses((status = 200, body = JobList), (status = "default", body = Problem)))]
#[get("/v1/jobs")]
pub(crate) async fn list_jobs(
    authorized: Authorized<Within<Look>>,
    params: Params,
) -> Result<web::Json<JobList>, ApiError> {
    params.only(&["state", "project", "name", "tag", "after", "limit"])?;
    let filter = JobFilter {
        visible: authorized.visible().await?,
        ..filter(&params)?
    };
    let after = params.parse::<JobId>("after")?;
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let page = (authorized.ports.jobs)
        .list_jobs(&authorized.caller.tenant, &filter, after, limit)
        .await?;
    let views = page.jobs.into_iter().map(|job| view(&authorized, job));
    Ok(web::Json(JobList {
        jobs: try_join_all(views).await?,
        next: page.next,
    }))
}

fn filter(params: &Params) -> Result<JobFilter, ApiError> {
    let states = JobState::ALL.map(|state| (state.as_str(), state));
    let tags = params.all("tag").map(|tag| {
        let pair = tag.split_once(':');
        pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or_else(|| FieldError::new("tag", format!("{tag:?} is not `key:value`")))
    });
    Ok(JobFilter {
        state: params.one_of("state", &states)?,
        project: params.text("project")?.map(str::to_owned),
        name: params.text("name")?.map(str::to_owned),
        tags: tags
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::syntax(vec![error]))?,
        visible: None,
    })
}

/// One job.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)), responses((status = 200, body = JobView), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}")]
pub(crate) async fn get_job(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
) -> Result<web::Json<JobView>, ApiError> {
    let record = authorized.job(&id).await?;
    view(&authorized, record).await.map(web::Json)
}

/// Tells of a job's change.
pub(super) fn audit_job<P>(
    authorized: &Authorized<P>,
    action: &str,
    before: &JobRecord,
    after: &JobRecord,
) -> Document {
    let told = |job: &JobRecord| json!({ "state": job.state, "letting_go": job.letting_go });
    let target = format!("job {}", before.id);
    authorized.audit(action, target, told(before), told(after))
}

/// Ends a job, at once or after a checkpoint. A job that was cancelled already is left as it is.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("checkpoint" = Option<bool>, Query, description = "whether a running job saves a checkpoint first; it doesn't when absent"),
), responses((status = 202, body = JobView), (status = "default", body = Problem)))]
#[post("/v1/jobs/{id}/cancel")]
pub(crate) async fn cancel_job(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
    params: Params,
) -> Result<HttpResponse, ApiError> {
    params.only(&["checkpoint"])?;
    if params.parse("checkpoint")? != Some(true) {
        let done = |job: &JobRecord| job.state == JobState::Cancelled;
        return steer(&authorized, &id, ("cancel_job", Transition::Cancel), done).await;
    }
    let done =
        |job: &JobRecord| job.state == JobState::Cancelled || job.letting_go == Some(LetGo::Cancel);
    steer(
        &authorized,
        &id,
        ("cancel_job", Transition::CancelGently),
        done,
    )
    .await
}

/// Has a running job save a checkpoint and let go of its worker, and a queued one wait.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)), responses((status = 202, body = JobView), (status = "default", body = Problem)))]
#[post("/v1/jobs/{id}/pause")]
pub(crate) async fn pause_job(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let done =
        |job: &JobRecord| job.state == JobState::Paused || job.letting_go == Some(LetGo::Pause);
    steer(&authorized, &id, ("pause_job", Transition::Pause), done).await
}

/// Queues a paused job again.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)), responses((status = 202, body = JobView), (status = "default", body = Problem)))]
#[post("/v1/jobs/{id}/resume")]
pub(crate) async fn resume_job(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    // A repeat whose first answer was lost finds the job on its way.
    let on_its_way = [JobState::Queued, JobState::Dispatched, JobState::Running];
    let done = |job: &JobRecord| on_its_way.contains(&job.state);
    steer(&authorized, &id, ("resume_job", Transition::Resume), done).await
}

/// Applies a transition, unless the job stands where it leads to.
async fn steer(
    authorized: &Authorized<Within<Make>>,
    id: &str,
    (action, wanted): (&str, Transition),
    done: impl Fn(&JobRecord) -> bool,
) -> Result<HttpResponse, ApiError> {
    let mut record = authorized.job(id).await?;
    if !done(&record) {
        let ports = &authorized.ports;
        let now = ports.clock.now();
        let also = |before: &JobRecord, after: &JobRecord| {
            Some(audit_job(authorized, action, before, after))
        };
        let jobs = ports.jobs.as_ref();
        match transition_with(jobs, record.id, &wanted, None, now, also).await {
            Ok(change) => {
                ports.relay.notify(change.outbox());
                record = change.record;
            }
            // The same may have been asked for, and written, since the record was read.
            Err(error @ TransitionFailed::Refused(TransitionError::State(_))) => {
                record = authorized.job(id).await?;
                if !done(&record) {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(HttpResponse::Accepted().json(view(authorized, record).await?))
}

/// Removes a job that has ended, with all it left behind.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/jobs/{id}")]
pub(crate) async fn delete_job(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let record = authorized.job(&id).await?;
    if !record.state.is_final() {
        let detail = format!("the job is {}: cancel it first", record.state.as_str());
        return Err(ApiError::new(ErrorCode::Conflict, detail));
    }
    remove(&authorized, &record).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes a job and all it left behind.
pub(super) async fn remove(
    authorized: &Authorized<Within<Make>>,
    record: &JobRecord,
) -> Result<(), ApiError> {
    let ports = &authorized.ports;
    let before = json!({ "state": record.state, "name": record.spec.name });
    let target = format!("job {}", record.id);
    let audit = authorized.audit("delete_job", target, before, Value::Null);
    let stores = (&*ports.jobs, &*ports.telemetry, &*ports.objects);
    stoker_housekeeper::delete_job(stores, record.id, &[audit]).await?;
    Ok(())
}
