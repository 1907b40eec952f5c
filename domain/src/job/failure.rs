//! Why an attempt failed, told truthfully.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whose fault, roughly; decides whether another try makes sense.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The spec asks for what can't be done.
    User,
    /// The data isn't what the spec needs.
    Data,
    /// A plugin failed.
    Plugin,
    /// A number stopped being finite.
    Numeric,
    /// Memory or another resource ran out.
    Capacity,
    /// A device or worker broke.
    Hardware,
    /// A time limit was reached.
    Timeout,
    /// Stoker itself, or what it stands on.
    Platform,
}

impl FailureKind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Data => "data",
            Self::Plugin => "plugin",
            Self::Numeric => "numeric",
            Self::Capacity => "capacity",
            Self::Hardware => "hardware",
            Self::Timeout => "timeout",
            Self::Platform => "platform",
        }
    }

    /// Whether another attempt may end better with the same spec and data.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Capacity | Self::Hardware | Self::Platform)
    }

    /// Whether a retry counts against `retry.attempts`.
    #[must_use]
    pub const fn counts(self) -> bool {
        !matches!(self, Self::Platform)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// One sentence for the person who owns the job.
    pub message: String,
    /// Optimiser step at which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The first layer with a bad number, for `numeric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Rows of the data set in the batch that failed, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<u64>,
}

impl Failure {
    /// A failure with a message alone.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            step: None,
            layer: None,
            samples: Vec::new(),
        }
    }
}
