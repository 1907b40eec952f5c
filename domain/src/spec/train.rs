//! The training part of a spec.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;

/// Largest global batch, in rows.
const BATCH_MAX: u32 = 1 << 20;
/// Most virtual shards of a batch.
const SHARDS_MAX: u32 = 1024;
/// Most epochs.
const EPOCHS_MAX: u32 = 1_000_000;

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the training rows; excludes `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Optimiser steps; excludes `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Rows per optimiser step, over all workers.
    pub batch_size: u32,
    /// Parts that a batch is cut into, a power of two that divides `batch_size`. Part of the
    /// result's identity: the number of workers is not.
    #[serde(default = "default_shards")]
    pub virtual_shards: u32,
    /// What is minimised.
    pub loss: Loss,
    /// How weights are updated.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// How the learning rate changes over the optimiser steps.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// What keeps a step's gradients from growing too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipSpec>,
    /// Seed of initial weights, shuffling, dropout and augmentation.
    #[serde(default)]
    pub seed: u64,
    /// Leave out an epoch's last batch when it isn't full.
    #[serde(default)]
    pub drop_last: bool,
    /// Epochs between evaluations on the held-out rows; the last epoch is always evaluated.
    #[serde(default = "default_eval")]
    pub eval_every_epochs: u32,
    /// When the state is saved so that the job can go on after a fault.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
}

const fn default_shards() -> u32 {
    1
}
const fn default_eval() -> u32 {
    1
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Softmax cross-entropy against a class index; the target column holds 0, 1, … .
    CrossEntropy,
    /// Mean squared error against the target's values.
    Mse,
}

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

/// How the learning rate changes; counts optimiser steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// No change.
    #[default]
    Constant,
    /// Linear warm-up, then half a cosine down to `min_share` of the rate at the last step.
    Cosine {
        /// Steps of the warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// Share of the learning rate at the end.
        #[serde(default)]
        min_share: f32,
    },
    /// Multiplied by `factor` every `every_steps` steps.
    Step {
        /// Steps between changes.
        every_steps: u64,
        /// The factor.
        factor: f32,
    },
}

/// Limits on the gradients of an optimiser step, after their mean over the batch was taken.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipSpec {
    /// Largest norm of all gradients together; above it all are scaled down alike (Pascanu et al.
    /// 2013, with PyTorch's `clip_grad_norm_` as its form).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<f32>,
    /// Largest size of each number, after `norm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
}

impl ClipSpec {
    fn validate(&self) -> Vec<FieldError> {
        if self.norm.is_none() && self.value.is_none() {
            return vec![FieldError::new("", "needs `norm` or `value`")];
        }
        let limits = [("norm", self.norm), ("value", self.value)];
        let wrong = limits.into_iter().filter_map(|(field, limit)| {
            let limit = limit.filter(|limit| !(*limit > 0.0 && limit.is_finite()))?;
            Some(FieldError::new(
                field,
                format!("{limit} is not a number above 0"),
            ))
        });
        wrong.collect()
    }
}

/// When the state is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// Optimiser steps between checkpoints; 0 for none before the end.
    pub every_steps: u64,
    /// Newest checkpoints that are kept.
    pub keep_last: u32,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            every_steps: 500,
            keep_last: 2,
        }
    }
}

impl TrainSpec {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        check(
            self.epochs.is_some() != self.steps.is_some(),
            "epochs",
            "needs exactly one of `epochs` and `steps`".to_owned(),
        );
        let epochs = self.epochs.unwrap_or(1);
        check(
            (1..=EPOCHS_MAX).contains(&epochs),
            "epochs",
            in_range(epochs, EPOCHS_MAX),
        );
        check(
            self.steps != Some(0),
            "steps",
            "0 given, at least 1 needed".to_owned(),
        );
        check(
            (1..=BATCH_MAX).contains(&self.batch_size),
            "batch_size",
            in_range(self.batch_size, BATCH_MAX),
        );
        let shards = self.virtual_shards;
        check(
            shards.is_power_of_two()
                && shards <= SHARDS_MAX
                && self.batch_size.is_multiple_of(shards),
            "virtual_shards",
            format!(
                "{shards} is not a power of two up to {SHARDS_MAX} that divides batch_size = {}",
                self.batch_size
            ),
        );
        check(
            self.eval_every_epochs >= 1,
            "eval_every_epochs",
            "0 given, at least 1 needed".to_owned(),
        );
        check(
            (1..=100).contains(&self.checkpoint.keep_last),
            "checkpoint.keep_last",
            in_range(self.checkpoint.keep_last, 100),
        );
        let clip = self.clip.iter().flat_map(ClipSpec::validate);
        errors.extend(clip.map(|error| error.under("clip")));
        errors.extend(
            self.optimizer
                .validate()
                .into_iter()
                .map(|error| error.under("optimizer")),
        );
        errors.extend(
            self.schedule
                .validate()
                .into_iter()
                .map(|error| error.under("schedule")),
        );
        errors
    }
}

fn in_range(value: u32, max: u32) -> String {
    format!("{value} is not in 1 to {max}")
}

fn check_shares(shares: &[(&str, f32)]) -> Vec<FieldError> {
    let refused = |(field, value): &(&str, f32)| {
        FieldError::new(
            *field,
            format!("{value} is not in 0 up to, not including, 1"),
        )
    };
    shares
        .iter()
        .filter(|(_, value)| !(0.0..1.0).contains(value))
        .map(refused)
        .collect()
}

fn check_positive(values: &[(&str, f32)]) -> Vec<FieldError> {
    let refused = |(field, value): &(&str, f32)| {
        FieldError::new(*field, format!("{value} is not above 0 and finite"))
    };
    values
        .iter()
        .filter(|(_, v)| !(v.is_finite() && *v > 0.0))
        .map(refused)
        .collect()
}

impl OptimizerSpec {
    fn validate(&self) -> Vec<FieldError> {
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

impl ScheduleSpec {
    fn validate(&self) -> Vec<FieldError> {
        match self {
            Self::Constant => Vec::new(),
            Self::Cosine { min_share, .. } => check_shares(&[("min_share", *min_share)]),
            Self::Step {
                every_steps,
                factor,
            } => {
                let mut errors = check_positive(&[("factor", *factor)]);
                if *every_steps == 0 {
                    errors.push(FieldError::new("every_steps", "0 given, at least 1 needed"));
                }
                errors
            }
        }
    }
}
