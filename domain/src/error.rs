//! The closed set of error codes, and an error about one field of a user's input.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error that leaves Stoker carries one of these; `docs/errors/<code>.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The input is not valid; `errors` names the fields.
    InvalidInput,
    /// No valid token came with the request.
    Unauthenticated,
    /// The token is valid but its role may not do this.
    Forbidden,
    /// There is no such thing, or it is another tenant's.
    NotFound,
    /// The thing's present state doesn't allow this.
    Conflict,
    /// The idempotency key was used before with another body.
    IdempotencyMismatch,
    /// The body is larger than the limit.
    TooLarge,
    /// The body ended before its announced length, or did not match its announced hash.
    Incomplete,
    /// A plugin was refused by screening, compilation or its probe.
    PluginRejected,
    /// Too many requests.
    RateLimited,
    /// A dependency is away; try again.
    Unavailable,
    /// The answer didn't come in time; try again.
    Timeout,
    /// A bug in Stoker.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::InvalidInput,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::IdempotencyMismatch,
        Self::TooLarge,
        Self::Incomplete,
        Self::PluginRejected,
        Self::RateLimited,
        Self::Unavailable,
        Self::Timeout,
        Self::Internal,
    ];

    /// The code as it is written in documents and URLs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::PluginRejected => "plugin_rejected",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Timeout)
    }
}

/// What is wrong with one field: where, what was given, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field, as in `train.optimizer.learning_rate` or `model.layers[2].units`.
    pub field: String,
    /// What is wrong, with what was given and what is allowed.
    pub message: String,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same error, one level further down: `train` + `epochs` = `train.epochs`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => parent.to_owned(),
            field if parent.is_empty() => field.to_owned(),
            field if field.starts_with('[') => format!("{parent}{field}"),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

/// The one of `known` that is nearest to `given`, when it is near enough to be what was meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
