//! Where rows end: which values hold positions, how many of them are there, and where those after
//! a row's end must be zeros.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::family::Layers;
use crate::graph::{Graph, Node};
use crate::op::{Op, ValueId};

/// Where the rows of a value end that holds `positions` of them: of a row of n positions that
/// came in, (n + shift) / step, rounded down, and at least 1, are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Positions that there is room for.
    pub positions: usize,
    /// What windows add.
    pub shift: i64,
    /// Positions that came in for each of this value.
    pub step: i64,
}

impl Ends {
    /// Those of the rows themselves.
    pub(crate) const fn of_rows(positions: usize) -> Self {
        Self {
            positions,
            shift: 0,
            step: 1,
        }
    }

    /// Positions that are there of a row of `length` positions.
    #[must_use]
    pub fn of(self, length: u32) -> usize {
        let there = (i64::from(length).saturating_add(self.shift)).div_euclid(self.step);
        usize::try_from(there.max(1)).map_or(self.positions, |there| there.min(self.positions))
    }

    /// Whether a position is there where the row has one.
    const fn is_of_rows(self) -> bool {
        self.shift == 0 && self.step == 1
    }

    /// After a convolution along the positions, as `block` says, to `positions` of them.
    fn windows(self, block: &Block, positions: usize) -> Option<Self> {
        let &Block::Conv1d {
            kernel,
            stride,
            padding,
            dilation,
            causal,
            ..
        } = block
        else {
            return None;
        };
        let reach = i64::from(dilation) * (i64::from(kernel) - 1);
        let padding = if causal {
            reach
        } else {
            2 * i64::from(padding)
        };
        // Rounding down twice is rounding down once: what is added counts by the first step.
        let shift = (padding - reach - 1 + i64::from(stride)).saturating_mul(self.step);
        Some(Self {
            positions,
            shift: self.shift.saturating_add(shift),
            step: self.step.saturating_mul(i64::from(stride)),
        })
    }
}

/// What an operation does with positions.
enum Use {
    /// It takes each by itself, or knows itself where rows end.
    Each,
    /// It makes one of them, and knows where rows end.
    Row,
    /// It sees several, of which those after the end must be zeros; what comes out ends there, or
    /// has no positions.
    Zeros(Option<Ends>),
    /// Nobody has said.
    Unknown,
}

fn use_of(op: &Op, x: Ends, row_floats: usize, block: Option<&Block>) -> Use {
    let each = |positions: usize| match positions == x.positions {
        true => Use::Each,
        // Flattened.
        false => Use::Zeros(None),
    };
    match *op {
        Op::Linear { positions, .. } => each(positions),
        Op::Norm { columns, .. } => each(row_floats / columns),
        Op::AddBias { .. }
        | Op::Activate { .. }
        | Op::Dropout { .. }
        | Op::Embedding { .. }
        | Op::Attention { .. }
        | Op::Add { .. } => Use::Each,
        Op::Mean { .. } => Use::Row,
        Op::Conv2d { conv, .. } if conv.line => {
            let ends = block.and_then(|block| x.windows(block, conv.out_height));
            ends.map_or(Use::Unknown, |ends| Use::Zeros(Some(ends)))
        }
        _ => Use::Unknown,
    }
}

/// Notes where the rows of each value end, and has zeros written after them where an operation
/// needs it. `per_position` tells that there is a target at each position.
///
/// # Errors
/// At `data.padding`, when an operation mixes positions in a way that isn't known here, or what
/// is predicted doesn't end where the rows do.
pub(crate) fn mark(
    graph: &mut Graph,
    layers: &Layers,
    positions: usize,
    per_position: bool,
) -> Result<(), FieldError> {
    let refuse = |message: String| FieldError::new("data.padding", message);
    let features = ValueId(graph.features);
    graph.values[features.0].ends = Some(Ends::of_rows(positions));
    let mut zeroed = HashSet::from([features]);
    for Node { layer, op } in std::mem::take(&mut graph.forward) {
        let (reads, writes) = op.values();
        let mut ends = reads.iter().filter_map(|id| graph.values[id.0].ends);
        let (Some(&x), Some(x_ends)) = (reads.first(), ends.next()) else {
            graph.push(&layer, op);
            continue;
        };
        let block = (layers.layers.iter()).find(|other| other.path == layer);
        let row_floats = graph.values[x.0].row_floats;
        let after = match use_of(&op, x_ends, row_floats, block.map(|layer| &layer.block)) {
            Use::Each if ends.all(|other| other == x_ends) => Some(x_ends),
            Use::Row => None,
            Use::Zeros(after) => {
                if zeroed.insert(x) {
                    graph.push(&layer, Op::Mask { d: x });
                }
                after
            }
            Use::Each => {
                let message = format!("the inputs of `{layer}` end at different positions");
                return Err(refuse(message));
            }
            Use::Unknown => {
                let message = format!("`{layer}` can't tell where rows end");
                return Err(refuse(message));
            }
        };
        if let Some(y) = writes.first() {
            graph.values[y.0].ends = after;
        }
        graph.push(&layer, op);
    }
    match (graph.values[graph.scores].ends, per_position) {
        (Some(ends), true) if ends.is_of_rows() => Ok(()),
        (None, false) => Ok(()),
        (Some(_), false) => Err(refuse(
            "the model predicts something at each position: the target must hold a class for each"
                .to_owned(),
        )),
        (_, true) => Err(refuse(
            "what the model predicts doesn't end where the rows do".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(kernel: u32, stride: u32, padding: u32, dilation: u32, causal: bool) -> Block {
        Block::Conv1d {
            channels: 1,
            kernel,
            stride,
            padding,
            dilation,
            groups: 1,
            causal,
            bias: false,
        }
    }

    /// What is left after a convolution, step by step.
    fn windows(length: i64, block: &Block) -> i64 {
        let &Block::Conv1d {
            kernel,
            stride,
            padding,
            dilation,
            causal,
            ..
        } = block
        else {
            unreachable!()
        };
        let reach = i64::from(dilation * (kernel - 1));
        let padding = if causal {
            reach
        } else {
            i64::from(2 * padding)
        };
        (length + padding - reach - 1).div_euclid(i64::from(stride)) + 1
    }

    #[test]
    fn ends_follow_the_windows_of_convolutions() {
        let stacks = [
            vec![conv(3, 1, 1, 1, false)],
            vec![conv(3, 2, 0, 1, false), conv(2, 3, 1, 2, false)],
            vec![
                conv(5, 2, 0, 3, true),
                conv(4, 3, 2, 1, false),
                conv(1, 2, 0, 1, false),
            ],
        ];
        for stack in &stacks {
            for length in 20..60_u32 {
                let (mut ends, mut expected) = (Ends::of_rows(100), i64::from(length));
                for block in stack {
                    ends = ends.windows(block, 100).unwrap();
                    expected = windows(expected, block);
                }
                assert_eq!(ends.of(length) as i64, expected, "{length} in {stack:?}");
            }
        }
        let narrow = Ends::of_rows(100)
            .windows(&conv(9, 1, 0, 1, false), 4)
            .unwrap();
        assert_eq!(
            (narrow.of(3), narrow.of(90)),
            (1, 4),
            "1 at least, and what there is room for"
        );
    }
}
