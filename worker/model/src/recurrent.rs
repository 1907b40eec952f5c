//! Recurrent layers: an LSTM's and a GRU's.
//!
//! What a layer's inputs give to the gates is one product over all positions; what follows is the
//! recurrence, an operation of its own.

use serde::{Deserialize, Serialize};
use stoker_domain::spec::Cell;

use crate::graph::{Added, Graph, Refusal, by_fan_in, push_linear, too_large};
use crate::limits::product;
use crate::op::{Op, ParameterId, ValueId};
use crate::plan::Order;
use crate::shape::Shape;

/// Geometry of a recurrence over `[length, gates units]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    /// The cell.
    pub cell: Cell,
    /// Positions.
    pub length: usize,
    /// Numbers of the state.
    pub units: usize,
}

impl Recurrence {
    /// Units whose gates are computed side by side on the way forward.
    pub const LANES: usize = 16;
    /// Units whose gradients are, on the way back.
    pub const GRAD_LANES: usize = 32;
    /// Sums of bias gradients per unit: a GRU has two for its new state.
    pub const SUMS: usize = 4;

    /// Gates of a unit: input, forget, cell, output of an LSTM; reset, update, new of a GRU.
    #[must_use]
    pub const fn gates(&self) -> usize {
        match self.cell {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// Numbers per position that go in.
    #[must_use]
    pub const fn in_features(&self) -> usize {
        self.gates() * self.units
    }

    /// Floats of the weights in blocks of [`Self::LANES`] units, with the gates of a unit side by
    /// side, and of the biases.
    #[must_use]
    pub const fn packed_floats(&self) -> usize {
        let blocks = self.units.div_ceil(Self::LANES);
        blocks * Self::LANES * (self.units * self.gates() + Self::SUMS)
    }

    /// Floats of the weights in blocks of [`Self::GRAD_LANES`] columns.
    #[must_use]
    pub const fn packed_grad_floats(&self) -> usize {
        let blocks = self.units.div_ceil(Self::GRAD_LANES);
        blocks * Self::GRAD_LANES * self.in_features()
    }

    /// Scratch of a group of `rows` rows on the way forward: the state before and after a position,
    /// an LSTM's cells, and a block of products.
    #[must_use]
    pub const fn scratch_floats(&self, rows: usize) -> usize {
        rows * (3 * self.units + self.gates() * Self::LANES)
    }

    /// The same on the way back: the gates' gradients at a position and the one after it, what is
    /// handed to the position before, and a block of products.
    #[must_use]
    pub const fn scratch_grad_floats(&self, rows: usize) -> usize {
        rows * (2 * self.in_features() + self.units + Self::GRAD_LANES)
    }

    /// Multiply-adds of the recurrence over `rows` rows, each counted as two.
    pub(crate) fn flops(&self, rows: usize) -> usize {
        (2 * rows * self.length)
            .saturating_mul(self.units)
            .saturating_mul(self.in_features())
    }
}

/// Layers of one cell, each over the outputs of the one before. Parameters have the names, shapes
/// and initial bounds of PyTorch's `LSTM` and `GRU`.
pub(crate) fn add_recurrent(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    cell: Cell,
    [units, layers]: [u32; 2],
    dropout: f32,
) -> Added {
    let Shape::Sequence { length, features } = shape else {
        let name = match cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        };
        return Err(format!("`{name}` takes [length, features]").into());
    };
    let units = units as usize;
    let recurrence = Recurrence {
        cell,
        length,
        units,
    };
    let (mut x, mut inputs) = (x, features);
    for layer in 0..layers {
        if layer > 0 && dropout > 0.0 {
            x = graph.dropout(path, x, dropout);
        }
        x = add_layer(graph, path, x, layer, inputs, recurrence)?;
        inputs = units;
    }
    let features = units;
    Ok((x, Shape::Sequence { length, features }))
}

fn add_layer(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    layer: u32,
    inputs: usize,
    recurrence: Recurrence,
) -> Result<ValueId, Refusal> {
    let (length, units) = (recurrence.length, recurrence.units);
    let outputs = product(&[recurrence.gates(), units]).ok_or_else(too_large)?;
    let mut parameter = |name: &str, shape: Vec<usize>| {
        let name = format!("{path}.{name}_l{layer}");
        let made = graph.parameter(name, shape, Order::RowMajor, by_fan_in(units));
        made.ok_or_else(too_large)
    };
    let input_weight = parameter("weight_ih", vec![outputs, inputs])?;
    let weight = parameter("weight_hh", vec![outputs, units])?;
    let biases = [
        parameter("bias_ih", vec![outputs])?,
        parameter("bias_hh", vec![outputs])?,
    ];
    product(&[recurrence.length, outputs, Recurrence::SUMS]).ok_or_else(too_large)?;
    let sizes = [length, inputs, outputs];
    let x = push_linear(graph, path, x, input_weight, sizes).ok_or_else(too_large)?;
    Ok(push_recurrence(graph, path, x, weight, biases, recurrence))
}

fn push_recurrence(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    weight: ParameterId,
    biases: [ParameterId; 2],
    recurrence: Recurrence,
) -> ValueId {
    let row_floats = recurrence.length * recurrence.units;
    let [y, saved, previous] = [(); 3].map(|()| graph.value(path, row_floats));
    let op = Op::Recurrence {
        x,
        y,
        weight,
        biases,
        saved,
        previous,
        recurrence,
        packed: None,
        scratch: None,
    };
    graph.push(path, op);
    y
}
