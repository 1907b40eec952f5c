//! Tokens that the platform signs: shown once, revocable.

use actix_web::{HttpResponse, delete, get, post, web};
use serde_json::{Value, json};
use stoker_domain::ErrorCode;
use stoker_domain::FieldError;
use stoker_domain::port::{CatalogKind, Expect, Put};
use stoker_domain::tenant::{Role, TokenRecord};
use stoker_domain::view::{NewToken, Problem, TokenCreated, TokenList};

use super::catalog::{self, Once, Submitted};
use crate::auth::Grant;
use crate::extract::{Announced, Authorized, IdempotencyKey, Rule, read_body};
use crate::problem::ApiError;

/// Version tag of stored token records.
const RECORD_VERSION: u16 = 1;
/// Shortest and longest life of a token.
const LIFE_S: std::ops::RangeInclusive<u64> = 60..=31_536_000;
/// Longest `subject`.
const SUBJECT_MAX_BYTES: usize = 256;
/// Largest body.
const BODY_MAX_BYTES: u64 = 16 * 1024;
/// Writes tried against another's before giving up.
const TRIES: usize = 16;

/// Makes a token. It is in the answer and nowhere else: the same request again signs it again.
#[utoipa::path(tag = "tokens", params(
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
), request_body = NewToken, responses((status = 201, body = TokenCreated), (status = "default", body = Problem)))]
#[post("/v1/tokens")]
pub(crate) async fn create_token(
    authorized: Authorized<Rule>,
    idempotency: IdempotencyKey,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body = read_body(&announced, payload, "request", BODY_MAX_BYTES).await?;
    let new: NewToken = serde_json::from_slice(&body)
        .map_err(|error| ApiError::syntax_field("", error.to_string()))?;
    check(&new, authorized.caller.role)?;
    let key = authorized.signing_key.as_ref().ok_or_else(|| {
        let detail = "this server has no key to sign tokens with: get one from your issuer";
        ApiError::new(ErrorCode::Conflict, detail)
    })?;
    let now = authorized.ports.clock.now();
    let record = TokenRecord {
        record_version: RECORD_VERSION,
        id: format!("tok-{}", uuid::Uuid::now_v7().simple()),
        subject: new.subject,
        role: new.role,
        created_at: now,
        expires_at: now.plus_millis(new.expires_in_s * 1000),
        revoked: false,
    };
    // Stored first: a token that isn't stored couldn't be revoked.
    let once = Once::new(idempotency, &[b"token", &body]);
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let new = (CatalogKind::Token, Some(record.id.as_str()));
    let target = format!("token {}", record.id);
    let audit = [authorized.audit("create_token", target, Value::Null, json!(record))];
    let record = match once.submit(app, tenant, new, &record, &audit).await? {
        Submitted::Written => record,
        Submitted::Earlier(record) if record.role <= authorized.caller.role => record,
        Submitted::Earlier(_) => {
            let detail = "the token's role is more than your own";
            return Err(ApiError::new(ErrorCode::Forbidden, detail));
        }
        Submitted::Taken => return Err(ApiError::internal("a new token's id is taken")),
    };
    let grant = Grant {
        id: Some(&record.id),
        subject: &record.subject,
        tenant: &authorized.caller.tenant,
        role: record.role,
        issued_at: record.created_at,
        expires_at: record.expires_at,
    };
    let token = key
        .sign(&grant, &authorized.config.auth)
        .map_err(ApiError::internal)?;
    Ok(HttpResponse::Created().json(TokenCreated { token, record }))
}

fn check(new: &NewToken, maker: Role) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let length = new.subject.len();
    if !(1..=SUBJECT_MAX_BYTES).contains(&length) || new.subject.chars().any(char::is_control) {
        let message = format!("not 1 to {SUBJECT_MAX_BYTES} bytes without control characters");
        errors.push(FieldError::new("subject", message));
    }
    if new.role > maker {
        let (role, own) = (new.role.as_str(), maker.as_str());
        let message = format!("{role} is more than your own role, {own}");
        errors.push(FieldError::new("role", message));
    }
    if !LIFE_S.contains(&new.expires_in_s) {
        let (given, from, to) = (new.expires_in_s, LIFE_S.start(), LIFE_S.end());
        let message = format!("{given} is not in {from} to {to}");
        errors.push(FieldError::new("expires_in_s", message));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(errors))
    }
}

/// The tokens that were made here for the tenant.
#[utoipa::path(tag = "tokens", responses((status = 200, body = TokenList), (status = "default", body = Problem)))]
#[get("/v1/tokens")]
pub(crate) async fn list_tokens(
    authorized: Authorized<Rule>,
) -> Result<web::Json<TokenList>, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let tokens = catalog::all(app, CatalogKind::Token, tenant, "").await?;
    Ok(web::Json(TokenList { tokens }))
}

/// Revokes a token. Other servers may accept it for a few seconds more.
#[utoipa::path(tag = "tokens", params(("id" = String, Path)), responses((status = 204, description = "revoked"), (status = "default", body = Problem)))]
#[delete("/v1/tokens/{id}")]
pub(crate) async fn revoke_token(
    authorized: Authorized<Rule>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    for _ in 0..TRIES {
        let entry = ports.catalog.get(CatalogKind::Token, tenant, &id).await?;
        let entry = entry.ok_or_else(|| ApiError::not_found(format_args!("token {id:?}")))?;
        let before = entry.value.clone();
        let mut record: TokenRecord =
            serde_json::from_value(entry.value).map_err(ApiError::internal)?;
        if record.role > authorized.caller.role {
            let detail = "the token's role is more than your own";
            return Err(ApiError::new(ErrorCode::Forbidden, detail));
        }
        record.revoked = true;
        let value = serde_json::to_value(&record).map_err(ApiError::internal)?;
        let expect = Expect::Revision(entry.revision);
        let audit =
            [authorized.audit("revoke_token", format!("token {id}"), before, value.clone())];
        let kind = CatalogKind::Token;
        let put = (ports.catalog).put(kind, tenant, &id, &value, expect, &audit);
        if put.await? == Put::Written {
            authorized.verifier.forget(&id);
            return Ok(HttpResponse::NoContent().finish());
        }
    }
    Err(ApiError::unavailable(
        "a token's record changes all the time",
    ))
}
