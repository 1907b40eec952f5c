//! Gradients of operations over columns and pairs of vectors.

use std::collections::HashSet;

use super::Backward;
use crate::graph::{Graph, Node};
use crate::op::{Op, ValueId};

/// Adds what an operation with two inputs needs, and returns the gradients of those that are of
/// use; nothing for operations with one.
pub(super) fn of_several(
    graph: &mut Graph,
    layer: &str,
    op: &Op,
    dy: ValueId,
    trained: &HashSet<ValueId>,
) -> Option<Vec<(ValueId, ValueId)>> {
    let &Op::Dot { a, b, columns, .. } = op else {
        return of_sample(graph, layer, op, dy, trained);
    };
    let mut given = Vec::with_capacity(2);
    for (wanted, x) in [(a, b), (b, a)] {
        if trained.contains(&wanted) {
            let dx = graph.value(layer, columns);
            graph.backward.push(Node {
                layer: layer.to_owned(),
                op: Op::DotGrad { dy, x, dx, columns },
            });
            given.push((wanted, dx));
        }
    }
    Some(given)
}

fn of_sample(
    graph: &mut Graph,
    layer: &str,
    op: &Op,
    dy: ValueId,
    trained: &HashSet<ValueId>,
) -> Option<Vec<(ValueId, ValueId)>> {
    let &Op::Sample {
        mean,
        log_variance,
        spread,
        beta,
        ..
    } = op
    else {
        return None;
    };
    let columns = graph.values[mean.0].row_floats;
    let (d_mean, d_log_variance) = (graph.value(layer, columns), graph.value(layer, columns));
    graph.backward.push(Node {
        layer: layer.to_owned(),
        op: Op::SampleGrad {
            dy,
            mean,
            log_variance,
            spread,
            d_mean,
            d_log_variance,
            beta,
        },
    });
    let both = [(mean, d_mean), (log_variance, d_log_variance)];
    let of_use = both.into_iter().filter(|(x, _)| trained.contains(x));
    Some(of_use.collect())
}

impl Backward<'_> {
    /// Adds what `op` needs and returns its input's gradient.
    pub(super) fn of_columns(&mut self, op: &Op) -> Option<ValueId> {
        let (x, dy, dx) = (self.x, self.dy, self.dx()?);
        match op {
            Op::Select { spans, .. } => {
                let spans = spans.clone();
                self.push(Op::SelectGrad { dy, dx, spans });
            }
            &Op::Interact { count, columns, .. } => self.push(Op::InteractGrad {
                dy,
                x,
                dx,
                count,
                columns,
            }),
            _ => return None,
        }
        Some(dx)
    }
}
