//! The family `unet`: down to the lowest level, and up again with what each level had beside it.

use stoker_domain::FieldError;
use stoker_domain::spec::{Activation, Block, Family, UnetNorm};

use super::{Builder, Layers, image_shape};
use crate::input::{InputDescription, Target};

/// Expands a `unet`.
///
/// # Errors
/// At `input`, when it isn't the shape of an image that can be halved so often; at `family`, when
/// the target isn't a prediction at each of its positions.
pub(super) fn expand(family: &Family, input: &InputDescription) -> Result<Layers, FieldError> {
    let Family::Unet {
        input: shape,
        depth,
        channels,
        norm,
    } = family
    else {
        return Err(FieldError::new("family", "`unet` needed"));
    };
    let whole = image_shape(shape, input.width)?;
    let &[_, height, width] = shape.as_slice() else {
        return Err(FieldError::new("input", "[channels, height, width] needed"));
    };
    let halves = 1_u32 << depth;
    if [height, width].iter().any(|n| *n == 0 || n % halves != 0) {
        let message = format!(
            "{height} x {width} can't be halved {depth} times, as often as `depth` says: each side must be a multiple of {halves}"
        );
        return Err(FieldError::new("input", message));
    }
    let outputs = outputs_of(input.target, [height, width])?;
    let mut builder = Builder::default();
    builder.unet(*depth, *channels, *norm, outputs);
    Ok(builder.finish(whole))
}

/// Channels of the prediction at each position.
fn outputs_of(target: Target, [height, width]: [u32; 2]) -> Result<u32, FieldError> {
    let needed = height as usize * width as usize;
    let found = match target {
        Target::Sequence { classes, positions } if positions == needed => Some(classes),
        Target::Values(count) if count.is_multiple_of(needed) => Some(count / needed),
        _ => None,
    };
    let found = found.and_then(|outputs| u32::try_from(outputs).ok());
    found.ok_or_else(|| {
        let given = match target {
            Target::Classes(_) => "one class per row".to_owned(),
            Target::Sequence { positions, .. } | Target::Masked { positions, .. } => format!("{positions} classes per row"),
            Target::Values(count) => format!("{count} numbers per row"),
            Target::Quantiles { .. } => "quantiles".to_owned(),
        };
        let message = format!(
            "`unet` predicts at each position of an image: data.target must hold [{height}, {width}] classes or [n, {height}, {width}] numbers per row, not {given}"
        );
        FieldError::new("family", message)
    })
}

impl Builder {
    fn unet(&mut self, depth: u32, channels: u32, norm: UnetNorm, outputs: u32) {
        for level in 0..depth {
            let at = |name: &str| format!("down.{level}.{name}");
            self.twice(&at, channels << level, norm);
            let pool = Block::MaxPool2d {
                kernel: 2,
                stride: None,
                padding: 0,
            };
            self.named(at("pool"), &[], "depth", pool);
        }
        self.twice(&|name| format!("middle.{name}"), channels << depth, norm);
        for step in 0..depth {
            let at = |name: &str| format!("up.{step}.{name}");
            let level = depth - 1 - step;
            let upconv = Block::ConvTranspose2d {
                channels: channels << level,
                kernel: 2,
                stride: 2,
                padding: 0,
                output_padding: 0,
                bias: true,
            };
            self.named(at("upconv"), &[], "channels", upconv);
            let skip = format!("down.{level}.relu2");
            self.named(at("concat"), &[&skip, &at("upconv")], "", Block::Concat {});
            self.twice(&at, channels << level, norm);
        }
        let head = conv(outputs, 1, true);
        self.named("head".to_owned(), &[], "", head);
    }

    /// Two convolutions, each normalised and then rectified.
    fn twice(&mut self, at: &dyn Fn(&str) -> String, channels: u32, norm: UnetNorm) {
        for index in 1..=2 {
            let epsilon = 1e-5;
            let block = match norm {
                UnetNorm::None => None,
                UnetNorm::Batch => Some(Block::BatchNorm {
                    epsilon,
                    momentum: 0.1,
                }),
                UnetNorm::Group => Some(Block::GroupNorm {
                    groups: 1 << channels.trailing_zeros().min(3),
                    epsilon,
                }),
            };
            let bias = block.is_none();
            let name = format!("conv{index}");
            self.named(at(&name), &[], "channels", conv(channels, 3, bias));
            if let Some(block) = block {
                self.named(at(&format!("norm{index}")), &[], "norm", block);
            }
            let function = Activation::Relu;
            let name = at(&format!("relu{index}"));
            self.named(name, &[], "", Block::Activation { function });
        }
    }
}

/// A convolution that keeps the size of the image.
const fn conv(channels: u32, kernel: u32, bias: bool) -> Block {
    Block::Conv2d {
        channels,
        kernel,
        stride: 1,
        padding: kernel / 2,
        dilation: 1,
        groups: 1,
        bias,
    }
}
