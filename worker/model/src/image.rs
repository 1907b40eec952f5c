//! Blocks over images, and convolution over sequences.

use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::geometry::{Conv, Pool, Tile};
use crate::graph::{Added, Graph, Refusal, add_bias, by_fan_in, too_large};
use crate::limits::product;
use crate::op::{Op, ValueId};
use crate::plan::Order;
use crate::shape::Shape;

/// What a spec says of a convolution.
pub(crate) struct Window {
    /// Whether it runs along a sequence.
    line: bool,
    channels: usize,
    kernel: usize,
    stride: usize,
    /// Zeros before and after.
    padding: (usize, usize),
    dilation: usize,
    groups: usize,
}

/// The window of a convolution, and whether it has a bias.
pub(crate) fn window_of(block: &Block) -> (Window, bool) {
    let window = |line, sizes: [u32; 6], causal: bool| {
        let [channels, kernel, stride, padding, dilation, groups] = sizes.map(|n| n as usize);
        let before = dilation.saturating_mul(kernel.saturating_sub(1));
        Window {
            line,
            channels,
            kernel,
            stride,
            padding: if causal {
                (before, 0)
            } else {
                (padding, padding)
            },
            dilation,
            groups,
        }
    };
    match *block {
        Block::Conv1d {
            channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            causal,
            bias,
        } => {
            let sizes = [channels, kernel, stride, padding, dilation, groups];
            (window(true, sizes, causal), bias)
        }
        Block::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias,
        } => {
            let sizes = [channels, kernel, stride, padding, dilation, groups];
            (window(false, sizes, false), bias)
        }
        _ => (window(false, [1, 1, 1, 0, 1, 1], false), false),
    }
}

/// Where the windows lie in an input of `shape`.
///
/// # Errors
/// When it is no image or sequence, the window doesn't fit, or `groups` doesn't divide its
/// channels.
pub(crate) fn conv_geometry(shape: Shape, window: &Window) -> Result<Conv, Refusal> {
    let (in_channels, in_height, in_width) = match (shape, window.line) {
        (Shape::Sequence { length, features }, true) => (features, length, 1),
        (
            Shape::Image {
                channels,
                height,
                width,
            },
            false,
        ) => (channels, height, width),
        (_, true) => return Err("`conv1d` takes [length, features]".to_owned().into()),
        (_, false) => {
            let message =
                "`conv2d` takes [channels, height, width]: set `input` to the shape of a row";
            return Err(message.to_owned().into());
        }
    };
    let out_height = windows(in_height, window);
    let out_width = if window.line {
        Some(1)
    } else {
        windows(in_width, window)
    };
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        return Err(doesnt_fit(window).into());
    };
    if !in_channels.is_multiple_of(window.groups) {
        let message = format!(
            "{} doesn't divide the {in_channels} channels that come in",
            window.groups
        );
        return Err(Refusal::Field(FieldError::new("groups", message)));
    }
    Ok(Conv {
        in_channels,
        in_height,
        in_width,
        out_channels: window.channels,
        out_height,
        out_width,
        kernel: window.kernel,
        stride: window.stride,
        padding: window.padding.0,
        tile: Tile {
            images: 1,
            rows: out_height,
        },
        line: window.line,
        gap: window.dilation - 1,
        cuts: window.groups - 1,
        patches: 0,
    })
}

fn doesnt_fit(window: &Window) -> String {
    let (kernel, padding) = (window.kernel, window.padding.1);
    let kernel = if window.line {
        kernel.to_string()
    } else {
        format!("{kernel} x {kernel}")
    };
    let dilation = match window.dilation {
        1 => String::new(),
        dilation => format!(" and dilation {dilation}"),
    };
    format!("a kernel of {kernel} doesn't fit with padding {padding}{dilation}")
}

/// How often a window fits along one side.
fn windows(size: usize, window: &Window) -> Option<usize> {
    let reach = (window.kernel - 1).checked_mul(window.dilation)? + 1;
    let room = (size + window.padding.0 + window.padding.1).checked_sub(reach)?;
    Some(room / window.stride + 1)
}

pub(crate) fn add_conv(graph: &mut Graph, path: &str, x: ValueId, conv: Conv, bias: bool) -> Added {
    let shape = if conv.line {
        Shape::Sequence {
            length: conv.out_height,
            features: conv.out_channels,
        }
    } else {
        Shape::Image {
            channels: conv.out_channels,
            height: conv.out_height,
            width: conv.out_width,
        }
    };
    let floats = shape.floats().ok_or_else(too_large)?;
    let positions = product(&[conv.kernel, conv.kernel_width()]).ok_or_else(too_large)?;
    let fan_in = product(&[positions, conv.group_inputs()]).ok_or_else(too_large)?;
    product(&[fan_in + conv.group_outputs(), conv.out_width]).ok_or_else(too_large)?;
    let order = Order::ChannelsLast {
        channels: conv.group_inputs(),
        positions,
    };
    let mut dimensions = vec![conv.out_channels, conv.group_inputs(), conv.kernel];
    if !conv.line {
        dimensions.push(conv.kernel);
    }
    let weight = graph
        .parameter(
            format!("{path}.weight"),
            dimensions,
            order,
            by_fan_in(fan_in),
        )
        .ok_or_else(too_large)?;
    let mut y = graph.value(path, floats);
    let op = Op::Conv2d {
        x,
        y,
        weight,
        bias: None,
        activation: None,
        pre: None,
        transposed: None,
        conv,
        columns: None,
    };
    graph.push(path, op);
    if bias {
        let (name, init) = (format!("{path}.bias"), by_fan_in(fan_in));
        y = add_bias(graph, path, name, y, conv.out_channels, init).ok_or_else(too_large)?;
    }
    Ok((y, shape))
}

/// Pooling by windows of `[kernel, stride, padding]`: their mean, or else their maximum.
pub(crate) fn add_pool(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    [kernel, stride, padding]: [usize; 3],
    mean: bool,
) -> Added {
    let Shape::Image {
        channels,
        height: in_height,
        width: in_width,
    } = shape
    else {
        let name = if mean { "avg_pool2d" } else { "max_pool2d" };
        return Err(format!("`{name}` takes [channels, height, width]").into());
    };
    let window = Window {
        line: false,
        channels,
        kernel,
        stride,
        padding: (padding, padding),
        dilation: 1,
        groups: 1,
    };
    let (out_height, out_width) = (windows(in_height, &window), windows(in_width, &window));
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        return Err(format!("a window of {kernel} x {kernel} doesn't fit").into());
    };
    let pool = Pool {
        channels,
        in_height,
        in_width,
        out_height,
        out_width,
        kernel,
        stride,
        padding,
    };
    let shape = Shape::Image {
        channels,
        height: out_height,
        width: out_width,
    };
    let y = graph.value(path, shape.floats().ok_or_else(too_large)?);
    let op = match mean {
        true => Op::AveragePool { x, y, pool },
        false => Op::MaxPool { x, y, pool },
    };
    graph.push(path, op);
    Ok((y, shape))
}

/// The mean over all positions.
pub(crate) fn add_mean(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape)) -> Added {
    let (positions, columns) = match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => (height * width, channels),
        Shape::Sequence { length, features } => (length, features),
        Shape::Flat { .. } => {
            let message = "`global_avg_pool` takes [channels, height, width] or [length, features]";
            return Err(message.to_owned().into());
        }
    };
    let y = graph.value(path, columns);
    let op = Op::Mean {
        x,
        y,
        positions,
        columns,
    };
    graph.push(path, op);
    Ok((y, Shape::flat(columns)))
}
