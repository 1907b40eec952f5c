//! Why a run ended without weights.

use stoker_domain::job::{Failure, FailureKind};

/// Most row ids that an error names.
pub(crate) const SAMPLES_MAX: usize = 16;

/// Why a run, a transform, a metric or an observer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// One sentence for the person who owns the job.
    pub message: String,
    /// The optimiser step in progress, from 1.
    pub step: Option<u64>,
    /// The first layer with a bad number.
    pub layer: Option<String>,
    /// Rows of the data set concerned, at most 16.
    pub samples: Vec<u64>,
}

impl EngineError {
    /// An error with a message alone.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            step: None,
            layer: None,
            samples: Vec::new(),
        }
    }

    /// The same error, at a step, unless it names one already.
    #[must_use]
    pub fn at_step(mut self, step: u64) -> Self {
        self.step.get_or_insert(step);
        self
    }

    /// The same error about these rows, unless it names some already.
    #[must_use]
    pub fn about(mut self, rows: &[u64]) -> Self {
        if self.samples.is_empty() {
            self.samples = rows.iter().take(SAMPLES_MAX).copied().collect();
        }
        self
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            kind: error.kind,
            message: error.message,
            step: error.step,
            layer: error.layer,
            samples: error.samples,
        }
    }
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind,
            message: failure.message,
            step: failure.step,
            layer: failure.layer,
            samples: failure.samples,
        }
    }
}
