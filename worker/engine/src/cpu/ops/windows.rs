//! Convolutions whose windows are read where they lie: an image is copied with its padding around
//! it, where it has any, instead of once per number of the kernel.

use stoker_model::{Conv, Tile};

use super::super::product::{Matrix, Windows, has_windows, multiply_by_windows, multiply_windows};
use super::super::simd::Level;

/// Windows of a line below which a product has too few rows.
const COUNT_MIN: usize = 6;
/// Floats of a register, which a product's columns fill.
const LANES: usize = 16;
/// Numbers of dx that are added up at a time, so that they stay in the cache.
const CACHED: usize = 1 << 13;
/// Positions of dx that are made at a time at least, since the weights are read for each time.
const POSITIONS: usize = 128;

/// Whether windows can be read so: those of an image, all of whose numbers are of use. Where a tile
/// has many images, they are too small for products of their own.
fn are_plain(level: Level, conv: &Conv) -> bool {
    has_windows(level)
        && conv.cuts == 0
        && conv.gap == 0
        && !conv.line
        && conv.tile.images == 1
        && conv.kernel >= conv.stride
        && conv.out_width >= COUNT_MIN
}

/// Columns of the numbers that the windows of a line see, padding included.
const fn wide(conv: &Conv) -> usize {
    (conv.out_width - 1) * conv.stride + conv.kernel
}

/// Rows that `rows` rows of windows see.
const fn high(conv: &Conv, rows: usize) -> usize {
    (rows - 1) * conv.stride + conv.kernel
}

/// The convolution with the tiles of its forward pass, where its windows can be read so. `room` is
/// what there is for one of them.
pub(super) fn forward_tiles(level: Level, conv: &Conv, room: usize) -> Option<Conv> {
    let row = wide(conv) * conv.in_channels;
    let fits = (room / row).checked_sub(conv.kernel)? / conv.stride + 1;
    let rows = if conv.padding == 0 {
        conv.out_height
    } else {
        fits.min(conv.out_height)
    };
    are_plain(level, conv).then_some(Conv {
        tile: Tile { images: 1, rows },
        ..*conv
    })
}

/// Whether the gradient of the weight can be had so: where the rows of windows fill the registers
/// as well as whole windows do.
pub(super) fn has_grad_weight(level: Level, conv: &Conv) -> bool {
    let run = conv.kernel * conv.in_channels;
    let registers = conv.kernel * run.div_ceil(LANES);
    are_plain(level, conv) && 8 * registers <= 9 * conv.window().div_ceil(LANES)
}

/// Rows of dx that are made at a time, where it can be had so.
pub(super) fn grad_input_rows(
    level: Level,
    k_block: usize,
    conv: &Conv,
    room: usize,
) -> Option<usize> {
    let plain = are_plain(level, conv)
        && conv.stride == 1
        && conv.padding < conv.kernel
        && conv.in_width >= COUNT_MIN
        && conv.out_channels <= k_block;
    let row = (conv.in_width + conv.kernel - 1) * conv.out_channels;
    let fits = (room / row).checked_sub(conv.kernel)? + 1;
    let cached = CACHED / (conv.in_width * conv.in_channels);
    let cached = cached.max(POSITIONS.div_ceil(conv.in_width));
    plain.then_some(fits.min(cached).min(conv.in_height))
}

/// Copies some rows of an image, `[height, width, channels]`, from (`top`, `left`) on, with zeros
/// for what is outside. `out` is `[rows, wide, channels]`.
fn surround(
    out: &mut [f32],
    image: &[f32],
    [width, channels]: [usize; 2],
    [top, left]: [isize; 2],
    wide: usize,
) {
    let height = image.len() / (width * channels);
    let before = usize::try_from(-left).unwrap_or(0).min(wide);
    let source = usize::try_from(left).unwrap_or(0);
    let count = width.saturating_sub(source).min(wide - before);
    for (y, row) in (top..).zip(out.chunks_exact_mut(wide * channels)) {
        let inside = usize::try_from(y).ok().filter(|&y| y < height);
        let Some(y) = inside else {
            row.fill(0.0);
            continue;
        };
        let (zeros, rest) = row.split_at_mut(before * channels);
        let (numbers, after) = rest.split_at_mut(count * channels);
        zeros.fill(0.0);
        numbers.copy_from_slice(&image[(y * width + source) * channels..][..count * channels]);
        after.fill(0.0);
    }
}

