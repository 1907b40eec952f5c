//! Running a job again, and comparing two.

use actix_web::{HttpResponse, get, post, web};
use stoker_domain::dataset::DatasetRecord;
use stoker_domain::diff::{JobDiff, TRACE};
use stoker_domain::job::NewJob;
use stoker_domain::plugin::PluginRecord;
use stoker_domain::port::CatalogKind;
use stoker_domain::view::{JobView, Problem};
use stoker_domain::{ErrorCode, JobId, JobRecord, JobState};

use super::catalog;
use super::create_job::{answer, check_secrets, submit};
use crate::extract::{Authorized, IdempotencyKey, Look, Make, Params, Within};
use crate::problem::ApiError;

/// Runs a finished job again: the same spec, on the same data and plugins. `GET …/diff` tells
/// whether its weights are the same, and from which step on they aren't.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
), responses(
    (status = 202, body = JobView, headers(("Location" = String, description = "the new job"))),
    (status = "default", body = Problem),
))]
#[post("/v1/jobs/{id}/replay")]
pub(crate) async fn replay_job(
    authorized: Authorized<Within<Make>>,
    id: web::Path<String>,
    key: Result<IdempotencyKey, ApiError>,
) -> Result<HttpResponse, ApiError> {
    let original = authorized.job(&id).await?;
    let key = key?;
    let body_blake3 = blake3::hash(format!("replay\n{}", original.id).as_bytes());
    let body_blake3 = body_blake3.to_hex().to_string();
    let tenant = &authorized.caller.tenant;
    let replayed = authorized.ports.jobs.replayed(tenant, &key.0, &body_blake3);
    if let Some(creation) = replayed.await? {
        return answer(creation, String::new());
    }
    if original.state != JobState::Succeeded {
        let detail = format!(
            "the job is {}: one that succeeded can be replayed",
            original.state.as_str()
        );
        return Err(ApiError::new(ErrorCode::Conflict, detail));
    }
    authorized.check_project(&original.spec.project).await?;
    check_secrets(&authorized, &original.spec).await?;
    check_inputs(&authorized, &original).await?;
    let new = NewJob {
        id: JobId::generate(),
        tenant: tenant.clone(),
        spec: original.spec,
        inputs: original.inputs,
        demand: original.demand,
        replay_of: Some(original.id),
        created_at: authorized.ports.clock.now(),
    };
    submit(&authorized, "replay_job", new, key, body_blake3).await
}

/// That data set and plugins are there still, and what they were.
async fn check_inputs(
    authorized: &Authorized<Within<Make>>,
    job: &JobRecord,
) -> Result<(), ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let check = |what: String, was: &str, is: Option<String>| match is {
        Some(is) if is == was => Ok(()),
        Some(is) => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{what} isn't what it was: its BLAKE3 is {is}, the job ran on {was}"),
        )),
        None => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{what} isn't there any more"),
        )),
    };
    let tokenizers = job.inputs.tokenizers.iter();
    let tokenizers = tokenizers.map(|(name, tokenizer)| (name.clone(), &tokenizer.blake3));
    let rows = (
        job.spec.data.dataset.to_string(),
        &job.inputs.dataset_blake3,
    );
    for (reference, blake3) in std::iter::once(rows).chain(tokenizers) {
        let dataset = catalog::get::<DatasetRecord>(app, CatalogKind::Dataset, tenant, &reference);
        let dataset = dataset.await?.map(|record| record.blake3);
        check(format!("data set `{reference}`"), blake3, dataset)?;
    }
    for (reference, blake3) in &job.inputs.plugins {
        let plugin = catalog::get::<PluginRecord>(app, CatalogKind::Plugin, tenant, reference);
        let plugin = plugin.await?.map(|record| record.blake3);
        check(format!("plugin `{reference}`"), blake3, plugin)?;
    }
    Ok(())
}

/// What differs between two jobs: spec, data, plugins, engine, metrics, and the first interval of
/// steps in which their weights came apart.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("with" = Option<JobId>, Query, description = "the other job; the one that this one replays when absent"),
), responses((status = 200, body = JobDiff), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/diff")]
pub(crate) async fn diff_jobs(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
) -> Result<web::Json<JobDiff>, ApiError> {
    params.only(&["with"])?;
    let job = authorized.job(&id).await?;
    // What a job is compared with comes first: it was there before.
    let (a, b) = match (params.text("with")?, job.replay_of) {
        (Some(with), _) => {
            let other = authorized.job(with).await?;
            (job, other)
        }
        (None, Some(original)) => (authorized.job(&original.to_string()).await?, job),
        (None, None) => {
            let message = "missing: the job to compare with (this one replays none)";
            return Err(ApiError::invalid_field("with", message));
        }
    };
    let telemetry = &authorized.ports.telemetry;
    let max = authorized.config.points_max;
    let trace = telemetry
        .points(a.id, Some(TRACE), 0..=u64::MAX, max)
        .await?;
    let other = telemetry
        .points(b.id, Some(TRACE), 0..=u64::MAX, max)
        .await?;
    Ok(web::Json(JobDiff::of(&a, &b, [&trace, &other])))
}
