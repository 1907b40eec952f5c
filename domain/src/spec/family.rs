//! The preset families.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::block::{Activation, Cell, Positions};
use super::check::{Checks, WIDTH_MAX};
use crate::error::FieldError;

/// Layers that a block of the `gpt` family expands to.
const GPT_BLOCK_LAYERS: usize = 10;
/// Layers that a block of the `resnet` family expands to, at most.
const RESNET_BLOCK_LAYERS: usize = 12;

/// Most levels of the `unet` family above the lowest one.
const UNET_DEPTH_MAX: u32 = 10;
/// Most blocks of the `tcn` family: the last one's dilation is 2^19.
const TCN_BLOCKS_MAX: usize = 20;

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
    /// position where the target holds classes, else numbers, in PyTorch's order. Layers are named
    /// `down.<i>`, `middle`, `up.<i>` from the lowest level up, and `head`.
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
        /// How positions are told apart.
        #[serde(default, skip_serializing_if = "Positions::is_learned")]
        positions: Positions,
    },
    /// A transformer in which each position sees all others, normalised as in `gpt`, over token ids
    /// or the numbers of each position. The target says what comes of it: a class or values per row
    /// (`head` over the mean of the positions), or a class at each position.
    Encoder {
        /// Shape of one row where it holds numbers and not token ids: `[length, n]`; the column's own
        /// when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Vec<u32>>,
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
        /// How positions are told apart.
        #[serde(default, skip_serializing_if = "Positions::is_learned")]
        positions: Positions,
        /// Share of the positions whose token is to be predicted from the others, above 0 and below
        /// 1; `data.target` is left out. Of these tokens 80 % become a mask of their own, 10 %
        /// another one at random, and 10 % stay (Devlin et al. 2018). A row has at least one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        masked: Option<f32>,
    },
    /// Recurrent layers over a sequence. `head` takes the last position where the target is a class
    /// or values per row, and each where it is a class at each position.
    Lstm {
        /// Shape of one row of numbers: `[length, n]`; the column's own when absent. Features without
        /// such a shape are a sequence of one number per position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Vec<u32>>,
        /// Numbers per token, where the features are token ids and not numbers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        embedding: Option<u32>,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Layers, each over the outputs of the one before; at most 64.
        #[serde(default = "default_layers")]
        layers: u32,
        /// Numbers of a layer's state.
        #[serde(default = "default_units")]
        units: u32,
        /// The cell, which also names the layers' parameters.
        #[serde(default)]
        cell: Cell,
        /// Share of the outputs dropped in training between layers, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
    /// A temporal convolutional network (Bai et al. 2018, without weight normalisation): per entry of
    /// `channels` two causal convolutions with a dilation of 2^index, and a residual around them.
    /// Takes and gives what `lstm` does.
    Tcn {
        /// Shape of one row of numbers: `[length, n]`; the column's own when absent. Features without
        /// such a shape are a sequence of one number per position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Vec<u32>>,
        /// Numbers per token, where the features are token ids and not numbers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        embedding: Option<u32>,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Output channels of each block, at most 20.
        #[serde(default = "default_tcn_channels")]
        channels: Vec<u32>,
        /// Positions of each kernel.
        #[serde(default = "default_kernel")]
        kernel: u32,
        /// Share of each convolution's activations dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
}

const fn default_layers() -> u32 {
    2
}
const fn default_units() -> u32 {
    128
}
fn default_tcn_channels() -> Vec<u32> {
    vec![64; 4]
}

/// What normalises the convolutions of the `unet` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnetNorm {
    /// Batch normalisation.
    #[default]
    Batch,
    /// Group normalisation, of 8 groups or as many as the channels allow.
    Group,
    /// Nothing: the convolutions have a bias instead.
    None,
}

const fn default_levels() -> u32 {
    3
}
const fn default_unet_channels() -> u32 {
    16
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
    /// Whether what is predicted are the features themselves.
    #[must_use]
    pub const fn predicts_features(&self) -> bool {
        match self {
            Self::Encoder { masked, .. } => masked.is_some(),
            Self::Mlp { .. }
            | Self::Cnn { .. }
            | Self::Resnet { .. }
            | Self::Unet { .. }
            | Self::Gpt { .. }
            | Self::Lstm { .. }
            | Self::Tcn { .. } => false,
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
            } => check_unet(checks, *depth, *channels),
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
                ..
            }
            | Self::Encoder {
                depth,
                width,
                heads,
                kv_heads,
                feed_forward,
                vocabulary,
                dropout,
                ..
            } => {
                checks.count("depth", *depth as usize * GPT_BLOCK_LAYERS);
                checks.width("depth".to_owned(), *depth);
                checks.width("width".to_owned(), *width);
                checks.heads("", *heads, *kv_heads);
                checks.divides("heads".to_owned(), *heads, *width, "`width`");
                checks.optional_width("feed_forward".to_owned(), *feed_forward);
                checks.optional_width("vocabulary".to_owned(), *vocabulary);
                checks.share("dropout".to_owned(), *dropout);
                self.validate_masked(checks);
            }
            Self::Lstm {
                embedding,
                vocabulary,
                layers,
                units,
                dropout,
                ..
            } => {
                checks.optional_width("embedding".to_owned(), *embedding);
                checks.optional_width("vocabulary".to_owned(), *vocabulary);
                checks.recurrent("", [*units, *layers], *dropout);
            }
            Self::Tcn {
                embedding,
                vocabulary,
                channels,
                kernel,
                dropout,
                ..
            } => {
                checks.optional_width("embedding".to_owned(), *embedding);
                checks.optional_width("vocabulary".to_owned(), *vocabulary);
                checks.widths("channels", channels);
                checks.width("kernel".to_owned(), *kernel);
                checks.share("dropout".to_owned(), *dropout);
                if !(1..=TCN_BLOCKS_MAX).contains(&channels.len()) {
                    let message =
                        format!("{} given, 1 to {TCN_BLOCKS_MAX} allowed", channels.len());
                    checks.0.push(FieldError::new("channels", message));
                }
            }
        }
    }

    fn validate_masked(&self, checks: &mut Checks) {
        if let Self::Encoder {
            masked: Some(masked),
            ..
        } = self
        {
            checks.share("masked".to_owned(), *masked);
            checks.above_zero("masked".to_owned(), *masked);
        }
    }
}

fn check_unet(checks: &mut Checks, depth: u32, channels: u32) {
    checks.width("channels".to_owned(), channels);
    if !(1..=UNET_DEPTH_MAX).contains(&depth) {
        let message = format!("{depth} is not in 1 to {UNET_DEPTH_MAX}");
        checks.0.push(FieldError::new("depth", message));
    } else if channels <= WIDTH_MAX && channels << depth > WIDTH_MAX {
        let lowest = channels << depth;
        let message = format!(
            "{depth} levels below {channels} channels have {lowest}, at most {WIDTH_MAX} allowed"
        );
        checks.0.push(FieldError::new("depth", message));
    }
}
