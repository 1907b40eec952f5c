//! The block `concat`: its inputs side by side.

use crate::geometry::Part;
use crate::graph::{Added, Graph, too_large};
use crate::op::{Op, ValueId};
use crate::shape::Shape;

/// Joins two values or more at each position. Flat ones are joined whole, but flattened images of
/// as many positions are joined along their channels, which is the same in PyTorch's order.
pub(crate) fn add_concat(graph: &mut Graph, path: &str, given: &[(ValueId, Shape)]) -> Added {
    let columns = |shape: Shape| match shape {
        Shape::Flat { features, image } => image.map_or(features, |(channels, _)| channels),
        Shape::Sequence { features, .. } => features,
        Shape::Image { channels, .. } => channels,
    };
    let mut parts: Vec<(ValueId, Shape)> = given.to_vec();
    let (_, first) = given[0];
    if let Some(&(_, other)) = given.iter().find(|(_, shape)| !fits(first, *shape)) {
        let message = format!(
            "`concat` needs inputs that differ in channels or features alone, another gives {other}"
        );
        return Err(message.into());
    }
    if parts
        .iter()
        .any(|&(_, shape)| positions(shape) != positions(first))
    {
        for part in &mut parts {
            *part = in_order(graph, path, *part);
        }
    }
    let mut of = 0_usize;
    for &(_, shape) in &parts {
        of = of.checked_add(columns(shape)).ok_or_else(too_large)?;
    }
    let out = match parts[0].1 {
        Shape::Flat { image, .. } => Shape::Flat {
            features: of * image.map_or(1, |(_, positions)| positions),
            image: image.map(|(_, positions)| (of, positions)),
        },
        Shape::Sequence { length, .. } => Shape::Sequence {
            length,
            features: of,
        },
        Shape::Image { height, width, .. } => Shape::Image {
            channels: of,
            height,
            width,
        },
    };
    let y = graph.value(path, out.floats().ok_or_else(too_large)?);
    let mut first = 0;
    for (x, shape) in parts {
        let count = columns(shape);
        let part = Part { of, first, count };
        graph.push(path, Op::Join { x, y, part });
        first += count;
    }
    Ok((y, out))
}

/// Whether two inputs are alike but for what is joined.
fn fits(a: Shape, b: Shape) -> bool {
    match (a, b) {
        (Shape::Flat { .. }, Shape::Flat { .. }) => true,
        (Shape::Sequence { length: a, .. }, Shape::Sequence { length: b, .. }) => a == b,
        (
            Shape::Image { height, width, .. },
            Shape::Image {
                height: h,
                width: w,
                ..
            },
        ) => (height, width) == (h, w),
        _ => false,
    }
}

/// Positions of a flattened image, none where the numbers are in PyTorch's order.
const fn positions(shape: Shape) -> Option<usize> {
    match shape {
        Shape::Flat {
            image: Some((_, positions)),
            ..
        } => Some(positions),
        _ => None,
    }
}

/// A flat value in PyTorch's order.
fn in_order(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape)) -> (ValueId, Shape) {
    let Shape::Flat {
        features,
        image: Some((channels, positions)),
    } = shape
    else {
        return (x, shape);
    };
    let y = graph.value(path, features);
    let op = Op::ToChannelsFirst {
        x,
        y,
        channels,
        positions,
    };
    graph.push(path, op);
    (y, Shape::flat(features))
}
