//! Predicts rows with the model of a finished job.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::ErrorCode;
use crate::job::JobRecord;
use crate::model::Prediction;

/// Why nothing was predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PredictError {
    /// The kind of error.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
}

/// Predicts rows with the model of a finished job.
#[async_trait]
pub trait Predictor: Send + Sync {
    /// Predicts rows, each a value by the name of a column.
    ///
    /// # Errors
    /// `invalid_input` when a row doesn't fit the model, `conflict` when the job has no model yet.
    async fn predict(
        &self,
        job: &JobRecord,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Prediction>, PredictError>;
}
