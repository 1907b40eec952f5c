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

/// Sizes of a pooling's windows, `[kernel, stride, padding]`, and whether they run along a
/// sequence, whether they take the mean.
fn pool_of(block: &Block) -> ([usize; 3], bool, bool) {
    match *block {
        Block::MaxPool1d {
            kernel,
            stride,
            padding,
        }
        | Block::AvgPool1d {
            kernel,
            stride,
            padding,
        }
        | Block::MaxPool2d {
            kernel,
            stride,
            padding,
        }
        | Block::AvgPool2d {
            kernel,
            stride,
            padding,
        } => (
            [kernel, stride.unwrap_or(kernel), padding].map(|n| n as usize),
            matches!(block, Block::MaxPool1d { .. } | Block::AvgPool1d { .. }),
            matches!(block, Block::AvgPool1d { .. } | Block::AvgPool2d { .. }),
        ),
        _ => ([1, 1, 0], false, false),
    }
}

/// Pooling by windows: their mean, or else their maximum.
pub(crate) fn add_pool(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    block: &Block,
) -> Added {
    let ([kernel, stride, padding], line, mean) = pool_of(block);
    let (channels, in_height, in_width) = match (shape, line) {
        (Shape::Sequence { length, features }, true) => (features, length, 1),
        (
            Shape::Image {
                channels,
                height,
                width,
            },
            false,
        ) => (channels, height, width),
        (_, line) => {
            let takes = if line {
                "[length, features]"
            } else {
                "[channels, height, width]"
            };
            return Err(format!("`{}` takes {takes}", block.type_name()).into());
        }
    };
    let window = Window {
        line,
        channels,
        kernel,
        stride,
        padding: (padding, padding),
        dilation: 1,
        groups: 1,
    };
    let out_height = windows(in_height, &window);
    let out_width = if line {
        Some(1)
    } else {
        windows(in_width, &window)
    };
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        let size = if line {
            kernel.to_string()
        } else {
            format!("{kernel} x {kernel}")
        };
        return Err(format!("a window of {size} doesn't fit").into());
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
        line,
    };
    let shape = if line {
        Shape::Sequence {
            length: out_height,
            features: channels,
        }
    } else {
        Shape::Image {
            channels,
            height: out_height,
            width: out_width,
        }
    };
    let y = graph.value(path, shape.floats().ok_or_else(too_large)?);
    let op = match mean {
        true => Op::AveragePool { x, y, pool },
        false => Op::MaxPool { x, y, pool },
    };
    graph.push(path, op);
    Ok((y, shape))
}

/// Height, width and channels of an image, or of a sequence as one of width 1.
fn whole(shape: Shape, block: &str) -> Result<[usize; 3], Refusal> {
    match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => Ok([height, width, channels]),
        Shape::Sequence { length, features } => Ok([length, 1, features]),
        Shape::Flat { .. } => {
            let message =
                format!("`{block}` takes [channels, height, width] or [length, features]");
            Err(message.into())
        }
    }
}

/// The maximum over all positions: of one window that holds them.
pub(crate) fn add_maximum(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape)) -> Added {
    let [in_height, in_width, channels] = whole(shape, "global_max_pool")?;
    let kernel = in_height.max(in_width);
    let pool = Pool {
        channels,
        in_height,
        in_width,
        out_height: 1,
        out_width: 1,
        kernel,
        stride: kernel,
        padding: 0,
        line: false,
    };
    let y = graph.value(path, channels);
    graph.push(path, Op::MaxPool { x, y, pool });
    Ok((y, Shape::flat(channels)))
}

/// The mean over all positions.
pub(crate) fn add_mean(graph: &mut Graph, path: &str, (x, shape): (ValueId, Shape)) -> Added {
    let [height, width, columns] = whole(shape, "global_avg_pool")?;
    let positions = height * width;
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
