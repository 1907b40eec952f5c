//! API keys: shown once, kept as a hash, scoped, revocable.

use actix_web::{HttpResponse, delete, get, post, web};
use serde_json::{Value, json};
use stoker_domain::id::check_name;
use stoker_domain::port::{CatalogKind, Document, Expect, Put};
use stoker_domain::tenant::{ApiKeyRecord, Role};
use stoker_domain::view::{ApiKeyCreated, ApiKeyList, ApiKeyView, NewApiKey, Problem};
use stoker_domain::{ErrorCode, FieldError};

use super::catalog;
use super::datasets::TRIES;
use super::pools::platform;
use crate::auth::api_key;
use crate::extract::{Announced, Authorized, Rule, project, read_body};
use crate::problem::ApiError;

/// Version tag of stored keys.
const RECORD_VERSION: u16 = 1;
/// Shortest and longest life of a key.
const LIFE_S: std::ops::RangeInclusive<u64> = 60..=315_360_000;
/// Largest body.
const BODY_MAX_BYTES: u64 = 16 * 1024;
/// Most keys of a tenant that haven't been revoked or expired.
const KEYS_MAX: usize = 1_000;

/// Makes an API key. It is in the answer and nowhere else, so that a request whose answer was lost
/// makes another: revoke the one that nobody has.
#[utoipa::path(tag = "keys", request_body = NewApiKey, responses((status = 201, body = ApiKeyCreated), (status = "default", body = Problem)))]
#[post("/v1/keys")]
pub(crate) async fn create_key(
    authorized: Authorized<Rule>,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body = read_body(&announced, payload, "request", BODY_MAX_BYTES).await?;
    let new: NewApiKey =
        stoker_domain::spec::read_json(&body).map_err(|error| ApiError::syntax(vec![error]))?;
    check(&authorized, &new).await?;
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let now = ports.clock.now();
    let live = all(&authorized).await?;
    let live = live
        .iter()
        .filter(|key| !key.revoked && key.expires_at > now);
    if live.count() >= KEYS_MAX {
        let detail = format!("the tenant has {KEYS_MAX} keys, no more are allowed: revoke one");
        return Err(ApiError::new(ErrorCode::Conflict, detail));
    }
    let (id, key) = api_key::generate()?;
    let record = ApiKeyRecord {
        record_version: RECORD_VERSION,
        id,
        tenant: tenant.clone(),
        name: new.name,
        role: new.role,
        project: new.project,
        key_blake3: api_key::hash(&key),
        created_by: authorized.caller.subject.clone(),
        created_at: now,
        expires_at: now.plus_millis(new.expires_in_s * 1000),
        revoked: false,
    };
    let view = ApiKeyView::from(record.clone());
    let target = format!("API key {}", record.id);
    let audit = authorized.audit("create_key", target, Value::Null, json!(view));
    let (platform, kind) = (platform()?, CatalogKind::ApiKey);
    let value = json!(record);
    let also = [audit, listed(&record)];
    let put = (ports.catalog).put(kind, &platform, &record.id, &value, Expect::Absent, &also);
    match put.await? {
        Put::Written => Ok(HttpResponse::Created()
            .insert_header(("Cache-Control", "no-store"))
            .json(ApiKeyCreated { key, record: view })),
        Put::Conflict => Err(ApiError::internal("a new key's id is taken")),
    }
}

async fn check(authorized: &Authorized<Rule>, new: &NewApiKey) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    if let Err(error) = check_name(&new.name) {
        errors.push(FieldError::new("name", error.to_string()));
    }
    if new.role > authorized.caller.role {
        let (role, own) = (new.role.as_str(), authorized.caller.role.as_str());
        let message = format!("{role} is more than your own role, {own}");
        errors.push(FieldError::new("role", message));
    }
    if new.project.is_some() && new.role > Role::Developer {
        let message = "a key for one project is a viewer's or a developer's";
        errors.push(FieldError::new("role", message));
    }
    if !LIFE_S.contains(&new.expires_in_s) {
        let (given, from, to) = (new.expires_in_s, LIFE_S.start(), LIFE_S.end());
        let message = format!("{given} is not in {from} to {to}");
        errors.push(FieldError::new("expires_in_s", message));
    }
    if let Some(name) = &new.project {
        let found = project(authorized.app(), &authorized.caller.tenant, name).await?;
        if found.is_none() {
            let message = format!("there is no project `{name}`");
            errors.push(FieldError::new("project", message));
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(errors)),
    }
}

