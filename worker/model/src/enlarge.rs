//! Blocks that give more positions than they take: transposed convolutions and `upsample`.

use stoker_domain::spec::{Block, Upsampling};

use crate::geometry::{Conv, Tile, Upsample};
use crate::graph::{Added, Graph, Refusal, by_fan_in, too_large};
use crate::limits::product;
use crate::op::{Op, ValueId};
use crate::plan::Order;
use crate::shape::Shape;

/// What a spec says of a transposed convolution.
struct Transposed {
    line: bool,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    output_padding: usize,
    bias: bool,
}

/// The transposed convolution of a block.
fn transposed_of(block: &Block) -> Transposed {
    let (line, sizes, bias) = match *block {
        Block::ConvTranspose1d {
            channels,
            kernel,
            stride,
            padding,
            output_padding,
            bias,
        } => (
            true,
            [channels, kernel, stride, padding, output_padding],
            bias,
        ),
        Block::ConvTranspose2d {
            channels,
            kernel,
            stride,
            padding,
            output_padding,
            bias,
        } => (
            false,
            [channels, kernel, stride, padding, output_padding],
            bias,
        ),
        _ => (false, [1, 1, 1, 0, 0], false),
    };
    let [channels, kernel, stride, padding, output_padding] = sizes.map(|n| n as usize);
    Transposed {
        line,
        channels,
        kernel,
        stride,
        padding,
        output_padding,
        bias,
    }
}

impl Transposed {
    /// The size of a side that `size` becomes, unless all of it is padding.
    fn side(&self, size: usize) -> Option<usize> {
        let all = (size - 1).checked_mul(self.stride)?;
        let all = all.checked_add(self.kernel + self.output_padding)?;
        let side = all.checked_sub(self.padding.checked_mul(2)?)?;
        (side > 0).then_some(side)
    }

    /// The convolution whose transpose this is: from the output to the input.
    fn conv(&self, shape: Shape) -> Result<Conv, Refusal> {
        let (channels, height, width) = match (shape, self.line) {
            (Shape::Sequence { length, features }, true) => (features, length, 1),
            (
                Shape::Image {
                    channels,
                    height,
                    width,
                },
                false,
            ) => (channels, height, width),
            (_, true) => {
                return Err("`conv_transpose1d` takes [length, features]"
                    .to_owned()
                    .into());
            }
            (_, false) => {
                let message = "`conv_transpose2d` takes [channels, height, width]";
                return Err(message.to_owned().into());
            }
        };
        let in_width = if self.line { Some(1) } else { self.side(width) };
        let (Some(in_height), Some(in_width)) = (self.side(height), in_width) else {
            let (kernel, stride, padding) = (self.kernel, self.stride, self.padding);
            let message = format!(
                "a kernel of {kernel} with stride {stride} and padding {padding} leaves nothing of it"
            );
            return Err(message.into());
        };
        Ok(Conv {
            in_channels: self.channels,
            in_height,
            in_width,
            out_channels: channels,
            out_height: height,
            out_width: width,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            tile: Tile {
                images: 1,
                rows: height,
            },
            line: self.line,
            gap: 0,
            cuts: 0,
            patches: 0,
        })
    }
}

/// Adds a transposed convolution. Its initial weights are PyTorch's, whose fan-in counts the output
/// channels.
pub(crate) fn add_conv_transpose(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    block: &Block,
) -> Added {
    let transposed = transposed_of(block);
    let conv = transposed.conv(shape)?;
    let out = if conv.line {
        Shape::Sequence {
            length: conv.in_height,
            features: conv.in_channels,
        }
    } else {
        Shape::Image {
            channels: conv.in_channels,
            height: conv.in_height,
            width: conv.in_width,
        }
    };
    let floats = out.floats().ok_or_else(too_large)?;
    let (kernel, channels) = (conv.kernel, conv.in_channels);
    let positions = product(&[kernel, conv.kernel_width()]).ok_or_else(too_large)?;
    let fan_in = product(&[positions, channels]).ok_or_else(too_large)?;
    product(&[fan_in, conv.out_width]).ok_or_else(too_large)?;
    let mut dimensions = vec![conv.out_channels, channels, kernel];
    if !conv.line {
        dimensions.push(kernel);
    }
    let order = Order::ChannelsLast {
        channels,
        positions,
    };
    let init = by_fan_in(fan_in);
    let weight = graph
        .parameter(format!("{path}.weight"), dimensions, order, init)
        .ok_or_else(too_large)?;
    let bias = match transposed.bias {
        true => {
            let name = format!("{path}.bias");
            let bias = graph.parameter(name, vec![channels], Order::RowMajor, init);
            Some(bias.ok_or_else(too_large)?)
        }
        false => None,
    };
    let y = graph.value(path, floats);
    let op = Op::ConvTranspose {
        x,
        y,
        weight,
        bias,
        conv,
        columns: None,
    };
    graph.push(path, op);
    Ok((y, out))
}

/// Makes an image or a sequence larger.
pub(crate) fn add_upsample(
    graph: &mut Graph,
    path: &str,
    (x, shape): (ValueId, Shape),
    factor: usize,
    mode: Upsampling,
) -> Added {
    let (channels, height, width, out) = match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => {
            let out = Shape::Image {
                channels,
                height: product(&[height, factor]).ok_or_else(too_large)?,
                width: product(&[width, factor]).ok_or_else(too_large)?,
            };
            (channels, height, width, out)
        }
        Shape::Sequence { length, features } => {
            let out = Shape::Sequence {
                length: product(&[length, factor]).ok_or_else(too_large)?,
                features,
            };
            (features, length, 1, out)
        }
        Shape::Flat { .. } => {
            let message = "`upsample` takes [channels, height, width] or [length, features]";
            return Err(message.to_owned().into());
        }
    };
    let upsample = Upsample {
        channels,
        height,
        width,
        factor,
        line: matches!(shape, Shape::Sequence { .. }),
        linear: mode == Upsampling::Bilinear,
    };
    let y = graph.value(path, out.floats().ok_or_else(too_large)?);
    graph.push(path, Op::Upsample { x, y, upsample });
    Ok((y, out))
}
