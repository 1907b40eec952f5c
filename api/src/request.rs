//! What happens around every handler: an id, a time limit, and a net under panics and errors.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse};
use futures::FutureExt;
use stoker_domain::ErrorCode;

use crate::config::Config;
use crate::openapi;
use crate::problem::{ApiError, of_framework};

/// The time limits of a server's requests.
#[derive(Clone, Copy)]
pub(crate) struct TimeLimits {
    request: Duration,
    upload: Duration,
}

impl TimeLimits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            request: config.request_timeout.into(),
            upload: config.upload_timeout.into(),
        }
    }

    fn of(self, request: &ServiceRequest) -> Duration {
        let is_upload = match *request.method() {
            Method::POST => matches!(request.path(), "/v1/datasets" | "/v1/plugins"),
            Method::PATCH => request.path().starts_with("/v1/uploads/"),
            _ => false,
        };
        if is_upload { self.upload } else { self.request }
    }
}

/// Runs the handler under an id and a time limit, and makes a problem of all that goes wrong.
pub(crate) async fn around<B: MessageBody + 'static>(
    limits: TimeLimits,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = format!("req-{}", uuid::Uuid::now_v7().simple());
    let limit = limits.of(&request);
    let call = AssertUnwindSafe(next.call(request)).catch_unwind();
    let outcome = match tokio::time::timeout(limit, call).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(ApiError::internal("a handler panicked").into()),
        Err(_) => Err(ApiError::new(
            ErrorCode::Timeout,
            format!("no answer within {} s", limit.as_secs_f32()),
        )
        .into()),
    };
    let response = match outcome {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => {
            let problem = render(&error, &id);
            return Err(InternalError::from_response(error.to_string(), problem).into());
        }
    };
    let problem = response.response().error().map(|error| render(error, &id));
    let mut response = match problem {
        Some(problem) => response.into_response(problem),
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    Ok(response)
}

/// The problem that an error comes to; errors of actix-web itself included.
fn render(error: &Error, id: &str) -> HttpResponse {
    let log_and_render = |error: &ApiError| {
        error.log(id);
        error.render(id)
    };
    match error.as_error::<ApiError>() {
        Some(ours) => log_and_render(ours),
        None => {
            let status = error.as_response_error().status_code();
            log_and_render(&of_framework(status, &error.to_string()))
        }
    }
}

/// A path that no handler has, or a method that none has for it.
pub(crate) async fn no_route(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let allowed = openapi::methods_of(request.path());
    Err(if allowed.is_empty() {
        ApiError::not_found(format_args!("page {:?}", request.path()))
    } else {
        ApiError::method_not_allowed(request.method(), request.path(), allowed)
    })
}
