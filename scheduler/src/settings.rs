//! What the operators want of a pool, and what its tenants have used: documents of the platform.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use stoker_domain::pool::PoolSettings;
use stoker_domain::port::{Catalog, CatalogKind, Expect, PLATFORM, Put, StoreError};
use stoker_domain::worker::{Standing, WorkerOrder};
use stoker_domain::{PoolName, TenantId, WorkerId};

use crate::UsageSnapshot;

/// Documents that are read at a time.
const PAGE: usize = 1_000;

/// How the pool is shared; a pool that nobody set up has the defaults.
pub(crate) async fn pool_settings(
    catalog: &dyn Catalog,
    pool: &PoolName,
) -> Result<PoolSettings, StoreError> {
    let tenant = platform()?;
    let entry = catalog
        .get(CatalogKind::Pool, &tenant, pool.as_str())
        .await?;
    entry.map_or_else(|| Ok(PoolSettings::default()), |entry| parse(entry.value))
}

/// What the operators want of the pool's workers.
pub(crate) async fn worker_orders(
    catalog: &dyn Catalog,
    pool: &PoolName,
) -> Result<BTreeMap<WorkerId, Standing>, StoreError> {
    let (tenant, prefix) = (platform()?, format!("{pool}/"));
    let mut orders = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = catalog
            .list(
                CatalogKind::Worker,
                &tenant,
                &prefix,
                after.as_deref(),
                PAGE,
            )
            .await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|entry| entry.key.clone());
        for entry in page {
            let worker = entry.key.strip_prefix(&prefix);
            let worker = worker.and_then(|id| id.parse::<WorkerId>().ok());
            if let Some(worker) = worker {
                let order: WorkerOrder = parse(entry.value)?;
                orders.insert(worker, order.standing);
            }
        }
        if is_last {
            return Ok(orders);
        }
    }
}

/// What the last scheduler of this pool left.
pub(crate) async fn usage(
    catalog: &dyn Catalog,
    pool: &PoolName,
) -> Result<Option<UsageSnapshot>, StoreError> {
    let tenant = platform()?;
    let entry = catalog
        .get(CatalogKind::Usage, &tenant, pool.as_str())
        .await?;
    entry.map(|entry| parse(entry.value)).transpose()
}

/// Leaves what tenants have used for the next scheduler. Another one may have written meanwhile: the
/// later write holds.
pub(crate) async fn save_usage(
    catalog: &dyn Catalog,
    pool: &PoolName,
    usage: &UsageSnapshot,
) -> Result<(), StoreError> {
    let (tenant, kind) = (platform()?, CatalogKind::Usage);
    let value = serde_json::to_value(usage).map_err(corrupt)?;
    for _ in 0..3 {
        let there = catalog.get(kind, &tenant, pool.as_str()).await?;
        let expect = there.map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
        if catalog
            .put(kind, &tenant, pool.as_str(), &value, expect, &[])
            .await?
            == Put::Written
        {
            break;
        }
    }
    Ok(())
}

fn platform() -> Result<TenantId, StoreError> {
    PLATFORM.parse().map_err(corrupt)
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(corrupt)
}

fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
