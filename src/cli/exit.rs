//! How a client verb ends: one exit code per kind of ending, and the sentence that goes with it.

use std::process::ExitCode;

use serde_json::{Value, json};
use stoker_domain::{ErrorCode, FieldError};
use stoker_sdk::Error;

/// The documented exit codes but 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The job ended badly.
    JobFailed = 1,
    /// The command line, the spec or another input isn't valid.
    Input = 2,
    /// No valid token, or one that may not do this.
    Auth = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The thing's present state doesn't allow this.
    Conflict = 5,
    /// No answer, or none in time; the same command may succeed later.
    Unavailable = 6,
    /// The job was cancelled.
    Cancelled = 7,
    /// A bug in Stoker, or an answer that this client can't read.
    Internal = 70,
    /// A file of this machine couldn't be read or written.
    File = 74,
    /// Ended by Ctrl-C while waiting. The job goes on.
    Interrupted = 130,
}

impl Exit {
    const fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidInput
            | ErrorCode::IdempotencyMismatch
            | ErrorCode::TooLarge
            | ErrorCode::PluginRejected => Self::Input,
            ErrorCode::Unauthenticated | ErrorCode::Forbidden => Self::Auth,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Conflict => Self::Conflict,
            ErrorCode::Incomplete
            | ErrorCode::RateLimited
            | ErrorCode::Unavailable
            | ErrorCode::Timeout => Self::Unavailable,
            ErrorCode::Internal => Self::Internal,
        }
    }

    /// The word for this ending in JSON output where the server gave none.
    const fn as_str(self) -> &'static str {
        match self {
            Self::JobFailed => "job_failed",
            Self::Input => "invalid_input",
            Self::Auth => "unauthenticated",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "job_cancelled",
            Self::Internal => "internal",
            Self::File => "file",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command didn't do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process exits with.
    pub(crate) exit: Exit,
    /// The error's code, as scripts see it.
    code: &'static str,
    /// One sentence.
    pub(crate) message: String,
    /// What is wrong with which field.
    pub(crate) fields: Vec<FieldError>,
}

impl Failure {
    /// A failure with a sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: exit.as_str(),
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// The input can't be used.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    /// A local file couldn't be read or written.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Exit::File, format!("{}: {error}", path.display()))
    }

    /// The failure as a JSON document.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": {
            "code": self.code,
            "message": self.message,
            "errors": self.fields,
            "exit_code": self.exit as u8,
        }})
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        let exit = match &error {
            Error::Io { .. } => Exit::File,
            _ => Exit::of_code(code),
        };
        let message = match &error {
            Error::Problem(problem) if code == ErrorCode::Internal => {
                format!("{error} (request {})", problem.request_id)
            }
            _ => error.to_string(),
        };
        let code = if exit == Exit::File {
            exit.as_str()
        } else {
            code.as_str()
        };
        let fields = match error {
            Error::Problem(problem) => problem.errors,
            _ => Vec::new(),
        };
        Self {
            exit,
            code,
            message,
            fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_documented_exit_code() {
        let codes: Vec<_> = ErrorCode::ALL
            .iter()
            .map(|code| (code.as_str(), Exit::of_code(*code) as u8))
            .collect();
        let expected = [
            ("invalid_input", 2),
            ("unauthenticated", 3),
            ("forbidden", 3),
            ("not_found", 4),
            ("conflict", 5),
            ("idempotency_mismatch", 2),
            ("too_large", 2),
            ("incomplete", 6),
            ("plugin_rejected", 2),
            ("rate_limited", 6),
            ("unavailable", 6),
            ("timeout", 6),
            ("internal", 70),
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn a_server_that_is_away_and_a_file_that_is_missing_are_told_apart() {
        let away = Error::Connect {
            server: "http://x/".to_owned(),
            reason: "refused".to_owned(),
        };
        assert_eq!(Failure::from(away).exit, Exit::Unavailable);
        let missing = Error::Io {
            path: "x".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let missing = Failure::from(missing);
        assert_eq!((missing.exit, missing.code), (Exit::File, "file"));
    }
}