/// The windows of rows `first..first + rows` of an image's windows. `room` has room for them with
/// their padding.
pub(super) fn windows<'a>(
    conv: &Conv,
    image: &'a [f32],
    room: &'a mut [f32],
    [first, rows]: [usize; 2],
) -> Windows<'a> {
    let channels = conv.in_channels;
    let (values, row) = if conv.padding == 0 {
        let row = conv.in_width * channels;
        (&image[first * conv.stride * row..], row)
    } else {
        let wide = wide(conv);
        let room = &mut room[..high(conv, rows) * wide * channels];
        let corner = [
            signed(first * conv.stride) - signed(conv.padding),
            -signed(conv.padding),
        ];
        surround(room, image, [conv.in_width, channels], corner, wide);
        (&*room, wide * channels)
    };
    Windows {
        values,
        lines: rows,
        line_stride: conv.stride * row,
        count: conv.out_width,
        step: conv.stride * channels,
        runs: conv.kernel,
        run_stride: row,
        run: conv.kernel * channels,
    }
}

/// y = conv(x, W) of some rows of one image.
pub(super) fn forward(
    level: Level,
    k_block: usize,
    y: &mut [f32],
    windows: Windows<'_>,
    weight: Matrix<'_>,
) {
    multiply_windows(level, k_block, y, false, windows.in_line(), weight);
}

/// dW of some rows of one image, or what dW holds and theirs.
pub(super) fn grad_weight(
    level: Level,
    k_block: usize,
    dw: &mut [f32],
    accumulate: bool,
    dy: Matrix<'_>,
    windows: Windows<'_>,
) {
    multiply_by_windows(level, k_block, dw, accumulate, dy.transposed(), windows);
}

/// dx of one image, `rows` rows at a time: a product for each number of the kernel, from the last
/// one on, since that is the order in which the windows' gradients are folded.
pub(super) fn grad_input(
    level: Level,
    k_block: usize,
    conv: &Conv,
    rows: usize,
    dx: &mut [f32],
    [dy, room]: [&mut [f32]; 2],
    weight: Matrix<'_>,
) {
    let Conv {
        kernel,
        in_width,
        in_channels,
        out_width,
        out_channels,
        ..
    } = *conv;
    let wide = in_width + kernel - 1;
    let start = signed(conv.padding) - signed(kernel - 1);
    for (index, dx) in dx.chunks_mut(rows * in_width * in_channels).enumerate() {
        let lines = dx.len() / (in_width * in_channels);
        let room = &mut room[..(lines + kernel - 1) * wide * out_channels];
        let corner = [signed(index * rows) + start, start];
        surround(room, dy, [out_width, out_channels], corner, wide);
        dx.fill(0.0);
        for tap in 0..kernel * kernel {
            let from = (tap / kernel * wide + tap % kernel) * out_channels;
            let windows = Windows {
                values: &room[from..],
                lines,
                line_stride: wide * out_channels,
                count: in_width,
                step: out_channels,
                runs: 1,
                run_stride: out_channels,
                run: out_channels,
            };
            let last = kernel * kernel - 1 - tap;
            let weight = weight.columns_from(last * in_channels, in_channels);
            multiply_windows(level, k_block, dx, true, windows.in_line(), weight);
        }
    }
}

/// A size as a signed number.
#[expect(clippy::cast_possible_wrap, reason = "sizes are below 2^34")]
const fn signed(size: usize) -> isize {
    size as isize
}
