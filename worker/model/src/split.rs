//! How a kernel's work is cut: into groups that may run at the same time, and a convolution's
//! windows into tiles that fit a cache. A function of the plan's shapes alone, so that sums kept
//! per group add up alike on every host.

use crate::geometry::{Attention, Conv, PATCH_FLOATS, Tile};
use crate::op::Op;

/// Gradients whose squares are summed at a time, for the norm of all.
pub const NORM_CHUNK: usize = 1 << 14;
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
/// Windows of a tile whatever they hold: the weights are read once for each tile, and with fewer
/// windows that would take longer than the products.
const TILE_WINDOWS: usize = 128;
/// Patches of a group at least, where weights are large.
const GROUP_PATCHES: usize = 64;
/// Floats of transformed patches, before and after the products: a second-level cache.
const PATCHES_FLOATS: usize = 1 << 18;
/// Floats of weights above which that is so for groups too: what a second-level cache holds.
const CACHED_FLOATS: usize = 1 << 18;
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
        Op::Interact { count, columns, .. } => {
            by_work(interact_flops([count, columns], rows), GROUP_FLOPS, rows)
        }
        Op::InteractGrad { count, columns, .. } => {
            let flops = 2 * interact_flops([count, columns], rows);
            by_work(flops, GROUP_FLOPS, rows)
        }
        Op::EmbeddingGrad {
            vocabulary, units, ..
        } => by_work(vocabulary * units, GROUP_FLOATS, vocabulary),
        Op::Conv2d { ref conv, .. }
        | Op::Conv2dGradInput { ref conv, .. }
        | Op::ConvTranspose { ref conv, .. } => {
            by_work(conv_flops(conv, rows), GROUP_FLOPS, conv_rows(conv, rows))
        }
        Op::Conv2dGradWeight { ref conv, .. } => {
            let most = rows.min(conv_sums(conv));
            by_work(conv_flops(conv, rows), GROUP_FLOPS, most)
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

/// Most groups of a convolution that cut its rows: each group reads all weights.
fn conv_rows(conv: &Conv, rows: usize) -> usize {
    if conv.window() * conv.out_channels <= CACHED_FLOATS {
        return rows;
    }
    let least = if takes_patches(conv) {
        4 * GROUP_PATCHES
    } else {
        TILE_WINDOWS
    };
    rows.min(rows * conv.positions() / least)
}

/// Most groups of a convolution that each have a sum of the weights' size: a power of two, as
/// threads mostly are.
fn conv_sums(conv: &Conv) -> usize {
    let sum = if takes_patches(conv) {
        PATCH_FLOATS * conv.in_channels
    } else {
        conv.window()
    };
    let most = PARTIALS_FLOATS / (sum * conv.out_channels).max(1);
    1 << most.max(1).ilog2()
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

/// Multiply-adds of the products of pairs of `count` vectors over `rows` rows, each counted as two.
pub(crate) fn interact_flops([count, columns]: [usize; 2], rows: usize) -> usize {
    (rows * count)
        .saturating_mul(count.saturating_sub(1))
        .saturating_mul(columns)
}

/// Whether a convolution is computed in patches: where transforms cost little beside the products
/// that they save.
const fn takes_patches(conv: &Conv) -> bool {
    const CHANNELS: usize = 32;
    let small = conv.kernel == 3 && conv.stride == 1 && conv.padding == 1;
    let plain = !conv.line && conv.gap == 0 && conv.cuts == 0;
    let wide = conv.in_channels >= CHANNELS && conv.out_channels >= CHANNELS;
    small && plain && wide && conv.out_height > 2 && conv.out_width > 2
}

/// Sets what a convolution, whose groups have `group_rows` images, does at a time.
pub(crate) fn cut(conv: &mut Conv, group_rows: usize) {
    conv.tile = tile(conv, group_rows);
    if takes_patches(conv) {
        let all = group_rows * conv.out_height.div_ceil(2) * conv.out_width.div_ceil(2);
        let fit = PATCHES_FLOATS / (PATCH_FLOATS * (conv.in_channels + conv.out_channels));
        conv.patches = fit.max(TILE_WINDOWS).min(all);
    }
}

/// The tile of a convolution whose groups have `group_rows` images.
pub(crate) fn tile(conv: &Conv, group_rows: usize) -> Tile {
    let row_floats = conv.out_width * conv.window();
    let image_floats = row_floats.saturating_mul(conv.out_height);
    let floats = TILE_FLOATS.max(TILE_WINDOWS.saturating_mul(conv.window()));
    if image_floats <= floats {
        let images = (floats / image_floats.max(1)).min(group_rows);
        Tile {
            images: images.max(1),
            rows: conv.out_height,
        }
    } else {
        let rows = (floats / row_floats.max(1)).clamp(1, conv.out_height);
        Tile { images: 1, rows }
    }
}
