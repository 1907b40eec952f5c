//! Blocks that normalise channels: over a shard's rows and positions, or over parts of a row.

use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::graph::{Added, Graph, Refusal, too_large};
use crate::op::{Op, ParameterId, ValueId};
use crate::plan::{Init, Order};
use crate::shape::Shape;

/// Channels of a row, and how a number per channel is stored: as the row is.
const fn channels_of(shape: Shape) -> (usize, Order) {
    match shape {
        Shape::Image { channels, .. } => (channels, Order::RowMajor),
        Shape::Sequence { features, .. }
        | Shape::Flat {
            features,
            image: None,
        } => (features, Order::RowMajor),
        Shape::Flat {
            features,
            image: Some((channels, positions)),
        } => {
            let order = Order::ChannelsLast {
                channels,
                positions,
            };
            (features, order)
        }
    }
}

/// One number per channel.
fn parameter(
    graph: &mut Graph,
    name: String,
    (channels, order): (usize, Order),
    value: f32,
) -> Result<ParameterId, Refusal> {
    let made = graph.parameter(name, vec![channels], order, Init::Constant { value });
    Ok(made.ok_or_else(too_large)?)
}

/// The same, not trained.
fn statistic(
    graph: &mut Graph,
    name: String,
    channels: (usize, Order),
    value: f32,
) -> Result<ParameterId, Refusal> {
    let id = parameter(graph, name, channels, value)?;
    graph.parameters[id.0].trained = false;
    Ok(id)
}

/// Adds a block that normalises channels.
pub(crate) fn add_norm(
    graph: &mut Graph,
    path: &str,
    given: (ValueId, Shape),
    block: &Block,
) -> Added {
    match *block {
        Block::GroupNorm { groups, epsilon } => {
            add_group_norm(graph, path, given, groups as usize, epsilon)
        }
        Block::BatchNorm { epsilon, momentum } => {
            add_batch_norm(graph, path, given, epsilon, momentum)
        }
        _ => Ok(given),
    }
}

/// Normalises each channel over rows and positions. Names are those of PyTorch's `BatchNorm`.
fn add_batch_norm(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    epsilon: f32,
    momentum: f32,
) -> Added {
    let channels = channels_of(shape);
    let gain = parameter(graph, format!("{path}.weight"), channels, 1.0)?;
    let bias = parameter(graph, format!("{path}.bias"), channels, 0.0)?;
    let mean = statistic(graph, format!("{path}.running_mean"), channels, 0.0)?;
    let variance = statistic(graph, format!("{path}.running_var"), channels, 1.0)?;
    let (y, statistics) = outputs(graph, path, shape, 0)?;
    let op = Op::BatchNorm {
        x,
        y,
        residual: None,
        gain,
        bias,
        running: [mean, variance],
        statistics,
        partials: None,
        channels: channels.0,
        relu: false,
        epsilon,
        momentum,
    };
    graph.push(path, op);
    Ok((y, shape))
}

/// Normalises `parts` of each row's channels.
fn add_group_norm(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    parts: usize,
    epsilon: f32,
) -> Added {
    if matches!(shape, Shape::Flat { image: Some(_), .. }) {
        let message = "`group_norm` takes channels: put it before the `flatten`";
        return Err(message.to_owned().into());
    }
    let channels = channels_of(shape);
    if !channels.0.is_multiple_of(parts) {
        let message = format!("{parts} doesn't divide the {} channels", channels.0);
        return Err(Refusal::Field(FieldError::new("groups", message)));
    }
    let gain = parameter(graph, format!("{path}.weight"), channels, 1.0)?;
    let bias = parameter(graph, format!("{path}.bias"), channels, 0.0)?;
    let (y, statistics) = outputs(graph, path, shape, 2 * parts)?;
    let op = Op::GroupNorm {
        x,
        y,
        gain,
        bias,
        statistics,
        scratch: None,
        channels: channels.0,
        parts,
        relu: false,
        epsilon,
    };
    graph.push(path, op);
    Ok((y, shape))
}

/// What comes out, and the statistics kept for the way back: so many numbers per row.
fn outputs(
    graph: &mut Graph,
    path: &str,
    shape: Shape,
    statistics: usize,
) -> Result<(ValueId, ValueId), Refusal> {
    let floats = shape.floats().ok_or_else(too_large)?;
    Ok((graph.value(path, floats), graph.value(path, statistics)))
}
