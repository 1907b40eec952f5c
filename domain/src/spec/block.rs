//! The blocks of which a model is made.

mod validate;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::autoencoder::default_beta;

/// Element-wise non-linearities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Exact GELU: x Φ(x) (Hendrycks & Gimpel 2016).
    Gelu,
    /// x σ(x) (Elfwing et al. 2017).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

/// What an `upsample` puts between the numbers that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// The number that is nearest.
    #[default]
    Nearest,
    /// Linear between the two or four nearest ones, as PyTorch does it with
    /// `align_corners = False`.
    Bilinear,
}

/// How a position of a transformer is told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector is added to each.
    #[default]
    Learned,
    /// Queries and keys are turned by an angle that grows with the position (Su et al. 2021).
    Rotary,
}

impl Positions {
    pub(super) fn is_learned(&self) -> bool {
        *self == Self::Learned
    }
}

/// A recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory (Hochreiter & Schmidhuber 1997).
    #[default]
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014), as PyTorch has it.
    Gru,
}

/// What a block does. Shapes are per row: `[features]`, `[length, features]` or
/// `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// y = x Wᵀ + b over the last dimension; `[…, n]` to `[…, units]`. Weight `[units, n]`, as
    /// PyTorch has it.
    Linear {
        /// Output features.
        units: u32,
        /// Whether b is there.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// 1-D cross-correlation along a sequence; `[length, n]` to `[length', channels]`. Weight
    /// `[channels, n / groups, kernel]`.
    Conv1d {
        /// Output channels.
        channels: u32,
        /// Positions of the kernel.
        kernel: u32,
        /// Step of the window.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        stride: u32,
        /// Zeros added on each side.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
        /// Positions from one number of a window to the next.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        dilation: u32,
        /// Parts of the channels that see nothing of each other; divides n and `channels`.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        groups: u32,
        /// Whether zeros are added before the sequence alone, `dilation * (kernel - 1)` of them: a
        /// position sees itself and those before it.
        #[serde(default, skip_serializing_if = "is_false")]
        causal: bool,
        /// Whether a bias per channel is added.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// 2-D cross-correlation; `[c, h, w]` to `[channels, h', w']`. Weight
    /// `[channels, c / groups, k, k]`.
    Conv2d {
        /// Output channels.
        channels: u32,
        /// Height and width of the kernel.
        kernel: u32,
        /// Step of the window.
        #[serde(default = "default_one")]
        stride: u32,
        /// Zeros added on each side.
        #[serde(default)]
        padding: u32,
        /// Rows and columns from one number of a window to the next.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        dilation: u32,
        /// Parts of the channels that see nothing of each other; divides c and `channels`, and is
        /// c for a depthwise convolution.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        groups: u32,
        /// Whether a bias per channel is added.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// The transpose of a convolution along a sequence, as PyTorch's `ConvTranspose1d`;
    /// `[length, n]` to `[length', channels]`. Weight `[n, channels, kernel]`.
    ConvTranspose1d {
        /// Output channels.
        channels: u32,
        /// Positions of the kernel.
        kernel: u32,
        /// Positions from one window of the output to the next.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        stride: u32,
        /// Positions taken off each end of the output.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
        /// Positions added to the output's end; less than `stride`.
        #[serde(default, skip_serializing_if = "is_zero")]
        output_padding: u32,
        /// Whether a bias per channel is added.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// The transpose of a convolution over an image, as PyTorch's `ConvTranspose2d`; `[c, h, w]` to
    /// `[channels, h', w']` with h' = (h - 1) `stride` - 2 `padding` + `kernel` + `output_padding`.
    /// Weight `[c, channels, k, k]`.
    ConvTranspose2d {
        /// Output channels.
        channels: u32,
        /// Height and width of the kernel.
        kernel: u32,
        /// Rows and columns from one window of the output to the next.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        stride: u32,
        /// Rows and columns taken off each side of the output.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
        /// Rows and columns added below and on the right of the output; less than `stride`.
        #[serde(default, skip_serializing_if = "is_zero")]
        output_padding: u32,
        /// Whether a bias per channel is added.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// Maximum over windows along a sequence; `[length, n]` to `[length', n]`.
    MaxPool1d {
        /// Positions of the window.
        kernel: u32,
        /// Step of the window; the kernel's size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<u32>,
        /// Positions added on each side, which no maximum takes; at most half of `kernel`.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
    },
    /// Mean over windows along a sequence, padding counted as zeros; `[length, n]` to
    /// `[length', n]`.
    AvgPool1d {
        /// Positions of the window.
        kernel: u32,
        /// Step of the window; the kernel's size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<u32>,
        /// Zeros added on each side; at most half of `kernel`.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
    },
    /// Maximum over windows.
    MaxPool2d {
        /// Height and width of the window.
        kernel: u32,
        /// Step of the window; the kernel's size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<u32>,
        /// Rows and columns added on each side, which no maximum takes; at most half of `kernel`.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
    },
    /// Mean over windows, padding counted as zeros.
    AvgPool2d {
        /// Height and width of the window.
        kernel: u32,
        /// Step of the window; the kernel's size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<u32>,
        /// Zeros added on each side; at most half of `kernel`.
        #[serde(default, skip_serializing_if = "is_zero")]
        padding: u32,
    },
    /// Mean over all positions; `[c, h, w]` to `[c]`, `[length, n]` to `[n]`.
    GlobalAvgPool {},
    /// Maximum over all positions; `[c, h, w]` to `[c]`, `[length, n]` to `[n]`.
    GlobalMaxPool {},
    /// Makes an image or a sequence `factor` times as large on each side; `[c, h, w]` to
    /// `[c, h · factor, w · factor]`, `[length, n]` to `[length · factor, n]`.
    Upsample {
        /// How often each row and column comes, 1 to 64.
        factor: u32,
        /// What is between the numbers.
        #[serde(default, skip_serializing_if = "is_nearest")]
        mode: Upsampling,
    },
    /// Any shape to `[n]`.
    Flatten {},
    /// An element-wise non-linearity.
    Activation {
        /// Which.
        function: Activation,
    },
    /// Drops each element with probability `rate` in training and scales the rest by 1 / (1 - rate).
    Dropout {
        /// 0 up to, not including, 1.
        rate: f32,
    },
    /// A vector per token id; `[length]` to `[length, units]`. Weight `[vocabulary, units]`.
    Embedding {
        /// Numbers per token.
        units: u32,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Standard deviation of the initial weights.
        #[serde(default = "default_embedding_deviation")]
        deviation: f32,
    },
    /// Some of a row's numbers, side by side; `[n]` to `[m]`: columns by name, or `count` numbers
    /// from `first` on.
    Select {
        /// Feature columns of the data set, in the order wanted; only of the rows themselves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        columns: Vec<String>,
        /// The first number taken; 0 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u32>,
        /// Numbers taken; excludes `columns`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// The inner product of its two inputs, which have one shape; to `[1]`.
    Dot {},
    /// The inner products of all pairs of its inputs' vectors (Naumov et al. 2019): k vectors, one
    /// of each `[n]` and `length` of each `[length, n]`, to `[k (k - 1) / 2]` in the order (1, 0),
    /// (2, 0), (2, 1), …
    Interact {},
    /// Adds a learned number to each; `[n]` to the same. Its parameter, `[n]`, bears the layer's
    /// own name, as an `nn.Parameter` does.
    Bias {
        /// What they start as.
        #[serde(default)]
        value: f32,
    },
    /// A sample of the normal distributions whose means and logarithms of variances its two inputs
    /// hold (Kingma & Welling 2014); `[n]` twice, to the same. In evaluation the means. Adds to a
    /// row's loss `beta` times the divergence of the distributions from standard normal ones.
    Sample {
        /// What the divergence counts.
        #[serde(default = "default_beta")]
        beta: f32,
    },
    /// Adds a learned vector per position; `[length, n]` to the same. Weight `[length, n]`.
    Position {
        /// Standard deviation of the initial weights.
        #[serde(default = "default_position_deviation")]
        deviation: f32,
    },
    /// Layer normalisation over the last dimension (Ba et al. 2016), with gain and bias.
    LayerNorm {
        /// Added to the variance.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
    },
    /// Normalisation by the root of the mean square of the last dimension (Zhang & Sennrich
    /// 2019), with gain.
    RmsNorm {
        /// Added to the mean square.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
    },
    /// Normalisation of each channel by the mean and variance over a shard's rows and positions
    /// (Ioffe & Szegedy 2015), with gain and bias; `[c, h, w]`, `[length, n]` or `[n]` to the same.
    /// Each virtual shard normalises by its own rows; one optimiser step blends what all its shards
    /// saw into the running statistics, by which evaluation normalises. A shard of one row and
    /// position has a variance of 0, which gives the bias.
    BatchNorm {
        /// Added to the variance.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
        /// Share of a step's statistics in the running ones, above 0 up to 1.
        #[serde(default = "default_momentum")]
        momentum: f32,
    },
    /// Normalisation of groups of channels by mean and variance over all positions of a row (Wu &
    /// He 2018), with gain and bias per channel; `[c, h, w]`, `[length, n]` or `[n]` to the same.
    GroupNorm {
        /// Groups of neighbouring channels; divides the channels.
        groups: u32,
        /// Added to the variance.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
    },
    /// Multi-head self-attention with its projections (Vaswani et al. 2017); `[length, n]` to the
    /// same. Names and shapes of PyTorch's `MultiheadAttention`; with fewer `kv_heads`,
    /// `in_proj_weight` has that many fewer rows.
    Attention {
        /// Heads; divides n.
        heads: u32,
        /// Heads of keys and values, shared by groups of heads; divides `heads`, which it is when
        /// absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kv_heads: Option<u32>,
        /// Whether a position sees itself and those before it only.
        #[serde(default)]
        causal: bool,
        /// Whether the projections have biases.
        #[serde(default = "default_true")]
        bias: bool,
        /// Whether queries and keys are turned by an angle that grows with the position (Su et al.
        /// 2021): number i of a head's first half and number i of its second half make a pair,
        /// turned by position / 10000^(2i / numbers of a head). These must be even.
        #[serde(default, skip_serializing_if = "is_false")]
        rotary: bool,
    },
    /// Layers of long short-term memory (Hochreiter & Schmidhuber 1997), which start from zeros;
    /// `[length, n]` to `[length, units]`. Names, shapes and gates (input, forget, cell, output) of
    /// PyTorch's `LSTM`.
    Lstm {
        /// Numbers of the state.
        units: u32,
        /// Layers, each over the outputs of the one before; at most 64.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        layers: u32,
        /// Share of the outputs dropped in training between layers, 0 up to, not including, 1.
        #[serde(default, skip_serializing_if = "is_none_dropped")]
        dropout: f32,
    },
    /// Layers of gated recurrent units (Cho et al. 2014), which start from zeros; `[length, n]` to
    /// `[length, units]`. Names, shapes and gates (reset, update, new) of PyTorch's `GRU`.
    Gru {
        /// Numbers of the state.
        units: u32,
        /// Layers, each over the outputs of the one before; at most 64.
        #[serde(default = "default_one", skip_serializing_if = "is_one")]
        layers: u32,
        /// Share of the outputs dropped in training between layers, 0 up to, not including, 1.
        #[serde(default, skip_serializing_if = "is_none_dropped")]
        dropout: f32,
    },
    /// The last position of a sequence; `[length, n]` to `[n]`.
    LastPosition {},
    /// The sum of its inputs, which all have one shape: a residual connection.
    Add {},
    /// Its inputs side by side: images along their channels, sequences along the numbers of a
    /// position, flat inputs one after the other. 2 to 16 of them, alike in all other dimensions.
    Concat {},
}

const fn default_embedding_deviation() -> f32 {
    1.0
}
const fn default_position_deviation() -> f32 {
    0.02
}
const fn default_norm_epsilon() -> f32 {
    1e-5
}
const fn default_momentum() -> f32 {
    0.1
}

const fn default_true() -> bool {
    true
}
const fn default_one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_one(value: &u32) -> bool {
    *value == 1
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_nearest(mode: &Upsampling) -> bool {
    matches!(mode, Upsampling::Nearest)
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none_dropped(rate: &f32) -> bool {
    *rate == 0.0
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Block {
    /// The block's type as it is written in a spec.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv1d { .. } => "conv1d",
            Self::Conv2d { .. } => "conv2d",
            Self::ConvTranspose1d { .. } => "conv_transpose1d",
            Self::ConvTranspose2d { .. } => "conv_transpose2d",
            Self::MaxPool1d { .. } => "max_pool1d",
            Self::AvgPool1d { .. } => "avg_pool1d",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::AvgPool2d { .. } => "avg_pool2d",
            Self::GlobalAvgPool {} => "global_avg_pool",
            Self::GlobalMaxPool {} => "global_max_pool",
            Self::Upsample { .. } => "upsample",
            Self::Flatten {} => "flatten",
            Self::Activation { .. } => "activation",
            Self::Dropout { .. } => "dropout",
            Self::Embedding { .. } => "embedding",
            Self::Select { .. } => "select",
            Self::Dot {} => "dot",
            Self::Interact {} => "interact",
            Self::Bias { .. } => "bias",
            Self::Sample { .. } => "sample",
            Self::Position { .. } => "position",
            Self::LayerNorm { .. } => "layer_norm",
            Self::RmsNorm { .. } => "rms_norm",
            Self::BatchNorm { .. } => "batch_norm",
            Self::GroupNorm { .. } => "group_norm",
            Self::Attention { .. } => "attention",
            Self::Lstm { .. } => "lstm",
            Self::Gru { .. } => "gru",
            Self::LastPosition {} => "last_position",
            Self::Add {} => "add",
            Self::Concat {} => "concat",
        }
    }
}
