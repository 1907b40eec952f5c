//! Secrets: written, named, removed, and never read again by anybody but the platform.

use actix_web::{HttpResponse, delete, get, put, web};
use serde_json::{Value, json};
use stoker_domain::id::check_name;
use stoker_domain::port::{CatalogKind, Expect, Put};
use stoker_domain::tenant::SecretRecord;
use stoker_domain::view::{CallerView, Problem, SecretList, SecretView};

use super::catalog;
use super::datasets::TRIES;
use crate::extract::{Announced, Authorized, Look, Make, read_body};
use crate::problem::ApiError;

/// Version tag of stored secrets.
const RECORD_VERSION: u16 = 1;
/// Longest secret.
const SECRET_MAX_BYTES: u64 = 64 << 10;

fn view(record: SecretRecord) -> SecretView {
    SecretView {
        name: record.name,
        by: record.by,
        at: record.at,
    }
}

/// Writes a secret, in place of an older one of that name. The body is the secret.
#[utoipa::path(tag = "secrets", params(("name" = String, Path)), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = SecretView), (status = "default", body = Problem)))]
#[put("/v1/secrets/{name}")]
pub(crate) async fn put_secret(
    authorized: Authorized<Make>,
    name: web::Path<String>,
    announced: Announced,
    payload: web::Payload,
) -> Result<web::Json<SecretView>, ApiError> {
    check_name(&name).map_err(|_| ApiError::not_found(format_args!("secret {:?}", *name)))?;
    let secret = read_body(&announced, payload, "secret", SECRET_MAX_BYTES).await?;
    if secret.is_empty() {
        return Err(ApiError::invalid_field(
            "body",
            "a secret has at least one byte",
        ));
    }
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let sealed = ports.vault.seal(tenant, &name, &secret);
    let record = SecretRecord {
        record_version: RECORD_VERSION,
        name: name.clone(),
        sealed: sealed.map_err(ApiError::internal)?,
        by: authorized.caller.subject.clone(),
        at: ports.clock.now(),
    };
    let (kind, value) = (CatalogKind::Secret, json!(record));
    for _ in 0..TRIES {
        let there = ports.catalog.get(kind, tenant, &name).await?;
        let (expect, before) = match there {
            None => (Expect::Absent, Value::Null),
            Some(entry) => {
                let before: SecretRecord =
                    serde_json::from_value(entry.value).map_err(ApiError::internal)?;
                (Expect::Revision(entry.revision), json!(view(before)))
            }
        };
        let after = json!(view(record.clone()));
        let target = format!("secret {name}");
        let audit = [authorized.audit("put_secret", target, before, after)];
        let put = (ports.catalog).put(kind, tenant, &name, &value, expect, &audit);
        if put.await? == Put::Written {
            return Ok(web::Json(view(record)));
        }
    }
    Err(ApiError::unavailable("a secret is written all the time"))
}

/// The names of the tenant's secrets.
#[utoipa::path(tag = "secrets", responses((status = 200, body = SecretList), (status = "default", body = Problem)))]
#[get("/v1/secrets")]
pub(crate) async fn list_secrets(
    authorized: Authorized<Make>,
) -> Result<web::Json<SecretList>, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let all: Vec<SecretRecord> = catalog::all(app, CatalogKind::Secret, tenant, "").await?;
    Ok(web::Json(SecretList {
        secrets: all.into_iter().map(view).collect(),
    }))
}

/// Removes a secret. What still names it fails when it needs it.
#[utoipa::path(tag = "secrets", params(("name" = String, Path)), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/secrets/{name}")]
pub(crate) async fn delete_secret(
    authorized: Authorized<Make>,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let missing = || ApiError::not_found(format_args!("secret {:?}", *name));
    let kind = CatalogKind::Secret;
    let found: Option<SecretRecord> = catalog::get(app, kind, tenant, &name).await?;
    let before = json!(view(found.ok_or_else(missing)?));
    let target = format!("secret {name}");
    let audit = [authorized.audit("delete_secret", target, before, Value::Null)];
    let gone = (authorized.ports.catalog).delete(kind, tenant, &name, &audit);
    match gone.await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(missing()),
    }
}

/// Who asks, as the server sees it.
#[utoipa::path(tag = "tokens", responses((status = 200, body = CallerView), (status = "default", body = Problem)))]
#[get("/v1/caller")]
pub(crate) async fn get_caller(authorized: Authorized<Look>) -> web::Json<CallerView> {
    let caller = &authorized.caller;
    web::Json(CallerView {
        tenant: caller.tenant.clone(),
        subject: caller.subject.clone(),
        role: caller.role,
        project: caller.project.clone(),
    })
}
