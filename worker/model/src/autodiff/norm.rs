//! Gradients of normalisation over channels.

use super::Backward;
use crate::op::{Op, ValueId};

impl Backward<'_> {
    /// The residual's gradient is what `self.dy` holds after it.
    pub(super) fn of_batch_norm(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::BatchNorm {
            y,
            residual,
            gain,
            bias,
            statistics,
            channels,
            relu,
            ..
        } = op
        else {
            return None;
        };
        // With a residual d is kept for it; relu's part of the way back is done in place.
        let d = if relu || residual.is_none() {
            self.own_dy()
        } else {
            self.dy
        };
        let dx = match residual {
            Some(_) => self.dx(),
            None => self.wanted.then_some(d),
        };
        self.push(Op::BatchNormGrad {
            d,
            x: self.x,
            dx,
            y: (relu && residual.is_some()).then_some(y),
            gain,
            bias,
            statistics,
            partials: None,
            channels,
            relu,
        });
        dx
    }

    pub(super) fn of_group_norm(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::GroupNorm {
            gain,
            bias,
            statistics,
            channels,
            parts,
            relu,
            ..
        } = op
        else {
            return None;
        };
        let d = self.own_dy();
        self.push(Op::GroupNormGrad {
            d,
            x: self.x,
            gain,
            bias,
            statistics,
            scratch: None,
            partials: None,
            channels,
            parts,
            relu,
        });
        Some(d)
    }
}
