//! One mapper from every error to RFC 9457 problem details.

use std::fmt;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use stoker_domain::port::{StoreError, TransitionFailed};
use stoker_domain::view::Problem;
use stoker_domain::{ErrorCode, FieldError};
use stoker_housekeeper::HousekeepingError;

/// The content type of problems (RFC 9457).
pub(crate) const PROBLEM: &str = "application/problem+json";

/// Seconds after which a client may try again.
const RETRY_AFTER_S: u32 = 1;

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: ErrorCode,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    /// For the log alone.
    internal: Option<String>,
    allow: Vec<Method>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: status(code),
            detail: detail.into(),
            errors: Vec::new(),
            internal: None,
            allow: Vec::new(),
        }
    }

    /// Fields whose values were understood and aren't acceptable: 422.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        // A text that can't be read as a whole has no field to name.
        let detail = errors.iter().map(|error| match error.field.as_str() {
            "" => error.message.clone(),
            _ => error.to_string(),
        });
        let detail = detail.collect::<Vec<_>>().join("; ");
        Self {
            errors,
            ..Self::new(ErrorCode::InvalidInput, detail)
        }
    }

    /// One such field.
    pub(crate) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    /// A request that couldn't be understood: 400.
    pub(crate) fn syntax(errors: Vec<FieldError>) -> Self {
        Self::invalid(errors).with_status(StatusCode::BAD_REQUEST)
    }

    /// A header or query parameter that couldn't be understood: 400.
    pub(crate) fn syntax_field(field: &str, message: impl Into<String>) -> Self {
        Self::syntax(vec![FieldError::new(field, message)])
    }

    /// A field that doesn't go with the present state: 409.
    pub(crate) fn conflict_field(field: &str, message: impl Into<String>) -> Self {
        let error = FieldError::new(field, message);
        Self {
            detail: error.to_string(),
            errors: vec![error],
            ..Self::new(ErrorCode::Conflict, "")
        }
    }

    pub(crate) fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {what}"))
    }

    pub(crate) fn too_large(what: &str, max: u64) -> Self {
        let detail = format!("the {what} is larger than {max} bytes");
        Self::new(ErrorCode::TooLarge, detail)
    }

    /// A bug, or a broken part: `cause` goes to the log, nothing of it to the client.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        Self {
            internal: Some(cause.to_string()),
            ..Self::new(
                ErrorCode::Internal,
                "something is broken in Stoker; the server's log has the request's id",
            )
        }
    }

    /// A dependency is away: `cause` goes to the log.
    pub(crate) fn unavailable(cause: impl fmt::Display) -> Self {
        Self {
            internal: Some(cause.to_string()),
            ..Self::new(
                ErrorCode::Unavailable,
                "a part that Stoker needs is away; try again",
            )
        }
    }

    pub(crate) fn method_not_allowed(method: &Method, path: &str, allow: Vec<Method>) -> Self {
        let names: Vec<&str> = allow.iter().map(Method::as_str).collect();
        let detail = format!(
            "{method} isn't allowed for {path}; allowed: {}",
            names.join(", ")
        );
        Self {
            allow,
            ..Self::new(ErrorCode::InvalidInput, detail).with_status(StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Writes to the log what an operator should know.
    pub(crate) fn log(&self, id: &str) {
        let cause = self.internal.as_deref().unwrap_or(&self.detail);
        match self.code {
            ErrorCode::Internal => {
                tracing::error!(request.id = id, error = cause, "a request failed");
            }
            ErrorCode::Unavailable | ErrorCode::Timeout => {
                tracing::warn!(
                    request.id = id,
                    error = cause,
                    "a request could not be served"
                );
            }
            code => tracing::debug!(
                request.id = id,
                code = code.as_str(),
                error = cause,
                "a request was refused"
            ),
        }
    }

    /// The answer, under the request's id.
    pub(crate) fn render(&self, request_id: &str) -> HttpResponse {
        let problem = Problem {
            kind: format!("/errors/{}", self.code.as_str()),
            title: title(self.code).to_owned(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            request_id: request_id.to_owned(),
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header(("x-request-id", request_id));
        if self.code.retryable() {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER_S));
        }
        if self.code == ErrorCode::Unauthenticated {
            response.insert_header((header::WWW_AUTHENTICATE, self.challenge()));
        }
        for method in &self.allow {
            response.append_header((header::ALLOW, method.as_str()));
        }
        let body = serde_json::to_string(&problem).unwrap_or_default();
        response.content_type(PROBLEM).body(body)
    }

    /// RFC 6750: what is wrong with the token.
    fn challenge(&self) -> HeaderValue {
        let safe: String = (self.detail.chars())
            .filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\'))
            .collect();
        let text = format!(
            "Bearer realm=\"stoker\", error=\"invalid_token\", error_description=\"{safe}\""
        );
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

/// What actix-web needs; `request::around` renders it anew, with the request's id.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.render("")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::unavailable(error),
            StoreError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl From<HousekeepingError> for ApiError {
    fn from(error: HousekeepingError) -> Self {
        match error {
            HousekeepingError::Store(error) => error.into(),
            HousekeepingError::Objects(error) => error.into(),
        }
    }
}

impl From<TransitionFailed> for ApiError {
    fn from(error: TransitionFailed) -> Self {
        match error {
            TransitionFailed::Gone => Self::not_found("such job"),
            TransitionFailed::Refused(refused) => {
                Self::new(ErrorCode::Conflict, refused.to_string())
            }
            TransitionFailed::Fenced => Self::internal(error),
            TransitionFailed::Store(store) => store.into(),
        }
    }
}

impl From<object_store::Error> for ApiError {
    fn from(error: object_store::Error) -> Self {
        Self::unavailable(format_args!("object storage: {error}"))
    }
}

/// What an error of actix-web itself comes to.
pub(crate) fn of_framework(status: StatusCode, message: &str) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::not_found("such page"),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorCode::TooLarge, "the body is too large")
        }
        status if status.is_client_error() => {
            ApiError::new(ErrorCode::InvalidInput, message).with_status(status)
        }
        _ => ApiError::internal(message),
    }
}

/// The status of each code, unless the error says another.
pub(crate) const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidInput | ErrorCode::IdempotencyMismatch | ErrorCode::PluginRejected => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Incomplete => StatusCode::BAD_REQUEST,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidInput => "The input is not valid",
        ErrorCode::Unauthenticated => "A valid token is needed",
        ErrorCode::Forbidden => "The token's role may not do this",
        ErrorCode::NotFound => "There is no such thing",
        ErrorCode::Conflict => "The present state doesn't allow this",
        ErrorCode::IdempotencyMismatch => "The idempotency key was used with another request",
        ErrorCode::TooLarge => "The body is too large",
        ErrorCode::Incomplete => "The body did not arrive whole",
        ErrorCode::PluginRejected => "The plugin was refused",
        ErrorCode::RateLimited => "Too many requests",
        ErrorCode::Unavailable => "A part that Stoker needs is away",
        ErrorCode::Timeout => "The answer didn't come in time",
        ErrorCode::Internal => "Something is broken in Stoker",
    }
}
