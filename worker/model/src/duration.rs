//! How long a plan takes on a device whose speed was measured.
//!
//! A kernel takes as long as its products or its memory traffic, whichever is longer, and what it
//! costs to start one. Rates are those of `stoker worker calibrate`, over kernels of common sizes:
//! a model of tiny or odd layers is slower than this says.

use stoker_domain::worker::DeviceProfile;

use crate::op::{Kernel, Op, ValueId};
use crate::plan::Plan;

/// What a kernel has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// What its operations are.
    pub kind: WorkKind,
    /// Floating-point operations of its products, a multiply-add counted as two.
    pub flops: u64,
    /// Bytes of the values that it reads and writes, scratch left out.
    pub bytes: u64,
}

/// Kinds of work that differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// Products of matrices.
    Product,
    /// Convolutions.
    Convolution,
    /// Attention.
    Attention,
    /// Everything without products.
    Traffic,
}

impl Plan {
    /// What a kernel has to do for one virtual shard.
    #[must_use]
    pub fn work(&self, kernel: &Kernel) -> Work {
        let flops = self.flops(kernel);
        let kind = match kernel.op {
            _ if flops == 0 => WorkKind::Traffic,
            Op::Conv2d { .. } | Op::Conv2dGradWeight { .. } | Op::Conv2dGradInput { .. } => {
                WorkKind::Convolution
            }
            Op::Attention { .. } | Op::AttentionGrad { .. } => WorkKind::Attention,
            _ => WorkKind::Product,
        };
        let (reads, writes) = kernel.op.values();
        let bytes = reads.iter().chain(&writes).map(|&id| self.row_bytes(id));
        Work {
            kind,
            flops,
            bytes: bytes.sum(),
        }
    }

    /// Bytes of a value; none for scratch, which stays in the caches.
    fn row_bytes(&self, id: ValueId) -> u64 {
        let value = &self.values[id.0];
        4 * (self.rows * value.row_floats) as u64
    }

    /// Seconds of one optimiser step.
    #[must_use]
    pub fn step_seconds(&self, device: &DeviceProfile) -> f64 {
        let forward = self.forward_seconds(device);
        let backward: f64 = self.backward.iter().map(|k| self.seconds(k, device)).sum();
        // Adding gradients reads two buffers and writes one; the check and the norm read one; the
        // update reads the gradients, and reads and writes all else.
        let kept = 1 + self.optimizer_slots();
        let norm = usize::from(self.train.clip.as_ref().is_some_and(|c| c.norm.is_some()));
        let passes = 3 * (self.shards - 1) + 1 + norm + 1 + 2 * kept;
        let traffic = (4 * passes * self.parameter_floats) as f64 / rate(device.bytes_per_s);
        self.shards as f64 * (forward + backward) + traffic
    }

    /// Seconds of measuring `rows` rows.
    #[must_use]
    pub fn evaluation_seconds(&self, device: &DeviceProfile, rows: u64) -> f64 {
        rows.div_ceil(self.rows.max(1) as u64) as f64 * self.forward_seconds(device)
    }

    /// Seconds of `steps` steps, so many an epoch, with an evaluation of `held_out` rows every
    /// `train.eval_every_epochs` epochs and at the end.
    #[must_use]
    pub fn run_seconds(
        &self,
        device: &DeviceProfile,
        (per_epoch, steps): (u64, u64),
        held_out: u64,
    ) -> f64 {
        let every = per_epoch.saturating_mul(u64::from(self.train.eval_every_epochs));
        let evaluations = steps.div_ceil(every.max(1));
        steps as f64 * self.step_seconds(device)
            + evaluations as f64 * self.evaluation_seconds(device, held_out)
    }

    fn forward_seconds(&self, device: &DeviceProfile) -> f64 {
        // The rows are copied in, and the loss reads the scores and writes their gradients.
        let loss = [self.features, self.scores, self.score_gradient];
        let bytes: u64 = loss.iter().map(|&id| self.row_bytes(id)).sum();
        let kernels: f64 = self.forward.iter().map(|k| self.seconds(k, device)).sum();
        kernels + bytes as f64 / rate(device.bytes_per_s)
    }

    fn seconds(&self, kernel: &Kernel, device: &DeviceProfile) -> f64 {
        let work = self.work(kernel);
        let flops_per_s = match work.kind {
            WorkKind::Convolution => device.convolution_flops_per_s,
            WorkKind::Attention => device.attention_flops_per_s,
            WorkKind::Product | WorkKind::Traffic => device.product_flops_per_s,
        };
        let worked = work.flops as f64 / rate(flops_per_s);
        let moved = work.bytes as f64 / rate(device.bytes_per_s);
        worked.max(moved) + device.kernel_ns as f64 * 1e-9
    }
}

/// A rate to divide by.
fn rate(per_s: u64) -> f64 {
    per_s.max(1) as f64
}
