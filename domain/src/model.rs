//! A trained model besides its weights: what is needed to use it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dataset::Column;
use crate::id::JobId;
use crate::job::{EngineIdentity, Inputs};
use crate::spec::JobSpec;

/// Version tag of stored models.
pub const RECORD_VERSION: u16 = 1;
/// The artifact that holds one.
pub const MODEL_FILE: &str = "model.json";
/// The artifact with its weights.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// The artifact that tells people of it.
pub const CARD_FILE: &str = "card.md";
/// Most rows that are predicted at a time.
pub const PREDICT_ROWS_MAX: usize = 1_000;

/// What a finished job leaves beside the weights: with both, rows can be predicted anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The job that trained it.
    pub job: JobId,
    /// Its spec, with references pinned to versions.
    pub spec: JobSpec,
    /// What the references pointed at.
    pub inputs: Inputs,
    /// Rows of the data set.
    pub rows: u64,
    /// Columns of the data set that rows to predict must have, and those that were needed to train.
    pub columns: Vec<Column>,
    /// What each preprocessing step that makes columns took from the training rows.
    pub fitted: serde_json::Value,
    /// The names of the classes, where the target was text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// What it was trained by.
    pub engine: EngineIdentity,
}

/// What a model says of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// The row, from 0; of several rows that were seen together, the last one.
    pub row: u64,
    /// What is predicted.
    #[serde(flatten)]
    pub output: Output,
}

/// What is predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Output {
    /// One class.
    Class {
        /// Its index.
        class: u32,
        /// Its name, where the target was text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        /// The probability of each class.
        probabilities: Vec<f32>,
    },
    /// A class at each position.
    Classes {
        /// The most probable one of each.
        classes: Vec<u32>,
    },
    /// Numbers; of a model trained with `bce` they are probabilities.
    Values {
        /// The numbers.
        values: Vec<f32>,
    },
    /// Several quantiles of each number.
    Quantiles {
        /// Of each number, those that the loss names, in its order.
        quantiles: Vec<Vec<f32>>,
    },
}
