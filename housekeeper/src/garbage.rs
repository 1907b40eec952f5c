//! Objects that nothing names: what a process left that died between an object and its record.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde_json::Value;
use stoker_domain::port::{CatalogKind, StoreError};
use stoker_domain::upload::UploadRecord;
use stoker_domain::{JobId, JobRecord, TenantId, Timestamp, UploadId, object};

use crate::removal::{delete_object, delete_under};
use crate::{Config, HousekeepingError, Ports};

/// Records read at a time.
const PAGE: usize = 500;

fn is_old(config: &Config, now: Timestamp, found: &ObjectMeta) -> bool {
    let modified = Timestamp::from_millis(found.last_modified.timestamp_millis());
    now.millis_since(modified) >= config.garbage_after.0
}

/// Folders right under a prefix, by name.
async fn folders(ports: &Ports, prefix: &str) -> Result<Vec<String>, HousekeepingError> {
    let prefix = Path::from(prefix);
    let listed = ports.objects.list_with_delimiter(Some(&prefix)).await?;
    let names = listed.common_prefixes.iter();
    Ok(names
        .filter_map(|path| path.filename().map(str::to_owned))
        .collect())
}

async fn objects(ports: &Ports, prefix: String) -> Result<Vec<ObjectMeta>, HousekeepingError> {
    let prefix = Path::from(prefix);
    Ok(ports.objects.list(Some(&prefix)).try_collect().await?)
}

/// Objects of jobs that are gone, and of attempts whose work came to nothing; how many.
pub(crate) async fn collect_jobs(config: &Config, ports: &Ports) -> Result<u64, HousekeepingError> {
    let mut collected = 0;
    for name in folders(ports, object::JOBS).await? {
        let Ok(id) = name.parse::<JobId>() else {
            continue;
        };
        let record = ports.jobs.job(id).await?;
        if record
            .as_ref()
            .is_some_and(|record| !record.state.is_final())
        {
            continue;
        }
        let now = ports.clock.now();
        for found in objects(ports, object::job(id)).await? {
            let named = (record.as_ref()).is_some_and(|record| is_named(record, &found.location));
            if !named && is_old(config, now, &found) {
                delete_object(&*ports.objects, &found.location).await?;
                collected += 1;
            }
        }
    }
    Ok(collected)
}

/// Whether an ended job still has use for an object: its logs and metric points, and whatever the
/// attempts left that its result and its checkpoint are of.
fn is_named(record: &JobRecord, key: &Path) -> bool {
    let parts: Vec<_> = key.parts().skip(2).collect();
    let [first, rest @ ..] = &parts[..] else {
        return true;
    };
    let Ok(token) = first.as_ref().parse::<u64>() else {
        return true;
    };
    rest.first().is_some_and(|part| part.as_ref() == "logs")
        || record
            .result
            .as_ref()
            .is_some_and(|result| result.token == token)
        || record
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.token == token)
}

/// Bytes of data sets and plugins that no version has; how many objects.
pub(crate) async fn collect_inputs(
    config: &Config,
    ports: &Ports,
) -> Result<u64, HousekeepingError> {
    let mut collected = 0;
    for (kind, root) in [
        (CatalogKind::Dataset, object::DATASETS),
        (CatalogKind::Plugin, object::PLUGINS),
    ] {
        for name in folders(ports, root).await? {
            let Ok(tenant) = name.parse::<TenantId>() else {
                continue;
            };
            let named = hashes(ports, kind, &tenant).await?;
            let now = ports.clock.now();
            for found in objects(ports, format!("{root}/{tenant}")).await? {
                let hash = hash_of(&found.location);
                if named.contains(&hash) || !is_old(config, now, &found) {
                    continue;
                }
                collected += u64::from(retire(ports, kind, &tenant, &found.location).await?);
            }
        }
    }
    Ok(collected + restore(config, ports).await?)
}

/// The BLAKE3 that a key's last part begins with.
fn hash_of(key: &Path) -> String {
    let name = key.filename().unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// BLAKE3s of all versions that a tenant has.
async fn hashes(
    ports: &Ports,
    kind: CatalogKind,
    tenant: &TenantId,
) -> Result<BTreeSet<String>, StoreError> {
    let mut hashes = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = ports
            .catalog
            .list(kind, tenant, "", after.as_deref(), PAGE)
            .await?;
        let of = |value: &Value| value["blake3"].as_str().map(str::to_owned);
        hashes.extend(page.iter().filter_map(|entry| of(&entry.value)));
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(hashes),
        }
    }
}

/// Moves an object aside, looks again, and removes it if it still has no name: a version with these
/// bytes may be made at any moment. `false` when it got one, and is back.
async fn retire(
    ports: &Ports,
    kind: CatalogKind,
    tenant: &TenantId,
    key: &Path,
) -> Result<bool, HousekeepingError> {
    let aside = Path::from(format!("{}/{key}", object::GARBAGE));
    ports.objects.rename(key, &aside).await?;
    settle(ports, kind, tenant, key, &aside).await
}

async fn settle(
    ports: &Ports,
    kind: CatalogKind,
    tenant: &TenantId,
    key: &Path,
    aside: &Path,
) -> Result<bool, HousekeepingError> {
    let named = hashes(ports, kind, tenant).await?.contains(&hash_of(key));
    if named {
        ports.objects.rename(aside, key).await?;
    } else {
        delete_object(&*ports.objects, aside).await?;
    }
    Ok(!named)
}

/// Finishes with what was moved aside by a process that died over it.
async fn restore(config: &Config, ports: &Ports) -> Result<u64, HousekeepingError> {
    let mut collected = 0;
    let now = ports.clock.now();
    for found in objects(ports, object::GARBAGE.to_owned()).await? {
        let parts: Vec<_> = found.location.parts().skip(1).collect();
        let key: Path = parts.iter().cloned().collect();
        let [root, tenant, ..] = &parts[..] else {
            continue;
        };
        let kind = match root.as_ref() {
            object::DATASETS => CatalogKind::Dataset,
            object::PLUGINS => CatalogKind::Plugin,
            _ => continue,
        };
        let Ok(tenant) = tenant.as_ref().parse::<TenantId>() else {
            continue;
        };
        if is_old(config, now, &found) {
            let gone = settle(ports, kind, &tenant, &key, &found.location).await?;
            collected += u64::from(gone);
        }
    }
    Ok(collected)
}

/// Uploads that have expired, of tenants who begin no others; how many objects.
pub(crate) async fn collect_uploads(ports: &Ports) -> Result<u64, HousekeepingError> {
    let mut collected = 0;
    for name in folders(ports, object::UPLOADS).await? {
        let Ok(tenant) = name.parse::<TenantId>() else {
            continue;
        };
        for name in folders(ports, &object::uploads(&tenant)).await? {
            let Ok(id) = name.parse::<UploadId>() else {
                continue;
            };
            let key = Path::from(object::upload(&tenant, id));
            let read = async { ports.objects.get(&key).await?.bytes().await };
            let record: Option<UploadRecord> = match read.await {
                Ok(bytes) => serde_json::from_slice(&bytes).ok(),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if record.is_some_and(|record| record.expires_at <= ports.clock.now()) {
                let prefix = format!("{}/{id}", object::uploads(&tenant));
                collected += delete_under(&*ports.objects, prefix).await?;
            }
        }
    }
    Ok(collected)
}
