//! Pools: what is in them, and how they are shared.

use std::collections::BTreeMap;

use actix_web::{get, put, web};
use futures::future::try_join_all;
use serde_json::Value;
use stoker_domain::pool::{PoolSettings, RECORD_VERSION};
use stoker_domain::port::{CatalogKind, Expect, PLATFORM, Put};
use stoker_domain::spec::read_json;
use stoker_domain::tenant::Role;
use stoker_domain::view::{PoolList, PoolView, Problem};
use stoker_domain::{JobState, PoolName, TenantId};

use super::catalog;
use super::datasets::TRIES;
use crate::extract::{Announced, Authorized, Look, Operate, Params, path_name, read_body};
use crate::problem::ApiError;

/// Largest body.
const BODY_MAX_BYTES: u64 = 4 << 20;

/// The tenant of the platform's own documents.
pub(super) fn platform() -> Result<TenantId, ApiError> {
    PLATFORM.parse().map_err(ApiError::internal)
}

/// The pools: those that have had a worker, and those that an operator set up.
#[utoipa::path(tag = "pools", responses((status = 200, body = PoolList), (status = "default", body = Problem)))]
#[get("/v1/pools")]
pub(crate) async fn list_pools(
    authorized: Authorized<Look>,
    params: Params,
) -> Result<web::Json<PoolList>, ApiError> {
    params.only(&[])?;
    let names = names(&authorized).await?;
    let views = names.into_iter().map(|name| view(&authorized, name));
    Ok(web::Json(PoolList {
        pools: try_join_all(views).await?,
    }))
}

/// One pool.
#[utoipa::path(tag = "pools", params(("pool" = PoolName, Path)), responses((status = 200, body = PoolView), (status = "default", body = Problem)))]
#[get("/v1/pools/{pool}")]
pub(crate) async fn get_pool(
    authorized: Authorized<Look>,
    pool: web::Path<String>,
) -> Result<web::Json<PoolView>, ApiError> {
    let name: PoolName = path_name("pool", &pool)?;
    if !names(&authorized).await?.contains(&name) {
        return Err(ApiError::not_found(format_args!("pool `{name}`")));
    }
    view(&authorized, name).await.map(web::Json)
}

/// Says how a pool is shared, in place of what was said before; makes the pool known.
#[utoipa::path(tag = "pools", params(("pool" = PoolName, Path)), request_body = PoolSettings, responses((status = 200, body = PoolView), (status = "default", body = Problem)))]
#[put("/v1/pools/{pool}")]
pub(crate) async fn put_pool(
    authorized: Authorized<Operate>,
    pool: web::Path<String>,
    announced: Announced,
    payload: web::Payload,
) -> Result<web::Json<PoolView>, ApiError> {
    let name: PoolName = path_name("pool", &pool)?;
    let body = read_body(&announced, payload, "settings", BODY_MAX_BYTES).await?;
    let settings: PoolSettings = read_json(&body).map_err(|error| ApiError::syntax(vec![error]))?;
    let settings = PoolSettings {
        record_version: RECORD_VERSION,
        ..settings
    };
    let errors = settings.validate();
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let (ports, tenant) = (&authorized.ports, platform()?);
    let value = serde_json::to_value(&settings).map_err(ApiError::internal)?;
    let (kind, key, target) = (CatalogKind::Pool, name.as_str(), format!("pool {name}"));
    for _ in 0..TRIES {
        let found = ports.catalog.get(kind, &tenant, key).await?;
        let (expect, before) = match found {
            None => (Expect::Absent, Value::Null),
            Some(entry) => (Expect::Revision(entry.revision), entry.value),
        };
        let audit = [authorized.audit("put_pool", target.clone(), before, value.clone())];
        let put = (ports.catalog).put(kind, &tenant, key, &value, expect, &audit);
        if put.await? == Put::Written {
            return view(&authorized, name).await.map(web::Json);
        }
    }
    Err(ApiError::unavailable(
        "a pool's settings change all the time",
    ))
}

/// The pools that there are.
pub(super) async fn names<P>(authorized: &Authorized<P>) -> Result<Vec<PoolName>, ApiError> {
    let catalog = &authorized.ports.catalog;
    let (tenant, mut names, mut after) = (platform()?, Vec::new(), None::<String>);
    loop {
        let batch = catalog
            .list(CatalogKind::Pool, &tenant, "", after.as_deref(), 500)
            .await?;
        after = batch.last().map(|entry| entry.key.clone());
        if after.is_none() {
            return Ok(names);
        }
        names.extend(batch.iter().filter_map(|entry| entry.key.parse().ok()));
    }
}

async fn view<P>(authorized: &Authorized<P>, name: PoolName) -> Result<PoolView, ApiError> {
    let (app, ports) = (authorized.app(), &authorized.ports);
    let tenant = platform()?;
    let settings = catalog::get(app, CatalogKind::Pool, &tenant, name.as_str());
    let mut settings: PoolSettings = settings.await?.unwrap_or_default();
    if authorized.caller.role < Role::Operator {
        let own = &authorized.caller.tenant;
        let own = settings.tenants.remove_entry(own);
        settings.tenants = BTreeMap::from_iter(own);
    }
    let workers = ports.jobs.workers(&name).await?;
    let jobs = ports.jobs.active_jobs(&name).await?;
    let queued = jobs.iter().filter(|job| job.state == JobState::Queued);
    let queued = count(queued.count());
    let running = jobs.iter().filter(|job| job.state.is_leased());
    Ok(PoolView {
        name,
        settings,
        workers: count(workers.len()),
        devices: workers.iter().map(|worker| worker.slots).sum(),
        busy: running.map(|job| job.demand.devices).sum(),
        running: count(jobs.len()) - queued,
        queued,
    })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
