//! The border between a run and what computes it. A CUDA device will stand behind the same traits
//! and run the same plans.

use std::borrow::Cow;
use std::sync::Arc;

use stoker_model::Plan;

use crate::collective::Collective;
use crate::error::EngineError;
use crate::table::TargetRows;

/// A device that can run plans.
pub trait Device: Send + Sync {
    /// What results depend on besides the engine's build, as in `cpu-x86-64`.
    fn class(&self) -> String;

    /// Allocates all that one of `ranks` ranks needs to run its share of `plan`'s shards. Nothing is
    /// allocated by our code after it.
    ///
    /// # Errors
    /// `capacity` when the memory isn't there.
    fn open(&self, plan: Arc<Plan>, ranks: usize) -> Result<Box<dyn Session>, EngineError>;
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

    /// For another rank.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.loss.to_le_bytes());
        bytes[8..].copy_from_slice(&self.weight.to_le_bytes());
        bytes
    }

    /// What another rank wrote.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let [loss, weight] = [0, 8].map(|at| {
            let number = std::array::from_fn(|index| bytes[at + index]);
            f64::from_le_bytes(number)
        });
        Self { loss, weight }
    }
}

impl std::ops::AddAssign for LossSum {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

/// Weights, gradients and optimiser state of one rank of a run on a device.
///
/// Buffers of parameters have the plan's layout: `parameter_floats` floats, each parameter at its
/// offset in its stored order. Buffer 0 holds the weights, those after it are the optimiser's
/// (`optimizer_slots` of them), which end with the trained ones, after `trained_floats`.
pub trait Session: Send {
    /// Sets a buffer to what `fill` writes over it. Nothing for a buffer that isn't there.
    fn write(&mut self, buffer: usize, fill: &mut dyn FnMut(&mut [f32]));

    /// A buffer; an empty one where there is none.
    fn read(&self, buffer: usize) -> Cow<'_, [f32]>;

    /// Starts the sum of gradients over a step's virtual shards.
    fn start_step(&mut self);

    /// Runs a shard forward and back, and adds its gradients to the tree. Shards come in order.
    /// An empty shard adds zeros.
    fn train_shard(&mut self, shard: &Shard<'_>) -> LossSum;

    /// Finishes the tree over the shards of all ranks: each has the sum of all gradients then.
    ///
    /// # Errors
    /// `platform` when a rank was lost.
    fn sum_over(&mut self, ranks: &mut dyn Collective) -> Result<(), EngineError>;

    /// Whether all summed gradients are finite.
    fn gradients_are_finite(&self) -> bool;

    /// Divides the summed gradients by `weight` and updates the weights, and their running average
    /// where the plan has one; and the running statistics. `step` counts from 1.
    fn update(&mut self, weight: f64, learning_rate: f64, step: u64);

    /// Exchanges the weights with their running average, and back; nothing where the plan has none.
    /// Running statistics stay.
    fn swap_average(&mut self);

    /// Runs a shard forward without dropout, and by running statistics. Returns the scores of its rows and their loss.
    fn evaluate_shard(&mut self, shard: &Shard<'_>) -> (&[f32], LossSum);

    /// Runs a shard again and looks for the first number that isn't finite. The gradient tree is
    /// lost.
    fn diagnose(&mut self, shard: &Shard<'_>) -> Option<Bad>;
}
