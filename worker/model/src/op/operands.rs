//! What each operation reads and writes: the table by which values live and gradients flow.

use super::{Op, ParameterId, ValueId};

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
            | Self::Upsample { x, y, .. }
            | Self::Join { x, y, .. }
            | Self::Cut { x, y, .. }
            | Self::Last { x, y, .. }
            | Self::Dropout { x, y, .. }
            | Self::Embedding { x, y, .. }
            | Self::Select { x, y, .. }
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
            Self::ConvTranspose { x, y, columns, .. } => (vec![*x], some(&[Some(*y), *columns])),
            Self::LinearGradWeight { dy, x, .. } | Self::EmbeddingGrad { dy, x, .. } => {
                (vec![*dy, *x], Vec::new())
            }
            Self::Dot { a, b, y, .. } => (vec![*a, *b], vec![*y]),
            Self::DotGrad { dy, x, dx, .. } | Self::InteractGrad { dy, x, dx, .. } => {
                (vec![*dy, *x], vec![*dx])
            }
            Self::Sample {
                mean,
                log_variance,
                y,
                spread,
                divergence,
                ..
            } => (vec![*mean, *log_variance], vec![*y, *spread, *divergence]),
            Self::SampleGrad {
                dy,
                mean,
                log_variance,
                spread,
                d_mean,
                d_log_variance,
                ..
            } => (
                vec![*dy, *mean, *log_variance, *spread],
                vec![*d_mean, *d_log_variance],
            ),
            Self::Interact { x, y, scratch, .. } => (vec![*x], some(&[Some(*y), *scratch])),
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
            Self::BatchNorm {
                x,
                y,
                residual,
                statistics,
                partials,
                ..
            } => (
                some(&[Some(*x), *residual]),
                some(&[Some(*y), Some(*statistics), *partials]),
            ),
            Self::BatchNormGrad {
                d,
                x,
                dx,
                y,
                statistics,
                partials,
                ..
            } => (
                some(&[Some(*d), Some(*x), *y, Some(*statistics)]),
                some(&[Some(*d), dx.filter(|dx| dx != d), *partials]),
            ),
            Self::GroupNorm {
                x,
                y,
                statistics,
                scratch,
                ..
            } => (vec![*x], some(&[Some(*y), Some(*statistics), *scratch])),
            Self::GroupNormGrad {
                d,
                x,
                statistics,
                scratch,
                partials,
                ..
            } => (
                vec![*d, *x, *statistics],
                some(&[Some(*d), *scratch, *partials]),
            ),
            Self::Attention {
                x,
                y,
                probabilities,
                rotary,
                scratch,
                ..
            } => (
                some(&[Some(*x), *rotary]),
                some(&[Some(*y), Some(*probabilities), *scratch]),
            ),
            Self::AttentionGrad {
                dy,
                x,
                dx,
                probabilities,
                rotary,
                scratch,
                ..
            } => (
                some(&[Some(*dy), Some(*x), Some(*probabilities), *rotary]),
                some(&[Some(*dx), *scratch]),
            ),
            Self::Angles { y, .. } => (Vec::new(), vec![*y]),
            Self::Recurrence {
                x,
                y,
                saved,
                previous,
                packed,
                scratch,
                ..
            } => (
                vec![*x],
                some(&[
                    Some(*y),
                    Some(*x),
                    Some(*saved),
                    Some(*previous),
                    *packed,
                    *scratch,
                ]),
            ),
            Self::RecurrenceGrad {
                dy,
                x,
                saved,
                previous,
                inner,
                packed,
                scratch,
                partials,
                ..
            } => (
                vec![*dy, *x, *saved, *previous],
                some(&[Some(*x), *inner, *packed, *scratch, *partials]),
            ),
            Self::Add { a, b, y } => (vec![*a, *b], vec![*y]),
            Self::AddTo { d, x } => (vec![*d, *x], vec![*d]),
            Self::LinearGradInput { dy, dx, .. }
            | Self::AveragePoolGrad { dy, dx, .. }
            | Self::MeanGrad { dy, dx, .. }
            | Self::UpsampleGrad { dy, dx, .. }
            | Self::LastGrad { dy, dx, .. }
            | Self::SelectGrad { dy, dx, .. } => (vec![*dy], vec![*dx]),
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

    /// The gradients of parameters that it writes; of running statistics, what they are updated
    /// from.
    #[must_use]
    pub const fn gradients(&self) -> [Option<ParameterId>; 2] {
        match self {
            Self::LinearGradWeight { weight, .. }
            | Self::Conv2dGradWeight { weight, .. }
            | Self::EmbeddingGrad { weight, .. } => [Some(*weight), None],
            Self::ActivationBiasGrad { bias, .. } => [*bias, None],
            Self::NormGrad { gain, bias, .. } => [Some(*gain), *bias],
            Self::BatchNormGrad { gain, bias, .. } | Self::GroupNormGrad { gain, bias, .. } => {
                [Some(*gain), Some(*bias)]
            }
            Self::BatchNorm {
                running: [mean, variance],
                ..
            } => [Some(*mean), Some(*variance)],
            Self::RecurrenceGrad {
                biases: [input, hidden],
                ..
            } => [Some(*input), Some(*hidden)],
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
                | Self::ConvTranspose { .. }
                | Self::AddBias { .. }
                | Self::Embedding { .. }
                | Self::Norm { .. }
                | Self::BatchNorm { .. }
                | Self::GroupNorm { .. }
                | Self::Recurrence { .. }
        )
    }
}
