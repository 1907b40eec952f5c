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
            Op::Upsample { upsample, .. } => {
                let dx = self.dx()?;
                self.push(Op::UpsampleGrad { dy, dx, upsample });
                Some(dx)
            }
            Op::ConvTranspose { .. } => self.of_conv_transpose(op),
            _ => None,
        }
    }

    /// The convolution that it is the transpose of, with the parts of input and output exchanged.
    fn of_conv_transpose(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::ConvTranspose {
            weight, bias, conv, ..
        } = op
        else {
            return None;
        };
        let (x, dy) = (self.x, self.dy);
        if bias.is_some() {
            self.in_place(None, bias, conv.in_channels);
        }
        self.push(Op::Conv2dGradWeight {
            dy: x,
            x: dy,
            weight,
            conv,
            columns: None,
            partials: None,
        });
        let dx = self.dx()?;
        self.push(Op::Conv2d {
            x: dy,
            y: dx,
            weight,
            bias: None,
            activation: None,
            pre: None,
            transposed: None,
            conv,
            columns: None,
        });
        Some(dx)
    }
}
