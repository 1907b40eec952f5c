//! What can go wrong with a plugin, after its upload was accepted and before.

use crate::rejection::Rejection;
use serde::{Deserialize, Serialize};

/// The kind of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginErrorKind {
    /// The plugin broke: a panic, an access out of bounds, an overflow of its stack.
    Trap,
    /// The call took longer than allowed.
    Deadline,
    /// The plugin wanted more memory than allowed.
    Memory,
    /// The plugin refused its configuration.
    InvalidConfig,
    /// The plugin refused a batch.
    InvalidBatch,
    /// The plugin gave up for a reason of its own.
    Failed,
    /// What the plugin gave back is too large or breaks the contract.
    Output,
    /// The platform couldn't run the plugin; not the plugin's fault.
    Platform,
}

/// A call failed. The caller adds the plugin's name, the batch and the records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message}")]
pub struct PluginError {
    /// What kind of failure it is.
    pub kind: PluginErrorKind,
    /// The call of the contract, such as `run`.
    pub call: &'static str,
    /// What happened; the plugin's own words for the kinds that it tells itself.
    pub message: String,
}

/// An artifact can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It isn't an artifact, or is cut short.
    #[error("not a plugin artifact of this version")]
    Format,
    /// It was compiled for another engine build, configuration or kind of CPU; compile it again.
    #[error("compiled for engine {found}, but this is engine {wanted}")]
    OtherEngine {
        /// The engine hash in the artifact.
        found: String,
        /// The engine hash of this host.
        wanted: String,
    },
    /// It wasn't sealed with this key, or was changed since.
    #[error("the seal doesn't match: sealed with another key, or changed since")]
    Unauthenticated,
    /// The engine refused it.
    #[error("the engine can't load it: {0}")]
    Engine(String),
}

/// A compilation gave no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The upload is at fault; trying again is pointless.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The platform is at fault; try again.
    #[error("plugin compiler: {0}")]
    Internal(String),
}
