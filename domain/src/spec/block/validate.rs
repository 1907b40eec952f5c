//! Which sizes and settings of a block are allowed.

use super::Block;
use crate::error::FieldError;
use crate::spec::check::Checks;

/// Largest factor of an `upsample`.
const FACTOR_MAX: u32 = 64;

impl Block {
    pub(in crate::spec) fn validate(&self, at: &str, checks: &mut Checks) {
        match self {
            Self::Linear { units, .. } => checks.width(format!("{at}.units"), *units),
            Self::Conv1d { .. }
            | Self::Conv2d { .. }
            | Self::ConvTranspose1d { .. }
            | Self::ConvTranspose2d { .. }
            | Self::MaxPool1d { .. }
            | Self::AvgPool1d { .. }
            | Self::MaxPool2d { .. }
            | Self::AvgPool2d { .. } => self.validate_windows(at, checks),
            Self::Upsample { factor, .. } => {
                if !(1..=FACTOR_MAX).contains(factor) {
                    let message = format!("{factor} is not in 1 to {FACTOR_MAX}");
                    let field = format!("{at}.factor");
                    checks.0.push(FieldError::new(field, message));
                }
            }
            Self::Dropout { rate } => checks.share(format!("{at}.rate"), *rate),
            Self::Embedding {
                units,
                vocabulary,
                deviation,
            } => {
                checks.width(format!("{at}.units"), *units);
                checks.optional_width(format!("{at}.vocabulary"), *vocabulary);
                checks.above_zero(format!("{at}.deviation"), *deviation);
            }
            Self::Select {
                columns,
                first,
                count,
            } => {
                checks.selection(at, columns, *first, *count);
            }
            Self::Sample { beta } => checks.not_negative(format!("{at}.beta"), *beta),
            Self::Bias { value } => checks.finite(format!("{at}.value"), *value),
            _ => self.validate_sequence(at, checks),
        }
    }

    /// Blocks over sequences, and norms.
    fn validate_sequence(&self, at: &str, checks: &mut Checks) {
        match self {
            Self::Position { deviation } => {
                checks.above_zero(format!("{at}.deviation"), *deviation);
            }
            Self::LayerNorm { epsilon } | Self::RmsNorm { epsilon } => {
                checks.above_zero(format!("{at}.epsilon"), *epsilon);
            }
            Self::BatchNorm { epsilon, momentum } => {
                checks.above_zero(format!("{at}.epsilon"), *epsilon);
                checks.momentum(format!("{at}.momentum"), *momentum);
            }
            Self::GroupNorm { groups, epsilon } => {
                checks.width(format!("{at}.groups"), *groups);
                checks.above_zero(format!("{at}.epsilon"), *epsilon);
            }
            Self::Attention {
                heads, kv_heads, ..
            } => checks.heads(&format!("{at}."), *heads, *kv_heads),
            Self::Lstm {
                units,
                layers,
                dropout,
            }
            | Self::Gru {
                units,
                layers,
                dropout,
            } => checks.recurrent(&format!("{at}."), [*units, *layers], *dropout),
            _ => {}
        }
    }

    fn validate_windows(&self, at: &str, checks: &mut Checks) {
        match self {
            Self::Conv1d {
                channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                causal,
                ..
            } => {
                let sizes = [*channels, *kernel, *stride, *dilation, *groups];
                checks.conv(at, sizes);
                if *causal && *padding > 0 {
                    let message = "a causal convolution has a padding of its own: leave it out";
                    checks
                        .0
                        .push(FieldError::new(format!("{at}.padding"), message));
                }
            }
            Self::Conv2d {
                channels,
                kernel,
                stride,
                dilation,
                groups,
                ..
            } => {
                let sizes = [*channels, *kernel, *stride, *dilation, *groups];
                checks.conv(at, sizes);
            }
            Self::ConvTranspose1d {
                channels,
                kernel,
                stride,
                output_padding,
                ..
            }
            | Self::ConvTranspose2d {
                channels,
                kernel,
                stride,
                output_padding,
                ..
            } => {
                checks.conv(at, [*channels, *kernel, *stride, 1, 1]);
                if output_padding >= stride {
                    let message = format!("{output_padding} is not less than `stride`, {stride}");
                    let field = format!("{at}.output_padding");
                    checks.0.push(FieldError::new(field, message));
                }
            }
            _ => self.validate_pool(at, checks),
        }
    }

    fn validate_pool(&self, at: &str, checks: &mut Checks) {
        match self {
            Self::MaxPool1d {
                kernel,
                stride,
                padding,
            }
            | Self::AvgPool1d {
                kernel,
                stride,
                padding,
            }
            | Self::MaxPool2d {
                kernel,
                stride,
                padding,
            }
            | Self::AvgPool2d {
                kernel,
                stride,
                padding,
            } => {
                checks.width(format!("{at}.kernel"), *kernel);
                checks.width(format!("{at}.stride"), stride.unwrap_or(1));
                if *padding > kernel / 2 {
                    let message = format!("{padding} is more than half of the kernel, {kernel}");
                    checks
                        .0
                        .push(FieldError::new(format!("{at}.padding"), message));
                }
            }
            _ => {}
        }
    }
}
