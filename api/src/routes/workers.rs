//! Workers, as operators see and steer them.

use actix_web::{get, post, web};
use serde_json::Value;
use stoker_domain::port::{CatalogKind, Expect, Put};
use stoker_domain::view::{Problem, WorkerList, WorkerView};
use stoker_domain::worker::{Standing, WorkerOrder, WorkerRecord};
use stoker_domain::{JobRecord, PoolName, WorkerId};

use super::datasets::TRIES;
use super::{catalog, pools};
use crate::extract::{Authorized, Operate, Params, path_name};
use crate::problem::ApiError;

/// Version tag of stored orders.
const RECORD_VERSION: u16 = 1;

/// The workers of a pool, or of all, with the jobs that they have.
#[utoipa::path(tag = "pools", params(
    ("pool" = Option<PoolName>, Query, description = "only workers of this pool"),
), responses((status = 200, body = WorkerList), (status = "default", body = Problem)))]
#[get("/v1/workers")]
pub(crate) async fn list_workers(
    authorized: Authorized<Operate>,
    params: Params,
) -> Result<web::Json<WorkerList>, ApiError> {
    params.only(&["pool"])?;
    let pools = match params.parse("pool")? {
        Some(pool) => vec![pool],
        None => pools::names(&authorized).await?,
    };
    let mut views = Vec::new();
    for pool in pools {
        let workers = authorized.ports.jobs.workers(&pool).await?;
        let jobs = authorized.ports.jobs.active_jobs(&pool).await?;
        for worker in workers {
            let order = order(&authorized, &worker).await?;
            views.push(view(worker, order, &jobs));
        }
    }
    Ok(web::Json(WorkerList { workers: views }))
}

fn view(worker: WorkerRecord, order: Option<WorkerOrder>, jobs: &[JobRecord]) -> WorkerView {
    let has = |job: &&JobRecord| {
        let attempt = job.attempt.as_ref().filter(|_| job.state.is_leased());
        attempt.is_some_and(|attempt| attempt.worker == worker.id)
    };
    let jobs = jobs.iter().filter(has).map(|job| job.id).collect();
    WorkerView {
        standing: order
            .as_ref()
            .map_or(Standing::Open, |order| order.standing),
        order,
        jobs,
        worker,
    }
}

async fn order<P>(
    authorized: &Authorized<P>,
    worker: &WorkerRecord,
) -> Result<Option<WorkerOrder>, ApiError> {
    let key = WorkerOrder::key(&worker.pool, &worker.id);
    let platform = pools::platform()?;
    catalog::get(authorized.app(), CatalogKind::Worker, &platform, &key).await
}

/// Gives a worker no new jobs; those that it has go on.
#[utoipa::path(tag = "pools", params(("pool" = PoolName, Path), ("worker" = WorkerId, Path)), responses((status = 200, body = WorkerView), (status = "default", body = Problem)))]
#[post("/v1/pools/{pool}/workers/{worker}/cordon")]
pub(crate) async fn cordon_worker(
    authorized: Authorized<Operate>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<WorkerView>, ApiError> {
    give(&authorized, &path, ("cordon_worker", Standing::Cordoned)).await
}

/// Gives a worker no new jobs, and has those that it has go on elsewhere.
#[utoipa::path(tag = "pools", params(("pool" = PoolName, Path), ("worker" = WorkerId, Path)), responses((status = 200, body = WorkerView), (status = "default", body = Problem)))]
#[post("/v1/pools/{pool}/workers/{worker}/drain")]
pub(crate) async fn drain_worker(
    authorized: Authorized<Operate>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<WorkerView>, ApiError> {
    give(&authorized, &path, ("drain_worker", Standing::Draining)).await
}

/// Gives a worker jobs again.
#[utoipa::path(tag = "pools", params(("pool" = PoolName, Path), ("worker" = WorkerId, Path)), responses((status = 200, body = WorkerView), (status = "default", body = Problem)))]
#[post("/v1/pools/{pool}/workers/{worker}/uncordon")]
pub(crate) async fn uncordon_worker(
    authorized: Authorized<Operate>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<WorkerView>, ApiError> {
    give(&authorized, &path, ("uncordon_worker", Standing::Open)).await
}

/// Writes an order. It outlives the worker's process: a worker that comes back under its id finds
/// it still.
async fn give(
    authorized: &Authorized<Operate>,
    (pool, worker): &(String, String),
    (action, standing): (&str, Standing),
) -> Result<web::Json<WorkerView>, ApiError> {
    let pool: PoolName = path_name("pool", pool)?;
    let worker: WorkerId = path_name("worker", worker)?;
    let (ports, platform) = (&authorized.ports, pools::platform()?);
    let found = ports.jobs.workers(&pool).await?;
    let found = found.into_iter().find(|record| record.id == worker);
    let record = found
        .ok_or_else(|| ApiError::not_found(format_args!("worker `{worker}` in pool `{pool}`")))?;
    let order = WorkerOrder {
        record_version: RECORD_VERSION,
        standing,
        by: authorized.caller.subject.clone(),
        at: ports.clock.now(),
    };
    let key = WorkerOrder::key(&pool, &worker);
    let value = serde_json::to_value(&order).map_err(ApiError::internal)?;
    for _ in 0..TRIES {
        let there = ports
            .catalog
            .get(CatalogKind::Worker, &platform, &key)
            .await?;
        let (expect, before) = match there {
            None => (Expect::Absent, Value::Null),
            Some(entry) => (Expect::Revision(entry.revision), entry.value),
        };
        let target = format!("worker {key}");
        let audit = [authorized.audit(action, target, before, value.clone())];
        let kind = CatalogKind::Worker;
        let put = (ports.catalog).put(kind, &platform, &key, &value, expect, &audit);
        if put.await? == Put::Written {
            let jobs = ports.jobs.active_jobs(&pool).await?;
            return Ok(web::Json(view(record, Some(order), &jobs)));
        }
    }
    Err(ApiError::unavailable(
        "a worker's order changes all the time",
    ))
}
