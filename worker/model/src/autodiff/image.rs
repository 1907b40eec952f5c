//! Gradients of operations over images.

use super::Backward;
use crate::op::{Op, ValueId};

impl Backward<'_> {
    /// Adds what `op` needs and returns its input's gradient.
    pub(super) fn of_image(&mut self, op: &Op) -> Option<ValueId> {
        let dy = self.dy;
        match *op {
            Op::AveragePool { pool, .. } => {
                let dx = self.dx()?;
                self.push(Op::AveragePoolGrad { dy, dx, pool });
                Some(dx)
            }
            Op::Mean {
                positions, columns, ..
            } => {
                let dx = self.dx()?;
                self.push(Op::MeanGrad {
                    dy,
                    dx,
                    positions,
                    columns,
                });
                Some(dx)
            }
            _ => None,
        }
    }
}
