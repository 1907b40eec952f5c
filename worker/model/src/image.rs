//! Blocks over images: convolution and pooling.

use crate::graph::{Added, Graph, add_bias, by_fan_in, too_large};
use crate::limits::product;
use crate::op::{Conv, Op, Pool, Tile, ValueId};
use crate::plan::Order;
use crate::shape::Shape;

pub(crate) fn conv_geometry(shape: Shape, sizes: [usize; 4]) -> Result<Conv, String> {
    let [out_channels, kernel, stride, padding] = sizes;
    let Shape::Image {
        channels: in_channels,
        height: in_height,
        width: in_width,
    } = shape
    else {
        return Err(
            "`conv2d` takes [channels, height, width]: set `input` to the shape of a row"
                .to_owned(),
        );
    };
    let out_height = windows(in_height, kernel, stride, padding);
    let out_width = windows(in_width, kernel, stride, padding);
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        return Err(format!(
            "a kernel of {kernel} x {kernel} doesn't fit with padding {padding}"
        ));
    };
    Ok(Conv {
        in_channels,
        in_height,
        in_width,
        out_channels,
        out_height,
        out_width,
        kernel,
        stride,
        padding,
        tile: Tile {
            images: 1,
            rows: out_height,
        },
    })
}

/// How often a window fits along one side.
fn windows(size: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    let room = (size + 2 * padding).checked_sub(kernel)?;
    Some(room / stride + 1)
}

pub(crate) fn add_conv(graph: &mut Graph, path: &str, x: ValueId, conv: Conv, bias: bool) -> Added {
    let shape = Shape::Image {
        channels: conv.out_channels,
        height: conv.out_height,
        width: conv.out_width,
    };
    let floats = shape.floats().ok_or_else(too_large)?;
    let fan_in = product(&[conv.kernel, conv.kernel, conv.in_channels]).ok_or_else(too_large)?;
    product(&[fan_in, conv.out_width]).ok_or_else(too_large)?;
    let order = Order::ChannelsLast {
        channels: conv.in_channels,
        positions: conv.kernel * conv.kernel,
    };
    let dimensions = vec![
        conv.out_channels,
        conv.in_channels,
        conv.kernel,
        conv.kernel,
    ];
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

pub(crate) fn add_pool(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    shape: Shape,
    kernel: usize,
    stride: usize,
) -> Added {
    let Shape::Image {
        channels,
        height: in_height,
        width: in_width,
    } = shape
    else {
        return Err("`max_pool2d` takes [channels, height, width]"
            .to_owned()
            .into());
    };
    let out_height = windows(in_height, kernel, stride, 0);
    let out_width = windows(in_width, kernel, stride, 0);
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
    };
    let shape = Shape::Image {
        channels,
        height: out_height,
        width: out_width,
    };
    let y = graph.value(path, shape.floats().ok_or_else(too_large)?);
    graph.push(path, Op::MaxPool { x, y, pool });
    Ok((y, shape))
}
