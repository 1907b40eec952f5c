//! Reverse-mode differentiation of the forward graph.
//!
//! Every value has one reader, which the graph made sure of, so a gradient is written once and
//! may be changed in place.

use std::collections::{HashMap, HashSet};

use stoker_domain::spec::Activation;

use crate::graph::{Graph, Node};
use crate::op::{Op, ParameterId, ValueId, needs_input};

/// Appends the backward operations: from the gradient of the scores to those of the parameters.
pub(crate) fn differentiate(mut graph: Graph) -> Graph {
    let trained = trained_values(&graph);
    let mut gradients: HashMap<ValueId, ValueId> = HashMap::new();
    let scores = ValueId(graph.scores);
    let outputs = graph.values[scores.0].row_floats;
    let seed = graph.value("loss", outputs);
    graph.score_gradient = seed.0;
    gradients.insert(scores, seed);
    for Node { layer, op } in graph.forward.clone().into_iter().rev() {
        let (reads, writes) = op.values();
        let (Some(&x), Some(&y)) = (reads.first(), writes.first()) else {
            continue;
        };
        let Some(&dy) = gradients.get(&y) else {
            continue;
        };
        let wanted = trained.contains(&x);
        let mut backward = Backward {
            graph: &mut graph,
            layer: &layer,
            x,
            dy,
            wanted,
        };
        if let Some(dx) = backward.of(&op, y) {
            gradients.insert(x, dx);
        }
    }
    graph
}

/// The values that depend on a parameter: only their gradients are of use.
fn trained_values(graph: &Graph) -> HashSet<ValueId> {
    let mut trained: HashSet<ValueId> = HashSet::new();
    for Node { op, .. } in &graph.forward {
        let (reads, writes) = op.values();
        let has_parameter = matches!(
            op,
            Op::Linear { .. } | Op::Conv2d { .. } | Op::AddBias { .. }
        );
        if has_parameter || reads.iter().any(|value| trained.contains(value)) {
            trained.extend(writes);
        }
    }
    trained
}

struct Backward<'a> {
    graph: &'a mut Graph,
    layer: &'a str,
    x: ValueId,
    dy: ValueId,
    /// Whether x's gradient is of use.
    wanted: bool,
}

impl Backward<'_> {
    fn push(&mut self, op: Op) {
        self.graph.backward.push(Node {
            layer: self.layer.to_owned(),
            op,
        });
    }

    /// A new value for x's gradient, when it is of use.
    fn dx(&mut self) -> Option<ValueId> {
        let row_floats = self.graph.values[self.x.0].row_floats;
        self.wanted
            .then(|| self.graph.value(self.layer, row_floats))
    }

    /// Adds what `op` needs and returns its input's gradient.
    fn of(&mut self, op: &Op, y: ValueId) -> Option<ValueId> {
        let (x, dy) = (self.x, self.dy);
        match *op {
            Op::Linear { .. } => self.of_linear(op),
            Op::Conv2d { .. } => self.of_conv(op),
            Op::AddBias { bias, columns, .. } => self.in_place(None, Some(bias), columns),
            Op::Activate { function, .. } => {
                let saved = if needs_input(function) { x } else { y };
                let columns = self.graph.values[y.0].row_floats;
                self.in_place(Some((function, saved)), None, columns)
            }
            Op::MaxPool { pool, .. } => {
                let dx = self.dx()?;
                self.push(Op::MaxPoolGrad { dy, x, y, dx, pool });
                Some(dx)
            }
            Op::Dropout { rate, site, .. } => {
                if self.wanted {
                    self.push(Op::DropoutGrad { d: dy, rate, site });
                }
                self.wanted.then_some(dy)
            }
            Op::ToChannelsFirst {
                channels,
                positions,
                ..
            } => {
                let y = self.dx()?;
                self.push(Op::ToChannelsLast {
                    x: dy,
                    y,
                    channels,
                    positions,
                });
                Some(y)
            }
            _ => None,
        }
    }

    fn in_place(
        &mut self,
        function: Option<(Activation, ValueId)>,
        bias: Option<ParameterId>,
        columns: usize,
    ) -> Option<ValueId> {
        self.push(Op::ActivationBiasGrad {
            d: self.dy,
            function,
            bias,
            columns,
            partials: None,
        });
        Some(self.dy)
    }

    fn of_linear(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::Linear {
            weight,
            inputs,
            outputs,
            ..
        } = op
        else {
            return None;
        };
        let (x, dy) = (self.x, self.dy);
        self.push(Op::LinearGradWeight {
            dy,
            x,
            weight,
            inputs,
            outputs,
        });
        let dx = self.dx()?;
        self.push(Op::LinearGradInput {
            dy,
            dx,
            weight,
            inputs,
            outputs,
        });
        Some(dx)
    }

    fn of_conv(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::Conv2d { weight, conv, .. } = op else {
            return None;
        };
        let (x, dy) = (self.x, self.dy);
        self.push(Op::Conv2dGradWeight {
            dy,
            x,
            weight,
            conv,
            columns: None,
            partials: None,
        });
        let dx = self.dx()?;
        self.push(Op::Conv2dGradInput {
            dy,
            dx,
            weight,
            conv,
            columns: None,
        });
        Some(dx)
    }
}
