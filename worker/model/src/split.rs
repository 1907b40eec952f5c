//! How a kernel's work is cut: into groups that may run at the same time, and a convolution's
//! windows into tiles that fit a cache. A function of the plan's shapes alone, so that sums kept
//! per group add up alike on every host.

use crate::geometry::{Attention, Conv, Tile};
use crate::op::Op;

/// Most groups of a kernel, which is as many threads as can work on one.
pub const GROUPS_MAX: usize = 16;
/// Multiply-adds below which a group isn't worth waking a thread for.
const GROUP_FLOPS: usize = 1 << 20;
/// Numbers touched below which a group of an element-wise kernel isn't.
const GROUP_FLOATS: usize = 1 << 15;
/// Rows under which a product loses too much to packing.
const GROUP_ROWS: usize = 16;
/// Floats of a tile's unfolded windows: an eighth of a core's second-level cache.
const TILE_FLOATS: usize = 1 << 15;
/// Floats of a kernel's sums per group: above it fewer groups are made.
const PARTIALS_FLOATS: usize = 1 << 24;

/// Groups of a kernel on `rows` rows, where a row of the first value written or read holds
/// `row_floats` numbers.
pub(crate) fn groups(op: &Op, rows: usize, row_floats: usize) -> usize {
    let by_work =
        |work: usize, unit: usize, most: usize| (work / unit).clamp(1, GROUPS_MAX).min(most.max(1));
    match *op {
        Op::Linear {
            positions,
            inputs,
            outputs,
            ..
        }
        | Op::LinearGradInput {
            positions,
            inputs,
            outputs,
            ..
        } => by_work(
            2 * rows * positions * inputs * outputs,
            GROUP_FLOPS,
            rows * positions / GROUP_ROWS,
        ),
        Op::LinearGradWeight {
            positions,
            inputs,
            outputs,
            ..
        } => by_work(
            2 * rows * positions * inputs * outputs,
            GROUP_FLOPS,
            outputs / GROUP_ROWS,
        ),
        Op::Attention { ref attention, .. } | Op::AttentionGrad { ref attention, .. } => {
            by_work(attention_flops(attention, rows), GROUP_FLOPS, rows)
        }
        Op::Recurrence { ref recurrence, .. } | Op::RecurrenceGrad { ref recurrence, .. } => {
            by_work(recurrence.flops(rows), GROUP_FLOPS, rows / GROUP_ROWS)
        }
        Op::EmbeddingGrad {
            vocabulary, units, ..
        } => by_work(vocabulary * units, GROUP_FLOATS, vocabulary),
        Op::Conv2d { ref conv, .. }
        | Op::Conv2dGradInput { ref conv, .. }
        | Op::ConvTranspose { ref conv, .. } => by_work(conv_flops(conv, rows), GROUP_FLOPS, rows),
        Op::Conv2dGradWeight { ref conv, .. } => {
            let most = PARTIALS_FLOATS / (conv.window() * conv.out_channels).max(1);
            by_work(conv_flops(conv, rows), GROUP_FLOPS, rows.min(most))
        }
        Op::ActivationBiasGrad { columns, .. } | Op::NormGrad { columns, .. } => by_work(
            rows * row_floats,
            GROUP_FLOATS,
            rows.min(PARTIALS_FLOATS / columns.max(1)),
        ),
        Op::BatchNorm { channels, .. }
        | Op::BatchNormGrad { channels, .. }
        | Op::GroupNorm { channels, .. }
        | Op::GroupNormGrad { channels, .. } => by_work(
            rows * row_floats,
            GROUP_FLOATS,
            rows.min(PARTIALS_FLOATS / channels.max(1)),
        ),
        _ => by_work(rows * row_floats, GROUP_FLOATS, rows),
    }
}

/// Multiply-adds of a convolution over `rows` images, each counted as two.
pub(crate) fn conv_flops(conv: &Conv, rows: usize) -> usize {
    (2 * rows * conv.positions())
        .saturating_mul(conv.window())
        .saturating_mul(conv.out_channels)
}

/// Multiply-adds of attention's two products over `rows` rows, each counted as two. A causal one
/// does half of them.
pub(crate) fn attention_flops(attention: &Attention, rows: usize) -> usize {
    let whole = (4 * rows * attention.heads)
        .saturating_mul(attention.length)
        .saturating_mul(attention.head());
    if attention.causal { whole / 2 } else { whole }
}

/// The tile of a convolution whose groups have `group_rows` images.
pub(crate) fn tile(conv: &Conv, group_rows: usize) -> Tile {
    let row_floats = conv.out_width * conv.window();
    let image_floats = row_floats.saturating_mul(conv.out_height);
    if image_floats <= TILE_FLOATS {
        let images = (TILE_FLOATS / image_floats.max(1)).min(group_rows);
        Tile {
            images: images.max(1),
            rows: conv.out_height,
        }
    } else {
        let rows = (TILE_FLOATS / row_floats.max(1)).clamp(1, conv.out_height);
        Tile { images: 1, rows }
    }
}
