//! Joins neighbouring operations, so that a value is written and read once less.
//!
//! Linear or convolution + bias + activation become one kernel, as do the gradients of activation
//! and bias. (The softmax and the cross-entropy are one in the loss from the start.)

use crate::geometry::Conv;
use crate::graph::{Graph, Node};
use crate::op::{Op, needs_input};

/// Fuses what can be. A fused kernel bears the name of the layer that has the parameters: the first
/// of a pair on the way forward, the second on the way back.
///
/// What two operations pass on may be left out only where no third one reads it.
pub(crate) fn fuse(mut graph: Graph) -> Graph {
    let mut readers = vec![0_usize; graph.values.len()];
    for node in &graph.forward {
        node.op.values().0.iter().for_each(|id| readers[id.0] += 1);
    }
    graph.forward = join(std::mem::take(&mut graph.forward), |first, second| {
        let passed = *first.op.values().1.first()?;
        if let Op::AddBias { bias, columns, .. } = second.op
            && graph.parameters[bias.0].floats != columns
        {
            // The first positions of a bias that longer rows have more of.
            return None;
        }
        let op = (readers[passed.0] == 1).then(|| fuse_forward(&first.op, &second.op))??;
        Some(Node {
            layer: first.layer.clone(),
            op,
        })
    });
    graph.backward = join(std::mem::take(&mut graph.backward), |first, second| {
        Some(Node {
            layer: second.layer.clone(),
            op: fuse_backward(&first.op, &second.op)?,
        })
    });
    graph
}

/// Replaces neighbours by what `joined` makes of them, as long as it makes something.
fn join(nodes: Vec<Node>, joined: impl Fn(&Node, &Node) -> Option<Node>) -> Vec<Node> {
    let mut out: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match out.last().and_then(|last| joined(last, &node)) {
            Some(both) => {
                out.pop();
                out.push(both);
            }
            None => out.push(node),
        }
    }
    out
}

fn fuse_forward(first: &Op, second: &Op) -> Option<Op> {
    let mut fused = first.clone();
    let (Op::Linear {
        y: out,
        bias: b,
        activation: f,
        pre: p,
        outputs: width,
        ..
    }
    | Op::Conv2d {
        y: out,
        bias: b,
        activation: f,
        pre: p,
        conv: Conv {
            out_channels: width,
            ..
        },
        ..
    }) = &mut fused
    else {
        return None;
    };
    match *second {
        Op::AddBias {
            x,
            y,
            bias,
            columns,
        } if x == *out && columns == *width && b.is_none() && f.is_none() => {
            *out = y;
            *b = Some(bias);
        }
        Op::Activate { x, y, function } if x == *out && f.is_none() => {
            *out = y;
            *f = Some(function);
            *p = needs_input(function).then_some(x);
        }
        _ => return None,
    }
    Some(fused)
}

fn fuse_backward(first: &Op, second: &Op) -> Option<Op> {
    let (
        Op::ActivationBiasGrad {
            d,
            function: Some(function),
            bias: None,
            ..
        },
        Op::ActivationBiasGrad {
            d: same,
            function: None,
            bias,
            columns,
            partials,
        },
    ) = (first, second)
    else {
        return None;
    };
    (d == same).then_some(Op::ActivationBiasGrad {
        d: *d,
        function: Some(*function),
        bias: *bias,
        columns: *columns,
        partials: *partials,
    })
}
