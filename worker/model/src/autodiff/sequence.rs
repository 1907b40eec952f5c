//! Gradients of operations over sequences.

use super::Backward;
use crate::op::{Op, ValueId};
use stoker_domain::spec::Cell;

impl Backward<'_> {
    /// Adds what `op` needs and returns its input's gradient.
    pub(super) fn of_sequence(&mut self, op: &Op) -> Option<ValueId> {
        let (x, dy) = (self.x, self.dy);
        match *op {
            Op::Recurrence { .. } => self.of_recurrence(op),
            Op::Attention {
                probabilities,
                attention,
                rotary,
                ..
            } => {
                let dx = self.dx()?;
                self.push(Op::AttentionGrad {
                    dy,
                    x,
                    dx,
                    probabilities,
                    attention,
                    rotary,
                    scratch: None,
                });
                Some(dx)
            }
            Op::Last {
                positions, columns, ..
            } => {
                let dx = self.dx()?;
                self.push(Op::LastGrad {
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

    /// The gates' gradients take the gates' place. An LSTM's are those of both its products.
    fn of_recurrence(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::Recurrence {
            x,
            weight,
            biases,
            saved,
            previous,
            recurrence,
            ..
        } = op
        else {
            return None;
        };
        let dy = self.dy;
        let row_floats = self.graph.values[x.0].row_floats;
        let inner = match recurrence.cell {
            Cell::Lstm => None,
            Cell::Gru => Some(self.graph.value(self.layer, row_floats)),
        };
        self.push(Op::RecurrenceGrad {
            dy,
            x,
            weight,
            biases,
            saved,
            previous,
            inner,
            recurrence,
            packed: None,
            scratch: None,
            partials: None,
        });
        self.push(Op::LinearGradWeight {
            dy: inner.unwrap_or(x),
            x: previous,
            weight,
            positions: recurrence.length,
            inputs: recurrence.units,
            outputs: recurrence.in_features(),
        });
        Some(x)
    }
}
