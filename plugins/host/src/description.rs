//! What a plugin says about itself.

use crate::batch::Element;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Changes batches.
    Preprocess,
    /// Scores predictions.
    Metric,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 2] = [Self::Preprocess, Self::Metric];

    /// The name, as in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Metric => "metric",
        }
    }

    /// The interface that a plugin of this role exports.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Preprocess => "stoker:plugin/preprocess@0.1.0",
            Self::Metric => "stoker:plugin/metric@0.1.0",
        }
    }

    /// The world of this role.
    pub(crate) fn world(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess-plugin",
            Self::Metric => "metric-plugin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor that a plugin expects or makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The usual name; the configuration may choose another.
    pub name: String,
    /// The kind of its elements.
    pub element: Element,
    /// The shape of one row under the example configuration.
    pub example: Vec<u32>,
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Small ones, as of an error.
    Smaller,
    /// Large ones, as of an accuracy.
    Larger,
}

/// What a plugin reads and gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Contract {
    /// A batch in, a batch out.
    Preprocess {
        /// The tensors it reads.
        inputs: Vec<TensorSpec>,
        /// The tensors it makes or changes.
        outputs: Vec<TensorSpec>,
    },
    /// Predictions and targets in, a number out.
    Metric {
        /// The model's outputs that it reads.
        predictions: Vec<TensorSpec>,
        /// The data set's columns that it compares them with.
        targets: Vec<TensorSpec>,
        /// Which values are better.
        better: Better,
    },
}

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// A name for people.
    pub name: String,
    /// What it reads and gives.
    #[serde(flatten)]
    pub contract: Contract,
    /// A JSON Schema of the configuration, an object.
    pub config_schema: serde_json::Value,
}

impl Description {
    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.contract {
            Contract::Preprocess { .. } => Role::Preprocess,
            Contract::Metric { .. } => Role::Metric,
        }
    }

    /// The configuration that the plugin shows as an example: the first of the schema's
    /// `examples`, or an object of its properties' `default`s.
    #[must_use]
    pub fn example_config(&self) -> serde_json::Value {
        if let Some(example) = self.config_schema["examples"].get(0) {
            return example.clone();
        }
        let properties = self.config_schema["properties"]
            .as_object()
            .into_iter()
            .flatten();
        let defaults = properties
            .filter_map(|(name, schema)| Some((name.clone(), schema.get("default")?.clone())));
        serde_json::Value::Object(defaults.collect())
    }
}
