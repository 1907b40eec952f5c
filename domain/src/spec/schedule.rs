//! How the learning rate changes over the optimiser steps.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::{check_positive, check_shares};
use crate::error::FieldError;

/// How the learning rate changes; counts optimiser steps. With a warm-up of n steps the first ones
/// take 1/n, 2/n, … of the rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// No change.
    Constant {
        /// Steps of the warm-up.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
    /// Linear warm-up, then half a cosine down to `min_share` of the rate at the last step.
    Cosine {
        /// Steps of the warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// Share of the learning rate at the end.
        #[serde(default)]
        min_share: f32,
    },
    /// Linear warm-up, then a line down to `min_share` of the rate at the last step.
    Linear {
        /// Steps of the warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// Share of the learning rate at the end.
        #[serde(default)]
        min_share: f32,
    },
    /// Half a cosine up from `start_share` of the rate, then half a cosine down to `min_share` of
    /// it (Smith & Topin 2018). The momentum stays as it is.
    OneCycle {
        /// Share of the steps on which the rate rises.
        #[serde(default = "default_rise")]
        rise: f32,
        /// Share of the learning rate at the first step.
        #[serde(default = "default_start")]
        start_share: f32,
        /// Share of the learning rate at the last step.
        #[serde(default = "default_end")]
        min_share: f32,
    },
    /// Multiplied by `factor` every `every_steps` steps.
    Step {
        /// Steps between changes.
        every_steps: u64,
        /// The factor.
        factor: f32,
        /// Steps of the warm-up.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
    /// Multiplied by `factor` whenever the metric of `train.monitor` hasn't improved for
    /// `patience` evaluations.
    Plateau {
        /// The factor.
        #[serde(default = "default_factor")]
        factor: f32,
        /// Evaluations without improvement before a change.
        #[serde(default = "default_patience")]
        patience: u32,
        /// Smallest share of the learning rate.
        #[serde(default)]
        min_share: f32,
        /// Steps of the warm-up.
        #[serde(default)]
        warmup_steps: u64,
    },
}

const fn default_rise() -> f32 {
    0.3
}
const fn default_start() -> f32 {
    0.04
}
const fn default_end() -> f32 {
    4e-6
}
const fn default_factor() -> f32 {
    0.1
}
const fn default_patience() -> u32 {
    10
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self::Constant { warmup_steps: 0 }
    }
}

impl ScheduleSpec {
    /// Steps of the linear warm-up.
    #[must_use]
    pub const fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Constant { warmup_steps }
            | Self::Cosine { warmup_steps, .. }
            | Self::Linear { warmup_steps, .. }
            | Self::Step { warmup_steps, .. }
            | Self::Plateau { warmup_steps, .. } => warmup_steps,
            Self::OneCycle { .. } => 0,
        }
    }

    pub(super) fn validate(&self) -> Vec<FieldError> {
        match *self {
            Self::Constant { .. } => Vec::new(),
            Self::Cosine { min_share, .. } | Self::Linear { min_share, .. } => {
                check_shares(&[("min_share", min_share)])
            }
            Self::OneCycle {
                rise,
                start_share,
                min_share,
            } => check_shares(&[
                ("rise", rise),
                ("start_share", start_share),
                ("min_share", min_share),
            ]),
            Self::Step {
                every_steps,
                factor,
                ..
            } => {
                let mut errors = check_positive(&[("factor", factor)]);
                if every_steps == 0 {
                    errors.push(FieldError::new("every_steps", "0 given, at least 1 needed"));
                }
                errors
            }
            Self::Plateau {
                factor,
                patience,
                min_share,
                ..
            } => {
                let mut errors = check_shares(&[("factor", factor), ("min_share", min_share)]);
                if patience == 0 {
                    errors.push(FieldError::new("patience", "0 given, at least 1 needed"));
                }
                errors
            }
        }
    }
}
