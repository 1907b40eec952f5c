//! Convolutions of 3 x 3 that are computed in patches, by fewer products.

use stoker_model::{Conv, PATCH_FLOATS};

use super::super::super::lanes;
use super::super::super::simd::Level;
use super::super::super::winograd::{Images, Weights, transform_back, transform_weights};
use super::super::{Epilogue, each_group};
use super::CHUNK;
use rayon::prelude::*;

/// The images of a convolution, or of its way back.
const fn images(conv: &Conv, back: bool) -> Images {
    let (inputs, outputs) = if back {
        (conv.out_channels, conv.in_channels)
    } else {
        (conv.in_channels, conv.out_channels)
    };
    Images {
        height: conv.in_height,
        width: conv.in_width,
        inputs,
        outputs,
        patches: conv.patches,
    }
}

/// Transforms the weights to the end of `columns`, whose start is the groups' scratch.
fn prepare<'a>(
    level: Level,
    groups: usize,
    columns: &'a mut [f32],
    weight: &[f32],
    (conv, weights): (&Conv, Weights),
) -> (&'a mut [f32], &'a [f32]) {
    let (scratch, transformed) = columns.split_at_mut(groups * conv.tile_floats());
    let rows = transformed.len() / (PATCH_FLOATS * weights.width);
    let part = rows.div_ceil(groups);
    let size = part * PATCH_FLOATS * weights.width;
    each_group(groups, [(&mut *transformed, size)], |group, [out]| {
        transform_weights(level, out, weight, weights, group * part);
    });
    (scratch, transformed)
}

/// y = f(conv(x, W) + b), of the transposed weight.
pub(super) fn forward(
    (groups, rows, k_block): (usize, usize, usize),
    conv: &Conv,
    [x, y, pre, columns]: [&mut [f32]; 4],
    transposed: &[f32],
    epilogue: &Epilogue<'_>,
) {
    let level = epilogue.level;
    let weights = Weights {
        width: conv.out_channels,
        row_stride: conv.out_channels,
        place_stride: conv.in_channels * conv.out_channels,
        flipped: false,
    };
    let (scratch, transformed) = prepare(level, groups, columns, transposed, (conv, weights));
    let sizes = [
        (x, rows * conv.in_floats()),
        (y, rows * conv.out_floats()),
        (pre, rows * conv.out_floats()),
        (scratch, conv.tile_floats()),
    ];
    each_group(groups, sizes, |_, [x, y, pre, scratch]| {
        images(conv, false).convolve((level, k_block), [y, scratch], [x, transformed]);
        epilogue.apply(y, pre);
    });
}

/// dx = conv(dy, W turned around).
pub(super) fn grad_input(
    (groups, rows, k_block): (usize, usize, usize),
    level: Level,
    conv: &Conv,
    [dy, dx, columns]: [&mut [f32]; 3],
    weight: &[f32],
) {
    let weights = Weights {
        width: conv.in_channels,
        row_stride: conv.window(),
        place_stride: conv.in_channels,
        flipped: true,
    };
    let (scratch, transformed) = prepare(level, groups, columns, weight, (conv, weights));
    let sizes = [
        (dy, rows * conv.out_floats()),
        (dx, rows * conv.in_floats()),
        (scratch, conv.tile_floats()),
    ];
    each_group(groups, sizes, |_, [dy, dx, scratch]| {
        images(conv, true).convolve((level, k_block), [dx, scratch], [dy, transformed]);
    });
}

/// dW; each group keeps a sum of its own, of the transformed weights.
pub(super) fn grad_weight(
    (groups, rows, k_block): (usize, usize, usize),
    level: Level,
    conv: &Conv,
    [dy, x, columns, partials]: [&mut [f32]; 4],
    dw: &mut [f32],
) {
    let size = partials.len() / groups;
    let sizes = [
        (dy, rows * conv.out_floats()),
        (x, rows * conv.in_floats()),
        (columns, conv.tile_floats()),
        (&mut *partials, size),
    ];
    each_group(groups, sizes, |_, [dy, x, scratch, sums]| {
        images(conv, false).grad_weight((level, k_block), [sums, scratch], [dy, x]);
    });
    let (sums, others) = partials.split_at_mut(size);
    let chunks = sums.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(index, sum)| {
        for other in others.chunks_exact(size) {
            lanes::add(level, sum, &other[index * CHUNK..][..sum.len()]);
        }
    });
    let part = conv.out_channels.div_ceil(groups);
    each_group(groups, [(dw, part * conv.window())], |group, [dw]| {
        transform_back(level, dw, sums, conv.in_channels, group * part);
    });
}
