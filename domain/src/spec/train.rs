//! The training part of a spec.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::check_shares;
use super::loss::{self, Loss};
use super::monitor::{EarlyStopSpec, MonitorSpec};
use super::optimizer::OptimizerSpec;
use super::schedule::ScheduleSpec;
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
    /// Rows of a batch, over all workers.
    pub batch_size: u32,
    /// Batches whose gradients are summed for one optimiser step; a power of two.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u32,
    /// Parts that a batch is cut into, a power of two that divides `batch_size`. Part of the
    /// result's identity: the number of workers is not.
    #[serde(default = "default_shards")]
    pub virtual_shards: u32,
    /// What is minimised.
    #[serde(with = "loss::form")]
    #[schema(schema_with = loss::schema)]
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
    /// A running average of the weights, which is what is evaluated and given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaSpec>,
    /// The metric that `early_stop`, `keep_best` and a plateau schedule go by; `test.loss` when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorSpec>,
    /// When the run ends before its last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopSpec>,
    /// Give out the weights of the best evaluation, not the last ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_best: bool,
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
const fn one() -> u32 {
    1
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_one(value: &u32) -> bool {
    *value == 1
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A running average of the weights: after each optimiser step it becomes `decay` times itself and
/// the rest the new weights (Polyak & Juditsky 1992). The first step's weights start it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaSpec {
    /// Share that is kept.
    #[serde(default = "default_decay")]
    pub decay: f32,
}

const fn default_decay() -> f32 {
    0.999
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
    /// Rows per optimiser step, over all workers.
    #[must_use]
    pub const fn step_rows(&self) -> u64 {
        self.batch_size as u64 * self.accumulate as u64
    }

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
        let batches = self.accumulate;
        check(
            batches.is_power_of_two() && batches.saturating_mul(shards) <= SHARDS_MAX,
            "accumulate",
            format!(
                "{batches} is not a power of two up to {SHARDS_MAX} / virtual_shards = {}",
                SHARDS_MAX / shards.clamp(1, SHARDS_MAX)
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
        errors.extend(self.validate_parts());
        errors
    }

    /// Checks the tables below it.
    fn validate_parts(&self) -> Vec<FieldError> {
        let decay = self.ema.iter().map(|ema| ("decay", ema.decay));
        let decay = check_shares(&decay.collect::<Vec<_>>());
        let clip = self.clip.iter().flat_map(ClipSpec::validate).collect();
        let parts = [
            ("ema", decay),
            ("loss", self.loss.validate()),
            ("clip", clip),
            ("optimizer", self.optimizer.validate()),
            ("schedule", self.schedule.validate()),
        ];
        let under = |(part, errors): (&str, Vec<FieldError>)| {
            let named = move |error: FieldError| error.under(part);
            errors.into_iter().map(named).collect::<Vec<_>>()
        };
        parts.into_iter().flat_map(under).collect()
    }
}

fn in_range(value: u32, max: u32) -> String {
    format!("{value} is not in 1 to {max}")
}