/// The tenant's API keys, without the keys themselves.
#[utoipa::path(tag = "keys", responses((status = 200, body = ApiKeyList), (status = "default", body = Problem)))]
#[get("/v1/keys")]
pub(crate) async fn list_keys(
    authorized: Authorized<Rule>,
) -> Result<web::Json<ApiKeyList>, ApiError> {
    let keys = all(&authorized).await?;
    Ok(web::Json(ApiKeyList {
        keys: keys.into_iter().map(ApiKeyView::from).collect(),
    }))
}

/// A key is found by its id before its tenant is known, so that it is the platform's. This is what
/// its tenant has of it, written in the same step.
fn listed(record: &ApiKeyRecord) -> Document {
    Document {
        kind: CatalogKind::ApiKey,
        tenant: record.tenant.clone(),
        key: record.id.clone(),
        value: json!(record),
    }
}

async fn all(authorized: &Authorized<Rule>) -> Result<Vec<ApiKeyRecord>, ApiError> {
    let tenant = &authorized.caller.tenant;
    catalog::all(authorized.app(), CatalogKind::ApiKey, tenant, "").await
}

/// Revokes the keys for a project, which is about to be removed: they are not for another one of its
/// name.
pub(super) async fn revoke_all_of(
    authorized: &Authorized<Rule>,
    project: &str,
) -> Result<(), ApiError> {
    let mut keys = all(authorized).await?;
    keys.retain(|key| !key.revoked && key.project.as_deref() == Some(project));
    for key in keys {
        revoke(authorized, &key.id).await?;
    }
    Ok(())
}

/// Revokes an API key. Other servers may accept it for a few seconds more.
#[utoipa::path(tag = "keys", params(("id" = String, Path)), responses((status = 204, description = "revoked"), (status = "default", body = Problem)))]
#[delete("/v1/keys/{id}")]
pub(crate) async fn revoke_key(
    authorized: Authorized<Rule>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    revoke(&authorized, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn revoke(authorized: &Authorized<Rule>, id: &str) -> Result<(), ApiError> {
    let (ports, platform) = (&authorized.ports, platform()?);
    let kind = CatalogKind::ApiKey;
    let missing = || ApiError::not_found(format_args!("API key {id:?}"));
    for _ in 0..TRIES {
        let entry = ports.catalog.get(kind, &platform, id).await?;
        let entry = entry.ok_or_else(missing)?;
        let mut record: ApiKeyRecord =
            serde_json::from_value(entry.value).map_err(ApiError::internal)?;
        if record.tenant != authorized.caller.tenant {
            return Err(missing());
        }
        if record.role > authorized.caller.role {
            let detail = "the key's role is more than your own";
            return Err(ApiError::new(ErrorCode::Forbidden, detail));
        }
        let before = json!(ApiKeyView::from(record.clone()));
        record.revoked = true;
        let after = json!(ApiKeyView::from(record.clone()));
        let audit = authorized.audit("revoke_key", format!("API key {id}"), before, after);
        let also = [audit, listed(&record)];
        let expect = Expect::Revision(entry.revision);
        let put = (ports.catalog)
            .put(kind, &platform, id, &json!(record), expect, &also)
            .await?;
        if put == Put::Written {
            authorized.verifier.forget(id);
            return Ok(());
        }
    }
    Err(ApiError::unavailable("a key's record changes all the time"))
}
