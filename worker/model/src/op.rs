//! The operations of a plan. One vocabulary from graph to plan: the passes rewrite it.

use serde::{Deserialize, Serialize};
use stoker_domain::spec::Activation;

use crate::geometry::{Attention, Conv, Pool};

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
    /// y = softmax(q kᵀ / √head_floats) v for each head.
    Attention {
        x: ValueId,
        y: ValueId,
        /// The softmax of each head: `[heads, length, length]`.
        probabilities: ValueId,
        attention: Attention,
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
        scratch: Option<ValueId>,
    },
    /// d = 0 at the positions after each row's end.
    Mask { d: ValueId },
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

impl Op {
    /// What it reads, then what it writes. A value in both is changed in place.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table with a line per operation")]
    pub fn values(&self) -> (Vec<ValueId>, Vec<ValueId>) {
        let some = |ids: &[Option<ValueId>]| ids.iter().flatten().copied().collect::<Vec<_>>();
        match self {
            Self::ToChannelsLast { x, y, .. }
            | Self::ToChannelsFirst { x, y, .. }
            | Self::AddBias { x, y, .. }
            | Self::Activate { x, y, .. }
            | Self::MaxPool { x, y, .. }
            | Self::AveragePool { x, y, .. }
            | Self::Mean { x, y, .. }
            | Self::Dropout { x, y, .. }
            | Self::Embedding { x, y, .. }
            | Self::Copy { x, y } => (vec![*x], vec![*y]),
            Self::Linear {
                x,
                y,
                pre,
                transposed,
                ..
            } => (vec![*x], some(&[Some(*y), *pre, *transposed])),
            Self::Conv2d {
                x,
                y,
                pre,
                transposed,
                columns,
                ..
            } => (vec![*x], some(&[Some(*y), *pre, *transposed, *columns])),
            Self::LinearGradWeight { dy, x, .. } | Self::EmbeddingGrad { dy, x, .. } => {
                (vec![*dy, *x], Vec::new())
            }
            Self::Norm {
                x, y, statistics, ..
            } => (vec![*x], vec![*y, *statistics]),
            Self::NormGrad {
                dy,
                x,
                dx,
                statistics,
                partials,
                ..
            } => (vec![*dy, *x, *statistics], some(&[Some(*dx), *partials])),
            Self::Attention {
                x,
                y,
                probabilities,
                scratch,
                ..
            } => (vec![*x], some(&[Some(*y), Some(*probabilities), *scratch])),
            Self::AttentionGrad {
                dy,
                x,
                dx,
                probabilities,
                scratch,
                ..
            } => (vec![*dy, *x, *probabilities], some(&[Some(*dx), *scratch])),
            Self::Add { a, b, y } => (vec![*a, *b], vec![*y]),
            Self::AddTo { d, x } => (vec![*d, *x], vec![*d]),
            Self::LinearGradInput { dy, dx, .. }
            | Self::AveragePoolGrad { dy, dx, .. }
            | Self::MeanGrad { dy, dx, .. } => (vec![*dy], vec![*dx]),
            Self::Conv2dGradWeight {
                dy,
                x,
                columns,
                partials,
                ..
            } => (vec![*dy, *x], some(&[*columns, *partials])),
            Self::Conv2dGradInput {
                dy, dx, columns, ..
            } => (vec![*dy], some(&[Some(*dx), *columns])),
            Self::ActivationBiasGrad {
                d,
                function,
                partials,
                ..
            } => (
                some(&[Some(*d), function.map(|(_, saved)| saved)]),
                some(&[Some(*d), *partials]),
            ),
            Self::MaxPoolGrad { dy, x, y, dx, .. } => (vec![*dy, *x, *y], vec![*dx]),
            Self::Mask { d } | Self::DropoutGrad { d, .. } => (vec![*d], vec![*d]),
        }
    }

    /// The gradients of parameters that it writes.
    #[must_use]
    pub const fn gradients(&self) -> [Option<ParameterId>; 2] {
        match self {
            Self::LinearGradWeight { weight, .. }
            | Self::Conv2dGradWeight { weight, .. }
            | Self::EmbeddingGrad { weight, .. } => [Some(*weight), None],
            Self::ActivationBiasGrad { bias, .. } => [*bias, None],
            Self::NormGrad { gain, bias, .. } => [Some(*gain), *bias],
            _ => [None, None],
        }
    }

    /// Whether it has parameters.
    #[must_use]
    pub const fn is_parametric(&self) -> bool {
        matches!(
            self,
            Self::Linear { .. }
                | Self::Conv2d { .. }
                | Self::AddBias { .. }
                | Self::Embedding { .. }
                | Self::Norm { .. }
        )
    }
}
