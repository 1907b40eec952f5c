//! How weights are updated.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::{check_positive, check_shares};
use crate::error::FieldError;

/// How weights are updated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// Stochastic gradient descent, with PyTorch's definition of momentum and weight decay.
    Sgd {
        /// Step size.
        learning_rate: f32,
        /// Share of the last update that is kept.
        #[serde(default)]
        momentum: f32,
        /// Nesterov's form of momentum.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW {
        /// Step size.
        #[serde(default = "default_learning_rate")]
        learning_rate: f32,
        /// Decay of the first and second moments.
        #[serde(default = "default_betas")]
        betas: [f32; 2],
        /// Added to the root of the second moment.
        #[serde(default = "default_epsilon")]
        epsilon: f32,
        /// Share of a weight removed per step, times the learning rate.
        #[serde(default = "default_weight_decay")]
        weight_decay: f32,
    },
}

const fn default_learning_rate() -> f32 {
    1e-3
}
const fn default_betas() -> [f32; 2] {
    [0.9, 0.999]
}
const fn default_epsilon() -> f32 {
    1e-8
}
const fn default_weight_decay() -> f32 {
    1e-2
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self::AdamW {
            learning_rate: default_learning_rate(),
            betas: default_betas(),
            epsilon: default_epsilon(),
            weight_decay: default_weight_decay(),
        }
    }
}

impl OptimizerSpec {
    pub(super) fn validate(&self) -> Vec<FieldError> {
        match self {
            Self::Sgd {
                learning_rate,
                momentum,
                weight_decay,
                ..
            } => [
                check_positive(&[("learning_rate", *learning_rate)]),
                check_shares(&[("momentum", *momentum), ("weight_decay", *weight_decay)]),
            ]
            .concat(),
            Self::AdamW {
                learning_rate,
                betas,
                epsilon,
                weight_decay,
            } => [
                check_positive(&[("learning_rate", *learning_rate), ("epsilon", *epsilon)]),
                check_shares(&[
                    ("betas[0]", betas[0]),
                    ("betas[1]", betas[1]),
                    ("weight_decay", *weight_decay),
                ]),
            ]
            .concat(),
        }
    }
}
