//! The preset families.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::block::Activation;
use super::check::Checks;
use crate::error::FieldError;

/// Layers that a block of the `gpt` family expands to.
const GPT_BLOCK_LAYERS: usize = 10;
/// Layers that a block of the `resnet` family expands to, at most.
const RESNET_BLOCK_LAYERS: usize = 12;

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
    /// A residual network over images (He et al. 2016): per entry of `depths` that many blocks of
    /// convolutions with batch normalisation, halved in height and width from the second entry on;
    /// then the mean over all positions and a linear layer. Parameters are named as in torchvision.
    Resnet {
        /// Shape of one row: channels, height, width.
        input: Vec<u32>,
        /// Blocks of each stage.
        #[serde(default = "default_depths")]
        depths: Vec<u32>,
        /// Channels of each stage's blocks; bottlenecks give 4 times as many.
        #[serde(default = "default_stages")]
        channels: Vec<u32>,
        /// What comes before the first stage.
        #[serde(default)]
        stem: Stem,
        /// What a block is.
        #[serde(default, skip_serializing_if = "ResidualBlock::is_basic")]
        block: ResidualBlock,
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
}

/// The first layers of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A convolution of 3 x 3, which keeps height and width: for small images.
    #[default]
    Small,
    /// A convolution of 7 x 7 with stride 2, then max pooling of 3 x 3 with stride 2.
    Large,
}

/// A block of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResidualBlock {
    /// Two convolutions of 3 x 3.
    #[default]
    Basic,
    /// Convolutions of 1 x 1, 3 x 3 (which has the stride) and 1 x 1, the last to 4 times the
    /// channels.
    Bottleneck,
}

impl ResidualBlock {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_basic(&self) -> bool {
        *self == Self::Basic
    }
}

fn default_depths() -> Vec<u32> {
    vec![2, 2, 2, 2]
}
fn default_stages() -> Vec<u32> {
    vec![64, 128, 256, 512]
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
            Self::Resnet {
                depths, channels, ..
            } => {
                checks.widths("depths", depths);
                checks.widths("channels", channels);
                let blocks = depths.iter().fold(0_u32, |all, &n| all.saturating_add(n));
                let layers = (blocks as usize).saturating_mul(RESNET_BLOCK_LAYERS);
                checks.count("depths", layers);
                let (stages, given) = (depths.len(), channels.len());
                if stages == 0 || stages != given {
                    let message =
                        format!("{given} given for {stages} `depths`: one each, at least 1");
                    checks.0.push(FieldError::new("channels", message));
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
        }
    }
}
