//! Why an upload can't become a plugin.

use serde::{Deserialize, Serialize};

/// The kind of fault of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The file is larger than allowed.
    TooLarge,
    /// It isn't valid WebAssembly.
    Malformed,
    /// It uses a feature of WebAssembly that plugins may not use.
    Feature,
    /// It imports something.
    Import,
    /// It exports no role, several roles, or a role with other types than the contract's.
    Role,
    /// Its code goes beyond a cap.
    Limit,
    /// It needs more memory than an instance may have.
    Memory,
    /// Compiling it took too much CPU time.
    CompileTime,
    /// Compiling it took too much memory.
    CompileMemory,
    /// The compiler failed on it.
    Compile,
    /// It failed on its own example.
    Probe,
    /// It gave two answers to one question.
    NotDeterministic,
}

/// An upload was rejected, and always will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The kind of fault.
    pub reason: Reason,
    /// What was given, and what is allowed.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}
