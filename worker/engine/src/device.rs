//! The border between a run and what computes it. A CUDA device will stand behind the same traits
//! and run the same plans.

use std::sync::Arc;

use stoker_model::Plan;

use crate::error::EngineError;
use crate::table::TargetRows;

/// A device that can run plans.
pub trait Device: Send + Sync {
    /// What results depend on besides the engine's build, as in `cpu-x86-64`.
    fn class(&self) -> String;

    /// Allocates all that a run of `plan` needs. Nothing is allocated by our code after it.
    ///
    /// # Errors
    /// `capacity` when the memory isn't there.
    fn open(&self, plan: Arc<Plan>) -> Result<Box<dyn Session>, EngineError>;
}

/// The rows of one virtual shard. Missing rows are padded and leave no trace in the sums.
#[derive(Debug, Clone, Copy)]
pub struct Shard<'a> {
    /// `[rows, width]` row-major, for the rows that are there, with the width of the plan or of
    /// one of its shorter ones.
    pub features: &'a [f32],
    /// Their targets.
    pub targets: TargetRows<'a>,
    /// Positions of each row that are there: those after them are padding, whatever they hold, and
    /// leave no trace either. Empty where all are.
    pub lengths: &'a [u32],
    /// Index of the shard's first row in the global batch.
    pub first_row: u32,
    /// Optimiser steps made before this one: counts the dropout masks.
    pub step: u64,
}

/// A number that isn't finite, and where it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The layer, or the parameter.
    pub layer: String,
    /// Whether it came up on the way back.
    pub backward: bool,
    /// Rows of the shard, where they can be told apart.
    pub rows: Vec<usize>,
}

/// A shard's part of the mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSum {
    /// The sum of its predictions' losses.
    pub loss: f64,
    /// The sum of what they count: 1 each, unless the loss says otherwise.
    pub weight: f64,
}

impl LossSum {
    /// The mean loss.
    #[must_use]
    pub fn mean(self) -> f64 {
        self.loss / self.weight
    }
}

impl std::ops::AddAssign for LossSum {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

/// Weights, gradients and optimiser state of one run on a device.
///
/// Buffers of parameters have the plan's layout: `parameter_floats` floats, each parameter at its
/// offset in its stored order.
pub trait Session: Send {
    /// Sets the weights and the optimiser's buffers (`optimizer_slots` of them).
    fn write(&mut self, weights: &[f32], optimizer: &[Vec<f32>]);

    /// The weights and the optimiser's buffers.
    fn read(&self) -> (Vec<f32>, Vec<Vec<f32>>);

    /// Starts the sum of gradients over a step's virtual shards.
    fn start_step(&mut self);

    /// Runs a shard forward and back, and adds its gradients to the tree. Shards come in order.
    /// An empty shard adds zeros.
    fn train_shard(&mut self, shard: &Shard<'_>) -> LossSum;

    /// Whether all summed gradients are finite.
    fn gradients_are_finite(&self) -> bool;

    /// Divides the summed gradients by `weight` and updates the weights, and their running average
    /// where the plan has one. `step` counts from 1.
    fn update(&mut self, weight: f64, learning_rate: f64, step: u64);

    /// Exchanges the weights with their running average, and back; nothing where the plan has none.
    fn swap_average(&mut self);

    /// Runs a shard forward without dropout. Returns the scores of its rows and their loss.
    fn evaluate_shard(&mut self, shard: &Shard<'_>) -> (&[f32], LossSum);

    /// Runs a shard again and looks for the first number that isn't finite. The gradient tree is
    /// lost.
    fn diagnose(&mut self, shard: &Shard<'_>) -> Option<Bad>;
}
