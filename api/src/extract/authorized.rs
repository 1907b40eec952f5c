//! The proof that a caller may do what the handler does: the only way to the ports.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures::future::{LocalBoxFuture, Ready, ready};
use serde_json::Value;
use stoker_domain::ErrorCode;
use stoker_domain::audit::{Actor, AuditEntry, RECORD_VERSION};
use stoker_domain::port::{CatalogKind, Document, PLATFORM};
use stoker_domain::tenant::{Role, TokenRecord};

use super::project::may_somewhere;
use crate::app::App;
use crate::auth::{Caller, api_key};
use crate::problem::ApiError;

/// What a handler needs the right to do.
pub(crate) trait Permission: 'static {
    /// The least role that has it.
    const ROLE: Role;
    /// Whether it is enough to have that role in a project.
    const WITHIN: bool = false;
}

/// See what the tenant has.
pub(crate) struct Look;
/// Make, change and end what the tenant has.
pub(crate) struct Make;
/// Make and revoke tokens.
pub(crate) struct Rule;

/// Run the platform.
pub(crate) struct Operate;

impl Permission for Operate {
    const ROLE: Role = Role::Operator;
}
impl Permission for Look {
    const ROLE: Role = Role::Viewer;
}
impl Permission for Make {
    const ROLE: Role = Role::Developer;
}
impl Permission for Rule {
    const ROLE: Role = Role::Admin;
}

/// The shared state, closed to handlers: nothing outside this file can open it.
pub(crate) struct Guarded(Arc<App>);

impl Guarded {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

fn guarded(request: &HttpRequest) -> Result<Arc<App>, ApiError> {
    request
        .app_data::<web::Data<Guarded>>()
        .map(|guarded| guarded.0.clone())
        .ok_or_else(|| ApiError::internal("the server has no state"))
}

/// The caller may do what `P` names, in its tenant.
pub(crate) struct Authorized<P> {
    app: Arc<App>,
    pub(crate) caller: Caller,
    permission: PhantomData<P>,
}

impl<P> Authorized<P> {
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// What tells of a change that the caller makes: to be written with it.
    pub(crate) fn audit(
        &self,
        action: &str,
        target: impl Into<String>,
        before: Value,
        after: Value,
    ) -> Document {
        let at = self.ports.clock.now();
        let entry = AuditEntry {
            record_version: RECORD_VERSION,
            id: AuditEntry::id(at, &uuid::Uuid::now_v7().simple().to_string()),
            at,
            actor: Actor {
                subject: self.caller.subject.clone(),
                role: self.caller.role,
                token: self.caller.token.clone(),
            },
            action: action.to_owned(),
            target: target.into(),
            before,
            after,
        };
        entry.document(&self.caller.tenant)
    }
}

impl<P> Deref for Authorized<P> {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

impl<P: Permission> FromRequest for Authorized<P> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = guarded(request).and_then(|app| Ok((app, bearer(request)?)));
        Box::pin(async move {
            let (app, token) = found?;
            let caller = authenticate(&app, &token).await?;
            app.rate.count(&caller.tenant)?;
            let suffices = caller.role >= P::ROLE
                || (P::WITHIN && may_somewhere(&app, &caller, P::ROLE).await?);
            if let (Some(own), false) = (&caller.project, P::WITHIN || P::ROLE == Role::Viewer) {
                let detail = format!("the API key is for the jobs of project {own} alone");
                return Err(ApiError::new(ErrorCode::Forbidden, detail));
            }
            if !suffices {
                return Err(ApiError::new(
                    ErrorCode::Forbidden,
                    format!(
                        "the token's role is {}, this needs {}",
                        caller.role.as_str(),
                        P::ROLE.as_str()
                    ),
                ));
            }
            Ok(Self {
                app,
                caller,
                permission: PhantomData,
            })
        })
    }
}

fn bearer(request: &HttpRequest) -> Result<String, ApiError> {
    let refused = |why: &str| ApiError::new(ErrorCode::Unauthenticated, why);
    let value = request
        .headers()
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refused("no `Authorization: Bearer <token>` came with the request"))?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| refused("the `Authorization` header is not `Bearer <token>`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused(
            "the `Authorization` header is not `Bearer <token>`",
        ));
    }
    Ok(token.trim().to_owned())
}

async fn authenticate(app: &App, token: &str) -> Result<Caller, ApiError> {
    let (now, now_ms) = (app.ports.clock.now(), app.ports.clock.monotonic_ms());
    if let Some(caller) = app.verifier.remembered(token, now, now_ms) {
        return Ok(caller);
    }
    if let Some(id) = api_key::id_of(token) {
        let platform = PLATFORM.parse().map_err(ApiError::internal)?;
        let entry = app.ports.catalog.get(CatalogKind::ApiKey, &platform, id);
        let record = entry
            .await?
            .map(|entry| serde_json::from_value(entry.value));
        let record = record.transpose().map_err(ApiError::internal)?;
        let caller = api_key::check(token, record, now)?;
        app.verifier.remember(token, &caller, now_ms);
        return Ok(caller);
    }
    app.verifier.fetch(token, now_ms).await;
    let caller = app.verifier.verify(token, now, now_ms)?;
    if let Some(id) = &caller.token {
        let entry = (app.ports.catalog)
            .get(CatalogKind::Token, &caller.tenant, id)
            .await?;
        let record = entry
            .map(|entry| serde_json::from_value::<TokenRecord>(entry.value))
            .transpose()
            .map_err(ApiError::internal)?;
        if record.is_some_and(|record| record.revoked) {
            let why = "the token was revoked";
            return Err(ApiError::new(ErrorCode::Unauthenticated, why));
        }
    }
    app.verifier.remember(token, &caller, now_ms);
    Ok(caller)
}

/// Anyone may do this.
pub(crate) struct Public(Arc<App>);

impl Public {
    /// Asks the store for an answer.
    pub(crate) async fn probe(&self) -> Result<(), ApiError> {
        let probe = self.0.ports.jobs.outbox(1);
        match tokio::time::timeout(self.0.config.readiness_timeout.into(), probe).await {
            Ok(answer) => Ok(answer.map(drop)?),
            Err(_) => Err(ApiError::unavailable("the store didn't answer in time")),
        }
    }
}

impl FromRequest for Public {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(guarded(request).map(Self))
    }
}
