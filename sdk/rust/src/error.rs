//! Why a call failed.

use std::time::Duration;

use stoker_domain::ErrorCode;
use stoker_domain::view::Problem;

/// A call's outcome.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed, after all tries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, and said why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The server, or something before it, refused without a problem document.
    #[error("the server answered {status}{}", excerpt(.body))]
    Status {
        /// The HTTP status.
        status: u16,
        /// The first 200 characters of the body.
        body: String,
    },
    /// No connection to the server.
    #[error("can't connect to {server}: {reason}")]
    Connect {
        /// The server's base URL.
        server: String,
        /// What stood in the way.
        reason: String,
    },
    /// The server didn't answer in time. Whether it did what was asked is unknown.
    #[error("{server} didn't answer within {} ms", .after.as_millis())]
    Timeout {
        /// The server's base URL.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke. Whether the server did what was asked is unknown.
    #[error("the connection to {server} broke: {reason}")]
    Transport {
        /// The server's base URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The answer isn't what this operation answers with: another version, or another server.
    #[error("can't read the server's answer: {0}")]
    Decode(String),
    /// What arrived isn't what was announced.
    #[error("{name}: expected BLAKE3 {expected}, got {actual}")]
    HashMismatch {
        /// The artifact.
        name: String,
        /// The hash that the server announced, as lower-case hex.
        expected: String,
        /// The hash of what arrived.
        actual: String,
    },
    /// A local file couldn't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file, or what stood for one.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The client's settings, or an argument, can't be used.
    #[error("{field}: {message}")]
    Config {
        /// The setting or argument.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl Error {
    /// The error's code, from the same closed set that the server uses.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Problem(problem) => problem.code,
            Self::Status { status, .. } => code_of(*status),
            Self::Connect { .. } | Self::Transport { .. } => ErrorCode::Unavailable,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::HashMismatch { .. } => ErrorCode::Incomplete,
            Self::Config { .. } => ErrorCode::InvalidInput,
            Self::Decode(_) | Self::Io { .. } => ErrorCode::Internal,
        }
    }

    /// Whether the same call may succeed later, unchanged.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }

    /// Whether the server may have done what was asked although the call failed.
    pub(crate) const fn unsure(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Transport { .. })
    }
}

/// The code that a status without a problem document stands for.
const fn code_of(status: u16) -> ErrorCode {
    match status {
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::Conflict,
        413 => ErrorCode::TooLarge,
        429 => ErrorCode::RateLimited,
        502 | 503 => ErrorCode::Unavailable,
        408 | 504 => ErrorCode::Timeout,
        400..=499 => ErrorCode::InvalidInput,
        _ => ErrorCode::Internal,
    }
}

fn excerpt(body: &str) -> String {
    match body.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
