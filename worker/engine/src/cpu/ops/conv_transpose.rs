#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Transposed convolutions: a product per tile gives each position's window of the output, and the
//! windows are added up where they overlap.

use stoker_model::{Conv, Op};

use super::super::lanes;
use super::super::product::{Matrix, multiply};
use super::super::simd::{Level, simd};
use super::conv::{Cut, tiles};
use super::{Context, each_group};

/// y = x W, added up, + b; groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::ConvTranspose {
        x,
        y,
        weight,
        bias,
        conv,
        columns,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let (rows, window) = (plan.rows.div_ceil(groups), conv.window());
    let weight = Matrix::new(context.parameter(*weight), conv.out_channels, window);
    let bias = bias.map(|bias| context.parameter(bias));
    let [x, y, columns] = context.arena.optional([Some(*x), Some(*y), *columns]);
    let sizes = [
        (x, rows * conv.out_floats()),
        (y, rows * conv.in_floats()),
        (columns, conv.tile_floats()),
    ];
    each_group(groups, sizes, |_, [x, y, columns]| {
        let apart = is_tiled(conv);
        if !apart {
            y.fill(0.0);
        }
        for cut in tiles(conv, y.len() / conv.in_floats()) {
            let positions = cut.positions(conv);
            let x = Matrix::new(&x[cut.outputs(conv)], positions, conv.out_channels);
            let columns = &mut columns[..positions * window];
            multiply(level, plan.k_block, columns, false, x, weight);
            if apart {
                spread_tile(level, conv, &cut, y, columns, bias.unwrap_or_default());
            } else {
                cut.fold(level, conv, 0, y, columns);
            }
        }
        if let (Some(bias), false) = (bias, apart) {
            lanes::add_bias(level, y, bias);
        }
    });
}

/// Whether the windows cover the output side by side, with nothing between and none on another.
const fn is_tiled(conv: &Conv) -> bool {
    conv.kernel == conv.stride
        && conv.padding == 0
        && conv.in_height == conv.out_height * conv.kernel
        && conv.in_width == conv.out_width * conv.kernel_width()
}

/// Writes a tile's windows to where they belong, with the bias.
fn spread_tile(level: Level, conv: &Conv, cut: &Cut, y: &mut [f32], columns: &[f32], bias: &[f32]) {
    let each = columns.chunks_exact(cut.image_columns(conv));
    for (index, columns) in each.enumerate() {
        let image = &mut y[cut.input(conv, index)];
        let out = conv.in_width * conv.in_channels * conv.kernel;
        let rows = cut.row * out..(cut.row + cut.rows) * out;
        spread(level, &mut image[rows], columns, conv, bias);
    }
}

simd! {
    /// Writes the windows of some rows of positions, each `[kernel, kernel_width, channels]`, to
    /// the rows of `y` that they cover.
    fn spread(y: &mut [f32], columns: &[f32], conv: &Conv, bias: &[f32]) {
        let part = conv.kernel_width() * conv.in_channels;
        let row = conv.in_width * conv.in_channels;
        let bands = y.chunks_exact_mut(conv.kernel * row);
        for (band, columns) in bands.zip(columns.chunks_exact(conv.out_width * conv.window())) {
            for (ky, y) in band.chunks_exact_mut(row).enumerate() {
                let windows = columns.chunks_exact(conv.window());
                for (y, window) in y.chunks_exact_mut(part).zip(windows) {
                    let from = &window[ky * part..][..part];
                    if bias.is_empty() {
                        y.copy_from_slice(from);
                        continue;
                    }
                    let pixels = y.chunks_exact_mut(bias.len());
                    for (y, from) in pixels.zip(from.chunks_exact(bias.len())) {
                        for ((y, &from), &bias) in y.iter_mut().zip(from).zip(bias) {
                            *y = from + bias;
                        }
                    }
                }
            }
        }
    }
}
