//! Whose fault it is that there is no artifact.

use crate::error::{PluginError, PluginErrorKind};
use crate::rejection::{Reason, Rejection};

/// Why the child has no artifact to give.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The upload is at fault.
    Rejected(Rejection),
    /// The platform is.
    Internal(String),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<PluginError> for Failure {
    /// A failed call of the probe.
    fn from(error: PluginError) -> Self {
        match error.kind {
            PluginErrorKind::Platform => Self::Internal(error.to_string()),
            _ => {
                let message = format!("it failed on its own example: {error}");
                Self::Rejected(Rejection::new(Reason::Probe, message))
            }
        }
    }
}
