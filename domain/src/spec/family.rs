//! The preset families.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::autoencoder::Autoencoder;
use super::block::Activation;
use super::check::{Checks, WIDTH_MAX};
use super::recommender::Recommender;
use crate::error::FieldError;

/// Layers that a block of the `gpt` family expands to.
const GPT_BLOCK_LAYERS: usize = 10;

/// Most levels of the `unet` family above the lowest one.
const UNET_DEPTH_MAX: u32 = 10;

/// The preset families.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum Family {
    /// A multi-layer perceptron.
    Mlp {
        /// Units of each hidden layer.
        #[serde(default = "default_hidden")]
        hidden: Vec<u32>,
        /// After each hidden layer.
        #[serde(default)]
        activation: Activation,
        /// Share of hidden activations dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
    /// A convolutional network: per entry of `channels` a convolution with "same" padding and the
    /// activation, then max pooling; then the dense layers.
    Cnn {
        /// Shape of one row: channels, height, width.
        input: Vec<u32>,
        /// Output channels of each convolution.
        #[serde(default = "default_channels")]
        channels: Vec<u32>,
        /// Height and width of each kernel; odd.
        #[serde(default = "default_kernel")]
        kernel: u32,
        /// Height, width and stride of the max pooling after each convolution; 1 for none.
        #[serde(default = "default_pool")]
        pool: u32,
        /// Units of each dense layer before the output.
        #[serde(default = "default_dense")]
        dense: Vec<u32>,
        /// After each convolution and dense layer.
        #[serde(default)]
        activation: Activation,
        /// Share of dense activations dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
    /// A network that gives a prediction at each position of an image (Ronneberger et al. 2015):
    /// levels of two convolutions each with max pooling between them, then back up by transposed
    /// convolutions, with what the level had on the way down beside it. Predicts a class per
    /// position where the target holds classes, else numbers, in PyTorch's order.
    Unet {
        /// Shape of one row: channels, height, width; 2 to the power of `depth` divides height and
        /// width.
        input: Vec<u32>,
        /// Levels above the lowest one, 1 to 10.
        #[serde(default = "default_levels")]
        depth: u32,
        /// Channels of the first level, doubled by each one below it.
        #[serde(default = "default_unet_channels")]
        channels: u32,
        /// What normalises each convolution's output.
        #[serde(default)]
        norm: UnetNorm,
    },
    /// A decoder-only transformer over token ids, which predicts the token at each position
    /// (Radford et al. 2019: normalisation before each half of a block).
    Gpt {
        /// Blocks of attention and feed-forward layers.
        #[serde(default = "default_depth")]
        depth: u32,
        /// Numbers per position.
        #[serde(default = "default_model_width")]
        width: u32,
        /// Attention heads; divides `width`.
        #[serde(default = "default_heads")]
        heads: u32,
        /// Heads of keys and values, shared by groups of heads; divides `heads`, which it is when
        /// absent (Ainslie et al. 2023).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kv_heads: Option<u32>,
        /// Units of the feed-forward layers; 4 times `width` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feed_forward: Option<u32>,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Share of each half's output dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
    /// Scores a user and an item.
    Recommender(Recommender),
    /// Makes its features small, and makes them again of that.
    Autoencoder(Autoencoder),
}

/// What normalises the convolutions of the `unet` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnetNorm {
    /// Nothing: the convolutions have a bias instead.
    #[default]
    None,
}

const fn default_levels() -> u32 {
    3
}
const fn default_unet_channels() -> u32 {
    16
}

const fn default_depth() -> u32 {
    4
}
const fn default_model_width() -> u32 {
    128
}
const fn default_heads() -> u32 {
    4
}

fn default_hidden() -> Vec<u32> {
    vec![128]
}
fn default_channels() -> Vec<u32> {
    vec![32, 64]
}
const fn default_kernel() -> u32 {
    3
}
const fn default_pool() -> u32 {
    2
}
fn default_dense() -> Vec<u32> {
    vec![128]
}

impl Family {
    /// Whether what is predicted are the features themselves.
    #[must_use]
    pub const fn predicts_features(&self) -> bool {
        match self {
            Self::Autoencoder(_) => true,
            Self::Mlp { .. }
            | Self::Cnn { .. }
            | Self::Unet { .. }
            | Self::Gpt { .. }
            | Self::Recommender(_) => false,
        }
    }

    pub(super) fn validate(&self, checks: &mut Checks) {
        match self {
            Self::Mlp {
                hidden, dropout, ..
            } => {
                checks.widths("hidden", hidden);
                checks.share("dropout".to_owned(), *dropout);
            }
            Self::Cnn {
                channels,
                kernel,
                pool,
                dense,
                dropout,
                ..
            } => {
                checks.widths("channels", channels);
                checks.widths("dense", dense);
                checks.share("dropout".to_owned(), *dropout);
                checks.width("kernel".to_owned(), *kernel);
                checks.width("pool".to_owned(), *pool);
                if kernel % 2 == 0 {
                    let message = format!("{kernel} is even; \"same\" padding needs an odd kernel");
                    checks.0.push(FieldError::new("kernel", message));
                }
            }
            Self::Unet {
                depth, channels, ..
            } => {
                checks.width("channels".to_owned(), *channels);
                let depths = 1..=UNET_DEPTH_MAX;
                if !depths.contains(depth) {
                    let message = format!("{depth} is not in 1 to {UNET_DEPTH_MAX}");
                    checks.0.push(FieldError::new("depth", message));
                } else if *channels <= WIDTH_MAX && channels << depth > WIDTH_MAX {
                    let lowest = channels << depth;
                    let message = format!(
                        "{depth} levels below {channels} channels have {lowest}, at most {WIDTH_MAX} allowed"
                    );
                    checks.0.push(FieldError::new("depth", message));
                }
            }
            Self::Gpt {
                depth,
                width,
                heads,
                kv_heads,
                feed_forward,
                vocabulary,
                dropout,
            } => {
                checks.count("depth", *depth as usize * GPT_BLOCK_LAYERS);
                checks.width("depth".to_owned(), *depth);
                checks.width("width".to_owned(), *width);
                checks.heads("", *heads, *kv_heads);
                checks.divides("heads".to_owned(), *heads, *width, "`width`");
                checks.optional_width("feed_forward".to_owned(), *feed_forward);
                checks.optional_width("vocabulary".to_owned(), *vocabulary);
                checks.share("dropout".to_owned(), *dropout);
            }
            Self::Recommender(recommender) => recommender.validate(checks),
            Self::Autoencoder(autoencoder) => autoencoder.validate(checks),
        }
    }
}
