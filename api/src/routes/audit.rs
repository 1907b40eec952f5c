//! Who changed what, and what attempts used: lists by time.

use std::collections::BTreeMap;

use actix_web::{get, web};
use stoker_domain::Timestamp;
use stoker_domain::audit::{AuditEntry, id_from};
use stoker_domain::job::Used;
use stoker_domain::port::CatalogKind;
use stoker_domain::usage::UsageRecord;
use stoker_domain::view::{AuditList, Problem, UsageBy, UsageGroup, UsageList, UsageSums};

use super::catalog;
use crate::extract::{Authorized, Look, Params, Rule, Within};
use crate::problem::ApiError;

/// Records that sums are made of, at most.
const SUMMED_MAX: usize = 100_000;
/// Records read at a time.
const BATCH: usize = 500;

/// What was changed in the tenant, oldest first.
#[utoipa::path(tag = "audit", params(
    ("from" = Option<String>, Query, description = "only what was done at this time or later, as in 2026-01-31T12:00:00Z"),
    ("actor" = Option<String>, Query, description = "only what this subject did"),
    ("action" = Option<String>, Query, description = "only this operation"),
    ("target" = Option<String>, Query, description = "only what was done to this"),
    ("after" = Option<String>, Query, description = "`next` of the page before"),
    ("limit" = Option<u32>, Query, description = "most entries looked at for the page"),
), responses((status = 200, body = AuditList), (status = "default", body = Problem)))]
#[get("/v1/audit")]
pub(crate) async fn list_audit(
    authorized: Authorized<Rule>,
    params: Params,
) -> Result<web::Json<AuditList>, ApiError> {
    params.only(&["from", "actor", "action", "target", "after", "limit"])?;
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let from = params.parse::<Timestamp>("from")?.map(id_from);
    let after = params.text("after")?.or(from.as_deref());
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let (mut entries, next) =
        catalog::page::<AuditEntry>(app, CatalogKind::Audit, tenant, after, limit).await?;
    let wanted = |name: &'static str| params.text(name).map(|text| text.map(str::to_owned));
    let (actor, action, target) = (wanted("actor")?, wanted("action")?, wanted("target")?);
    entries.retain(|entry| {
        actor
            .as_ref()
            .is_none_or(|actor| entry.actor.subject == *actor)
            && action.as_ref().is_none_or(|action| entry.action == *action)
            && target.as_ref().is_none_or(|target| entry.target == *target)
    });
    Ok(web::Json(AuditList { entries, next }))
}

/// What the tenant's attempts used, oldest first, each when it ended.
#[utoipa::path(tag = "usage", params(
    ("from" = Option<String>, Query, description = "only attempts that ended at this time or later, as in 2026-01-31T12:00:00Z"),
    ("to" = Option<String>, Query, description = "only attempts that ended before this time"),
    ("after" = Option<String>, Query, description = "`next` of the page before"),
    ("limit" = Option<u32>, Query, description = "most attempts on the page"),
), responses((status = 200, body = UsageList), (status = "default", body = Problem)))]
#[get("/v1/usage")]
pub(crate) async fn list_usage(
    authorized: Authorized<Within<Look>>,
    params: Params,
) -> Result<web::Json<UsageList>, ApiError> {
    params.only(&["from", "to", "after", "limit"])?;
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let (from, to) = span(&params)?;
    let after = params.text("after")?.or(from.as_deref());
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let (mut attempts, mut next) =
        catalog::page::<UsageRecord>(app, CatalogKind::Attempt, tenant, after, limit).await?;
    let before = attempts.len();
    attempts.retain(|attempt| to.as_ref().is_none_or(|to| attempt.id < *to));
    if attempts.len() < before {
        next = None;
    }
    let visible = authorized.visible().await?;
    attempts.retain(|attempt| is_visible(attempt, &visible));
    Ok(web::Json(UsageList { attempts, next }))
}

/// The same, summed.
#[utoipa::path(tag = "usage", params(
    ("by" = Option<UsageBy>, Query, description = "what to sum by; project when absent"),
    ("from" = Option<String>, Query, description = "only attempts that ended at this time or later, as in 2026-01-31T12:00:00Z"),
    ("to" = Option<String>, Query, description = "only attempts that ended before this time"),
), responses((status = 200, body = UsageSums), (status = "default", body = Problem)))]
#[get("/v1/usage/sums")]
pub(crate) async fn sum_usage(
    authorized: Authorized<Within<Look>>,
    params: Params,
) -> Result<web::Json<UsageSums>, ApiError> {
    params.only(&["by", "from", "to"])?;
    let choices = UsageBy::ALL.map(|by| (by.as_str(), by));
    let by = params.one_of("by", &choices)?.unwrap_or(UsageBy::Project);
    let (mut after, to) = span(&params)?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let visible = authorized.visible().await?;
    let mut groups: BTreeMap<String, UsageGroup> = BTreeMap::new();
    let mut looked_at = 0;
    loop {
        let (attempts, next) = catalog::page::<UsageRecord>(
            app,
            CatalogKind::Attempt,
            tenant,
            after.as_deref(),
            BATCH,
        )
        .await?;
        looked_at += attempts.len();
        let is_inside = |attempt: &&UsageRecord| to.as_ref().is_none_or(|to| attempt.id < *to);
        let inside = attempts.iter().take_while(is_inside).count();
        let seen = attempts.iter().take(inside);
        for attempt in seen.filter(|attempt| is_visible(attempt, &visible)) {
            add(&mut groups, by.of(attempt), attempt);
        }
        after = next.filter(|_| inside == attempts.len());
        if after.is_none() {
            break;
        }
        if looked_at >= SUMMED_MAX {
            let message = format!("there are more than {SUMMED_MAX} attempts: narrow the time");
            return Err(ApiError::invalid_field("from", message));
        }
    }
    Ok(web::Json(UsageSums {
        by,
        groups: groups.into_values().collect(),
    }))
}

fn add(groups: &mut BTreeMap<String, UsageGroup>, name: String, attempt: &UsageRecord) {
    let group = groups.entry(name.clone()).or_insert_with(|| UsageGroup {
        name,
        attempts: 0,
        used: Used::default(),
    });
    group.attempts += 1;
    group.used.run_ms = group.used.run_ms.saturating_add(attempt.used.run_ms);
    group.used.device_ms = group.used.device_ms.saturating_add(attempt.used.device_ms);
    group.used.cost += attempt.used.cost;
}

fn is_visible(attempt: &UsageRecord, projects: &Option<Vec<String>>) -> bool {
    (projects.as_ref()).is_none_or(|projects| projects.contains(&attempt.project))
}

/// What ids begin with at both ends of the time that is asked for.
fn span(params: &Params) -> Result<(Option<String>, Option<String>), ApiError> {
    let from = params.parse::<Timestamp>("from")?.map(id_from);
    let to = params.parse::<Timestamp>("to")?.map(id_from);
    Ok((from, to))
}
