//! Whether the server lives, whether it can serve, and what it serves.

use actix_web::{HttpResponse, get};

use crate::extract::Public;
use crate::openapi;
use crate::problem::ApiError;

/// The server lives.
#[utoipa::path(tag = "health", security(()), responses((status = 200, description = "`ok`", body = String)))]
#[get("/healthz")]
pub(crate) async fn get_health(_: Public) -> &'static str {
    "ok"
}

/// The server can serve: its store answers.
#[utoipa::path(tag = "health", security(()), responses(
    (status = 200, description = "`ready`", body = String),
    (status = 503, description = "the store is away", body = stoker_domain::view::Problem),
))]
#[get("/readyz")]
pub(crate) async fn get_readiness(public: Public) -> Result<&'static str, ApiError> {
    public.probe().await.map(|()| "ready")
}

/// This document.
#[utoipa::path(tag = "health", security(()), responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
#[get("/openapi.json")]
pub(crate) async fn get_openapi(_: Public) -> HttpResponse {
    HttpResponse::Ok().json(openapi::document())
}
