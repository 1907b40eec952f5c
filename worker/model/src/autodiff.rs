//! Reverse-mode differentiation of the forward graph.
//!
//! A gradient's buffer may stand for the gradients of several values, as behind a sum. It is
//! changed in place only where it stands for one.

mod image;

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
    graph.values[seed.0].ends = graph.values[scores.0].ends;
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
        if let Op::Add { a, b, .. } = op {
            // dy stays in use until both have it.
            for x in [a, b] {
                if trained.contains(&x) {
                    give(&mut graph, &mut gradients, &layer, x, dy);
                }
            }
            gradients.remove(&y);
            continue;
        }
        gradients.remove(&y);
        let wanted = trained.contains(&x);
        let mut backward = Backward {
            shared: owners(&gradients, dy) > 0,
            graph: &mut graph,
            layer: &layer,
            x,
            dy,
            wanted,
        };
        if let Some(dx) = backward.of(&op, y).filter(|_| wanted) {
            give(&mut graph, &mut gradients, &layer, x, dx);
        }
    }
    graph
}

/// How many values' gradients a buffer stands for.
fn owners(gradients: &HashMap<ValueId, ValueId>, buffer: ValueId) -> usize {
    gradients.values().filter(|&&other| other == buffer).count()
}

/// Adds `dx` to the gradient of `x`, which becomes it when there is none yet.
fn give(
    graph: &mut Graph,
    gradients: &mut HashMap<ValueId, ValueId>,
    layer: &str,
    x: ValueId,
    dx: ValueId,
) {
    let Some(&present) = gradients.get(&x) else {
        gradients.insert(x, dx);
        return;
    };
    let mut push = |op| {
        graph.backward.push(Node {
            layer: layer.to_owned(),
            op,
        });
    };
    if present != dx && owners(gradients, present) == 1 {
        push(Op::AddTo { d: present, x: dx });
    } else if owners(gradients, dx) == 0 {
        push(Op::AddTo { d: dx, x: present });
        gradients.insert(x, dx);
    } else {
        let d = copy(graph, layer, present);
        graph.backward.push(Node {
            layer: layer.to_owned(),
            op: Op::AddTo { d, x: dx },
        });
        gradients.insert(x, d);
    }
}

/// A copy of a buffer, to be changed.
fn copy(graph: &mut Graph, layer: &str, x: ValueId) -> ValueId {
    let row_floats = graph.values[x.0].row_floats;
    let y = graph.value(layer, row_floats);
    graph.backward.push(Node {
        layer: layer.to_owned(),
        op: Op::Copy { x, y },
    });
    y
}

/// The values that depend on a parameter: only their gradients are of use.
fn trained_values(graph: &Graph) -> HashSet<ValueId> {
    let mut trained: HashSet<ValueId> = HashSet::new();
    for Node { op, .. } in &graph.forward {
        let (reads, writes) = op.values();
        if op.is_parametric() || reads.iter().any(|value| trained.contains(value)) {
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
    /// Whether dy is the gradient of another value too, and so can't be changed.
    shared: bool,
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
        let dx = self
            .wanted
            .then(|| self.graph.value(self.layer, row_floats))?;
        self.graph.values[dx.0].ends = self.graph.values[self.x.0].ends;
        Some(dx)
    }

    /// dy, to be changed in place.
    fn own_dy(&mut self) -> ValueId {
        if self.shared {
            self.dy = copy(self.graph, self.layer, self.dy);
            self.shared = false;
        }
        self.dy
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
                if !self.wanted {
                    return None;
                }
                let d = self.own_dy();
                self.push(Op::DropoutGrad { d, rate, site });
                Some(d)
            }
            Op::Mask { .. } => {
                if !self.wanted {
                    return None;
                }
                let d = self.own_dy();
                self.graph.values[d.0].ends = self.graph.values[x.0].ends;
                self.push(Op::Mask { d });
                Some(d)
            }
            Op::Embedding { .. } => self.of_embedding(op),
            Op::Norm { .. } => self.of_norm(op),
            Op::Attention {
                probabilities,
                attention,
                ..
            } => {
                let dx = self.dx()?;
                self.push(Op::AttentionGrad {
                    dy,
                    x,
                    dx,
                    probabilities,
                    attention,
                    scratch: None,
                });
                Some(dx)
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
            _ => self.of_image(op),
        }
    }

    fn in_place(
        &mut self,
        function: Option<(Activation, ValueId)>,
        bias: Option<ParameterId>,
        columns: usize,
    ) -> Option<ValueId> {
        if function.is_some() {
            self.own_dy();
        }
        self.push(Op::ActivationBiasGrad {
            d: self.dy,
            function,
            bias,
            columns,
            partials: None,
        });
        Some(self.dy)
    }

    fn of_embedding(&mut self, op: &Op) -> Option<ValueId> {
        if let &Op::Embedding {
            weight,
            vocabulary,
            units,
            ..
        } = op
        {
            let (x, dy) = (self.x, self.dy);
            self.push(Op::EmbeddingGrad {
                dy,
                x,
                weight,
                vocabulary,
                units,
            });
        }
        None
    }

    fn of_norm(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::Norm {
            gain,
            bias,
            statistics,
            columns,
            ..
        } = op
        else {
            return None;
        };
        let (x, dy, row_floats) = (self.x, self.dy, self.graph.values[self.x.0].row_floats);
        let dx = self.graph.value(self.layer, row_floats);
        self.push(Op::NormGrad {
            dy,
            x,
            dx,
            gain,
            bias,
            statistics,
            columns,
            partials: None,
        });
        Some(dx)
    }

    fn of_linear(&mut self, op: &Op) -> Option<ValueId> {
        let &Op::Linear {
            weight,
            positions,
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
            positions,
            inputs,
            outputs,
        });
        let dx = self.dx()?;
        self.push(Op::LinearGradInput {
            dy,
            dx,
            weight,
            positions,
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
