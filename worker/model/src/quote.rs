//! What a plan will take, before it runs.

use serde::{Deserialize, Serialize};
use stoker_domain::spec::OptimizerSpec;

use crate::op::{Kernel, Op};
use crate::plan::Plan;
use crate::split::{attention_flops, conv_flops};

/// Bytes of a checkpoint's header per tensor, about.
const HEADER_BYTES: u64 = 128;

/// What one worker needs for a plan, and what a step costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Numbers that are trained.
    pub parameters: u64,
    /// Floating-point operations of the products in one optimiser step, a multiply-add counted as
    /// two.
    pub flops_per_step: u64,
    /// Activations, gradients of activations and scratch of one virtual shard.
    pub arena_bytes: u64,
    /// The optimiser's moments, and the running average of the weights.
    pub optimizer_bytes: u64,
    /// Gradients: 1 + log2(virtual shards) buffers of the tree.
    pub gradient_bytes: u64,
    /// What a run allocates: weights (twice where the best are kept), arena, optimiser and
    /// gradients. The data set isn't in it.
    pub peak_bytes: u64,
    /// One checkpoint, about.
    pub checkpoint_bytes: u64,
}

impl Plan {
    /// Buffers of the size of the trained weights that the optimiser keeps: its moments, then the running
    /// average of the weights where there is one.
    #[must_use]
    pub fn optimizer_slots(&self) -> usize {
        let moments = match self.train.optimizer {
            OptimizerSpec::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            OptimizerSpec::AdamW { .. } => 2,
        };
        moments + usize::from(self.train.ema.is_some())
    }

    /// Gradient buffers of the tree over the virtual shards.
    #[must_use]
    pub const fn gradient_slots(&self) -> usize {
        1 + self.shards.ilog2() as usize
    }

    /// What the plan will take.
    #[must_use]
    pub fn quote(&self) -> Quote {
        let weights = self.parameter_floats as u64 * 4;
        let slots = self.optimizer_slots() as u64;
        let trained = self.trained_floats() as u64 * 4;
        let count = |trained: bool| {
            let some = self.parameters.iter().filter(|p| p.trained == trained);
            some.fold((0, 0), |(count, floats), p| {
                (count + 1, floats + p.floats as u64)
            })
        };
        let ((tensors, parameters), (others, statistics)) = (count(true), count(false));
        let flops: u64 = (self.forward.iter().chain(&self.backward))
            .map(|kernel| self.flops(kernel))
            .fold(0, u64::saturating_add);
        let arena_bytes = self.arena_floats as u64 * 4;
        let optimizer_bytes = trained * slots;
        let gradient_bytes = weights * self.gradient_slots() as u64;
        let best_bytes = if self.train.keep_best { weights } else { 0 };
        let whole = 1 + u64::from(self.train.keep_best);
        let saved = whole + slots;
        let tensors = saved * tensors + whole * others;
        Quote {
            parameters,
            flops_per_step: flops.saturating_mul(self.shards as u64),
            arena_bytes,
            optimizer_bytes,
            gradient_bytes,
            peak_bytes: weights + arena_bytes + optimizer_bytes + gradient_bytes + best_bytes,
            checkpoint_bytes: (parameters * saved + statistics * whole) * 4
                + tensors * HEADER_BYTES,
        }
    }

    /// Operations of a kernel's products for one virtual shard.
    pub(crate) fn flops(&self, kernel: &Kernel) -> u64 {
        let flops = match kernel.op {
            Op::Linear {
                positions,
                inputs,
                outputs,
                ..
            }
            | Op::LinearGradWeight {
                positions,
                inputs,
                outputs,
                ..
            }
            | Op::LinearGradInput {
                positions,
                inputs,
                outputs,
                ..
            } => (2 * self.rows * positions * inputs).saturating_mul(outputs),
            Op::Attention { ref attention, .. } => attention_flops(attention, self.rows),
            Op::AttentionGrad { ref attention, .. } => 2 * attention_flops(attention, self.rows),
            Op::Recurrence { ref recurrence, .. } | Op::RecurrenceGrad { ref recurrence, .. } => {
                recurrence.flops(self.rows)
            }
            Op::Conv2d { ref conv, .. }
            | Op::ConvTranspose { ref conv, .. }
            | Op::Conv2dGradWeight { ref conv, .. }
            | Op::Conv2dGradInput { ref conv, .. } => conv_flops(conv, self.rows),
            _ => 0,
        };
        flops as u64
    }
}
