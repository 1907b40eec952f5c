//! What the policy keeps for a time only: jobs, audit entries, usage.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stoker_domain::audit::{self, Actor, AuditEntry, id_from};
use stoker_domain::port::{CatalogKind, Document, JobFilter, PLATFORM, StoreError};
use stoker_domain::tenant::Role;
use stoker_domain::time::Millis;
use stoker_domain::{JobId, JobRecord, TenantId, Timestamp};

use crate::removal::delete_job;
use crate::{Config, HousekeepingError, Ports};

/// Entries read at a time.
const PAGE: usize = 500;

/// Removes jobs that ended long enough ago; how many.
pub(crate) async fn expire_jobs(config: &Config, ports: &Ports) -> Result<u64, HousekeepingError> {
    let Some(keep) = config.keep.jobs else {
        return Ok(0);
    };
    let end = before(ports.clock.now(), keep);
    let mut expired = 0;
    for tenant in ports.jobs.tenants().await? {
        // What was created later can't have ended earlier.
        let mut after = Some(JobId::first_of(end));
        while after.is_some() {
            let jobs = &ports.jobs;
            let page = jobs
                .list_jobs(&tenant, &JobFilter::default(), after, PAGE)
                .await?;
            for record in page.jobs {
                if record.state.is_final() && record.finished_at.is_some_and(|at| at < end) {
                    let stores = (&*ports.jobs, &*ports.telemetry, &*ports.objects);
                    delete_job(stores, record.id, &[told(ports, &record)]).await?;
                    expired += 1;
                }
            }
            after = page.next;
        }
    }
    Ok(expired)
}

/// Removes audit entries and usage records that are old enough; how many.
pub(crate) async fn expire_entries(
    config: &Config,
    ports: &Ports,
) -> Result<u64, HousekeepingError> {
    let kinds = [
        (CatalogKind::Audit, config.keep.audit),
        (CatalogKind::Attempt, config.keep.usage),
    ];
    if kinds.iter().all(|(_, keep)| keep.is_none()) {
        return Ok(0);
    }
    let mut expired = 0;
    for tenant in tenants(ports).await? {
        for (kind, keep) in kinds {
            let Some(keep) = keep else { continue };
            let end = id_from(before(ports.clock.now(), keep));
            // By key, and so by time.
            'pages: loop {
                let page = ports.catalog.list(kind, &tenant, "", None, PAGE).await?;
                for entry in &page {
                    if entry.key >= end {
                        break 'pages;
                    }
                    expired +=
                        u64::from(ports.catalog.delete(kind, &tenant, &entry.key, &[]).await?);
                }
                if page.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(expired)
}

/// All tenants that are known, and the platform itself.
pub(crate) async fn tenants(ports: &Ports) -> Result<BTreeSet<TenantId>, StoreError> {
    let mut tenants: BTreeSet<TenantId> = ports.jobs.tenants().await?.into_iter().collect();
    let platform: TenantId = PLATFORM
        .parse()
        .map_err(|error| StoreError::Corrupt(format!("{PLATFORM}: {error}")))?;
    let mut after: Option<String> = None;
    loop {
        let kind = CatalogKind::Tenant;
        let page = ports
            .catalog
            .list(kind, &platform, "", after.as_deref(), PAGE)
            .await?;
        tenants.extend(page.iter().filter_map(|entry| entry.key.parse().ok()));
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => break,
        }
    }
    tenants.insert(platform);
    Ok(tenants)
}

fn before(now: Timestamp, keep: Millis) -> Timestamp {
    let keep = i64::try_from(keep.0).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(keep))
}

fn told(ports: &Ports, record: &JobRecord) -> Document {
    let at = ports.clock.now();
    let entry = AuditEntry {
        record_version: audit::RECORD_VERSION,
        id: AuditEntry::id(at, &record.id.to_string()),
        at,
        actor: Actor {
            subject: "housekeeping".to_owned(),
            role: Role::Operator,
            token: None,
        },
        action: "expire_job".to_owned(),
        target: format!("job {}", record.id),
        before: json!({ "state": record.state, "name": record.spec.name }),
        after: Value::Null,
    };
    entry.document(&record.tenant)
}
