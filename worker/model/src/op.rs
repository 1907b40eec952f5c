//! The operations of a plan. One vocabulary from graph to plan: the passes rewrite it.

mod operands;

use serde::{Deserialize, Serialize};
use stoker_domain::spec::Activation;

use crate::geometry::{Attention, Conv, Part, Pool, Span, Upsample};
use crate::recurrent::Recurrence;

/// Index of a value in [`crate::Plan::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub usize);

/// Index of a parameter in [`crate::Plan::parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParameterId(pub usize);

/// One launch: an operation, the layer it belongs to, and how its work is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// The layer as errors name it.
    pub layer: String,
    /// What is computed.
    pub op: Op,
    /// Parts that may run at the same time. Fixed here and not by the host, since sums over rows
    /// are kept per group and added in the order of the groups.
    pub groups: usize,
}

/// An operation on all rows of one virtual shard.
///
/// `x` and `y` are what goes in and comes out; `dx` and `dy` the gradients of the loss's sum over
/// the rows by them; `d` a gradient that is changed in place.
#[expect(
    missing_docs,
    reason = "the fields are operands, named in the text above and in each formula"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `[channels, positions]` to `[positions, channels]`.
    ToChannelsLast {
        x: ValueId,
        y: ValueId,
        channels: usize,
        positions: usize,
    },
    /// `[positions, channels]` to `[channels, positions]`.
    ToChannelsFirst {
        x: ValueId,
        y: ValueId,
        channels: usize,
        positions: usize,
    },
    /// y = f(x Wᵀ + b) at each position, with W `[outputs, inputs]`. `pre` keeps what f saw, where
    /// f's derivative needs it.
    Linear {
        x: ValueId,
        y: ValueId,
        weight: ParameterId,
        bias: Option<ParameterId>,
        activation: Option<Activation>,
        pre: Option<ValueId>,
        /// W transposed, as products read it fastest.
        transposed: Option<ValueId>,
        positions: usize,
        inputs: usize,
        outputs: usize,
    },
    /// dW = dyᵀ x. Groups cut W's rows.
    LinearGradWeight {
        dy: ValueId,
        x: ValueId,
        weight: ParameterId,
        positions: usize,
        inputs: usize,
        outputs: usize,
    },
    /// dx = dy W.
    LinearGradInput {
        dy: ValueId,
        dx: ValueId,
        weight: ParameterId,
        positions: usize,
        inputs: usize,
        outputs: usize,
    },
    /// y = f(conv(x, W) + b), with W `[out_channels, kernel, kernel_width, group_inputs]`.
    Conv2d {
        x: ValueId,
        y: ValueId,
        weight: ParameterId,
        bias: Option<ParameterId>,
        activation: Option<Activation>,
        pre: Option<ValueId>,
        /// W transposed: `[window, out_channels]`, the windows of all parts side by side.
        transposed: Option<ValueId>,
        conv: Conv,
        /// Unfolded windows, a tile per group.
        columns: Option<ValueId>,
    },
    /// dW: the sum over rows and positions of dy ⊗ window.
    Conv2dGradWeight {
        dy: ValueId,
        x: ValueId,
        weight: ParameterId,
        conv: Conv,
        /// Unfolded windows, a tile per group.
        columns: Option<ValueId>,
        /// A sum per group, where there is more than one.
        partials: Option<ValueId>,
    },
    /// dx: each position's dy W, folded back.
    Conv2dGradInput {
        dy: ValueId,
        dx: ValueId,
        weight: ParameterId,
        conv: Conv,
        /// Gradients of the unfolded windows, a tile per group.
        columns: Option<ValueId>,
    },
    /// y = each position's x W, added up where windows overlap, + b. `conv` is the convolution whose
    /// gradient by its input this is: y is that input, and x has its output's shape.
    ConvTranspose {
        x: ValueId,
        y: ValueId,
        weight: ParameterId,
        bias: Option<ParameterId>,
        conv: Conv,
        /// The windows of y, a tile per group.
        columns: Option<ValueId>,
    },
    /// y = x + b, with b along the last dimension.
    AddBias {
        x: ValueId,
        y: ValueId,
        bias: ParameterId,
        columns: usize,
    },
    /// y = f(x).
    Activate {
        x: ValueId,
        y: ValueId,
        function: Activation,
    },
    /// d = d f'(·), and db = the sum of d over all but the last dimension. Either may be absent.
    /// `saved` is y for relu, tanh and sigmoid, x for gelu and silu.
    ActivationBiasGrad {
        d: ValueId,
        function: Option<(Activation, ValueId)>,
        bias: Option<ParameterId>,
        /// Size of the last dimension.
        columns: usize,
        /// A sum per group, where there is more than one.
        partials: Option<ValueId>,
    },
    /// y = the maximum of each window.
    MaxPool { x: ValueId, y: ValueId, pool: Pool },
    /// dx: each window's dy goes to its first maximum.
    MaxPoolGrad {
        dy: ValueId,
        x: ValueId,
        y: ValueId,
        dx: ValueId,
        pool: Pool,
    },
    /// y = the mean of each window, of which what isn't there counts as zeros.
    AveragePool { x: ValueId, y: ValueId, pool: Pool },
    /// dx: each window's dy is shared out.
    AveragePoolGrad {
        dy: ValueId,
        dx: ValueId,
        pool: Pool,
    },
    /// y = the mean of x, `[positions, columns]`, over the positions.
    Mean {
        x: ValueId,
        y: ValueId,
        positions: usize,
        columns: usize,
    },
    /// dx: dy / positions at each position.
    MeanGrad {
        dy: ValueId,
        dx: ValueId,
        positions: usize,
        columns: usize,
    },
    /// y = x enlarged.
    Upsample {
        x: ValueId,
        y: ValueId,
        upsample: Upsample,
    },
    /// dx: what the numbers made of each one give.
    UpsampleGrad {
        dy: ValueId,
        dx: ValueId,
        upsample: Upsample,
    },
    /// A part of y's numbers at each position = x. The parts of a y follow one another.
    Join { x: ValueId, y: ValueId, part: Part },
    /// y = a part of x's numbers at each position.
    Cut { x: ValueId, y: ValueId, part: Part },
    /// y = x with each number dropped with probability `rate`, the rest scaled. In evaluation a
    /// copy.
    Dropout {
        x: ValueId,
        y: ValueId,
        rate: f32,
        site: u16,
    },
    /// d, dropped and scaled alike.
    DropoutGrad { d: ValueId, rate: f32, site: u16 },
    /// y = W's row for each token id in x, with W `[vocabulary, units]`. An id that isn't there
    /// gives numbers that aren't finite.
    Embedding {
        x: ValueId,
        y: ValueId,
        weight: ParameterId,
        vocabulary: usize,
        units: usize,
    },
    /// dW: each row the sum of dy over the positions of its token. Groups cut W's rows.
    EmbeddingGrad {
        dy: ValueId,
        x: ValueId,
        weight: ParameterId,
        vocabulary: usize,
        units: usize,
    },
    /// y = the numbers of x in the spans, side by side.
    Select {
        x: ValueId,
        y: ValueId,
        spans: Vec<Span>,
    },
    /// dx: dy where it was taken from, 0 elsewhere.
    SelectGrad {
        dy: ValueId,
        dx: ValueId,
        spans: Vec<Span>,
    },
    /// y = Σ a b over a row.
    Dot {
        a: ValueId,
        b: ValueId,
        y: ValueId,
        columns: usize,
    },
    /// dx = dy x, with x the other factor.
    DotGrad {
        dy: ValueId,
        x: ValueId,
        dx: ValueId,
        columns: usize,
    },
    /// y = x_i · x_j for j < i, with x `[count, columns]`.
    Interact {
        x: ValueId,
        y: ValueId,
        count: usize,
        columns: usize,
        /// A row of x transposed, per group.
        scratch: Option<ValueId>,
    },
    /// dx_i = the sum over j of the pair's dy times x_j.
    InteractGrad {
        dy: ValueId,
        x: ValueId,
        dx: ValueId,
        count: usize,
        columns: usize,
    },
    /// y = mean + spread, with spread = e^(log_variance / 2) · a standard normal number; in
    /// evaluation y = mean. divergence = Σ (e^log_variance + mean² - 1 - log_variance) / 2, which
    /// counts `beta` in a row's loss.
    Sample {
        mean: ValueId,
        log_variance: ValueId,
        y: ValueId,
        spread: ValueId,
        divergence: ValueId,
        beta: f32,
        site: u16,
    },
    /// dmean = dy + beta mean; dlog_variance = (dy spread + beta (e^log_variance - 1)) / 2.
    SampleGrad {
        dy: ValueId,
        mean: ValueId,
        log_variance: ValueId,
        spread: ValueId,
        d_mean: ValueId,
        d_log_variance: ValueId,
        beta: f32,
    },
    /// y = (x - mean) / deviation · gain + bias over the last dimension; without a bias the mean
    /// stays, and the deviation is the root of the mean square.
    Norm {
        x: ValueId,
        y: ValueId,
        gain: ParameterId,
        bias: Option<ParameterId>,
        /// Mean and 1 / deviation of each position.
        statistics: ValueId,
        /// Size of the last dimension.
        columns: usize,
        epsilon: f32,
    },
    /// dx, and the gradients of gain and bias.
    NormGrad {
        dy: ValueId,
        x: ValueId,
        dx: ValueId,
        gain: ParameterId,
        bias: Option<ParameterId>,
        statistics: ValueId,
        columns: usize,
        /// The sums for gain and bias of each group.
        partials: Option<ValueId>,
    },
    /// y = f((x - mean) / deviation · gain + bias + residual), where f is relu or nothing. In
    /// training mean and deviation are those of each channel over the shard's rows and positions,
    /// and what the running ones need goes to their gradients; in evaluation they are the running
    /// ones.
    BatchNorm {
        x: ValueId,
        y: ValueId,
        residual: Option<ValueId>,
        gain: ParameterId,
        bias: ParameterId,
        /// Running mean and variance.
        running: [ParameterId; 2],
        /// Mean, 1 / deviation, and gain / deviation of each channel.
        statistics: ValueId,
        /// Mean and sum of squared deviations of each channel, per group.
        partials: Option<ValueId>,
        channels: usize,
        relu: bool,
        epsilon: f32,
        momentum: f32,
    },
    /// dx of the same, and the gradients of gain and bias. `dx` may be `d`, which is changed in
    /// place; otherwise d becomes the gradient of the residual.
    BatchNormGrad {
        d: ValueId,
        x: ValueId,
        dx: Option<ValueId>,
        /// What relu gave, where it can't be told from x alone.
        y: Option<ValueId>,
        gain: ParameterId,
        bias: ParameterId,
        statistics: ValueId,
        /// Two sums of each channel, per group.
        partials: Option<ValueId>,
        channels: usize,
        relu: bool,
    },
    /// y = f((x - mean) / deviation · gain + bias), where f is relu or nothing, with mean and
    /// deviation of each part of a row's channels over all positions.
    GroupNorm {
        x: ValueId,
        y: ValueId,
        gain: ParameterId,
        bias: ParameterId,
        /// Mean and 1 / deviation of each part.
        statistics: ValueId,
        /// Four numbers per channel, per group.
        scratch: Option<ValueId>,
        channels: usize,
        parts: usize,
        relu: bool,
        epsilon: f32,
    },
    /// d becomes dx of the same; and the gradients of gain and bias.
    GroupNormGrad {
        d: ValueId,
        x: ValueId,
        gain: ParameterId,
        bias: ParameterId,
        statistics: ValueId,
        /// Six numbers per channel, per group.
        scratch: Option<ValueId>,
        /// The sums for gain and bias of each group.
        partials: Option<ValueId>,
        channels: usize,
        parts: usize,
        relu: bool,
    },
    /// y = softmax(q kᵀ / √head_floats) v for each head.
    Attention {
        x: ValueId,
        y: ValueId,
        /// The softmax of each head: `[heads, length, length]`.
        probabilities: ValueId,
        attention: Attention,
        /// The cosines and sines by which queries and keys are turned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rotary: Option<ValueId>,
        /// Heads laid out for the products, per group.
        scratch: Option<ValueId>,
    },
    /// dx of the same.
    AttentionGrad {
        dy: ValueId,
        x: ValueId,
        dx: ValueId,
        probabilities: ValueId,
        attention: Attention,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rotary: Option<ValueId>,
        scratch: Option<ValueId>,
    },
    /// d = 0 at the positions after each row's end.
    Mask { d: ValueId },
    /// y = the cosines, then the sines, of each position's angles: one for each of the `pairs` of
    /// a head. The same for all rows.
    Angles {
        y: ValueId,
        length: usize,
        pairs: usize,
    },
    /// y = the states of an LSTM or GRU, from x = what its inputs give to the gates, which gets the
    /// gates themselves in its place. W is `weight_hh`, the biases `bias_ih` and `bias_hh`.
    Recurrence {
        x: ValueId,
        y: ValueId,
        weight: ParameterId,
        biases: [ParameterId; 2],
        /// An LSTM's cells, or what a GRU's reset gate lets through: `[length, units]`.
        saved: ValueId,
        /// The state before each position: `[length, units]`.
        previous: ValueId,
        recurrence: Recurrence,
        /// W in blocks, as the products read it fastest, and the biases.
        packed: Option<ValueId>,
        /// States, and a block of products, per group.
        scratch: Option<ValueId>,
    },
    /// The gates' gradients in place of the gates in x, and those of the biases. `inner` gets what
    /// W's gradient is made of, where it isn't the same.
    RecurrenceGrad {
        dy: ValueId,
        x: ValueId,
        weight: ParameterId,
        biases: [ParameterId; 2],
        saved: ValueId,
        previous: ValueId,
        inner: Option<ValueId>,
        recurrence: Recurrence,
        packed: Option<ValueId>,
        scratch: Option<ValueId>,
        /// The sums for the biases of each group.
        partials: Option<ValueId>,
    },
    /// y = x, `[positions, columns]`, at the last position.
    Last {
        x: ValueId,
        y: ValueId,
        positions: usize,
        columns: usize,
    },
    /// dx: dy at the last position, zeros before it.
    LastGrad {
        dy: ValueId,
        dx: ValueId,
        positions: usize,
        columns: usize,
    },
    /// y = a + b.
    Add { a: ValueId, b: ValueId, y: ValueId },
    /// d = d + x: the gradients of two readers.
    AddTo { d: ValueId, x: ValueId },
    /// y = x.
    Copy { x: ValueId, y: ValueId },
}

/// Whether an activation's derivative is taken from its input and not from its output.
pub(crate) const fn needs_input(function: Activation) -> bool {
    matches!(function, Activation::Gelu | Activation::Silu)
}
