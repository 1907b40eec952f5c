#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Depthwise convolutions: each channel by itself, all channels side by side. Weights are read
//! transposed, `[kernel * kernel_width, channels]`.

use stoker_model::Conv;

use super::super::lanes;
use super::super::simd::{Level, simd};
use super::super::unfold::{input_column, input_row};

/// The numbers that a window sees: which of the kernel, and where in the image.
#[inline(always)]
fn seen(conv: &Conv, out: usize) -> impl Iterator<Item = (usize, usize)> {
    let (out_y, out_x) = (out / conv.out_width, out % conv.out_width);
    (0..conv.kernel).flat_map(move |ky| {
        let row = input_row(conv, out_y, ky);
        (0..conv.kernel_width()).filter_map(move |kx| {
            let (y, x) = row.zip(input_column(conv, out_x, kx))?;
            let at = (y * conv.in_width + x) * conv.in_channels;
            Some((ky * conv.kernel_width() + kx, at))
        })
    })
}

/// y = conv(x, W) of some images.
pub(super) fn forward(level: Level, y: &mut [f32], x: &[f32], transposed: &[f32], conv: &Conv) {
    let each = x.chunks_exact(conv.in_floats());
    for (x, y) in each.zip(y.chunks_exact_mut(conv.out_floats())) {
        windows(level, y, x, transposed, conv);
    }
}

/// dW of some images; `sums` has room for it transposed.
pub(super) fn grad_weight(
    level: Level,
    dw: &mut [f32],
    sums: &mut [f32],
    dy: &[f32],
    x: &[f32],
    conv: &Conv,
) {
    let sums = &mut sums[..dw.len()];
    sums.fill(0.0);
    let each = x.chunks_exact(conv.in_floats());
    for (x, dy) in each.zip(dy.chunks_exact(conv.out_floats())) {
        windows_grad_weight(level, sums, dy, x, conv);
    }
    lanes::transpose(level, dw, sums, conv.in_channels, 0);
}

/// dx of some images; `transposed` has room for the weight.
pub(super) fn grad_input(
    level: Level,
    dx: &mut [f32],
    dy: &[f32],
    transposed: &mut [f32],
    weight: &[f32],
    conv: &Conv,
) {
    let transposed = &mut transposed[..weight.len()];
    lanes::transpose(level, transposed, weight, conv.window(), 0);
    dx.fill(0.0);
    let each = dx.chunks_exact_mut(conv.in_floats());
    for (dx, dy) in each.zip(dy.chunks_exact(conv.out_floats())) {
        windows_grad_input(level, dx, dy, transposed, conv);
    }
}

simd! {
    /// y = conv(x, W) of one image.
    fn windows(y: &mut [f32], x: &[f32], weight: &[f32], conv: &Conv) {
        let channels = conv.in_channels;
        for (out, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(0.0);
            for (tap, at) in seen(conv, out) {
                let weight = &weight[tap * channels..][..channels];
                for ((y, x), w) in y.iter_mut().zip(&x[at..at + channels]).zip(weight) {
                    *y = x.mul_add(*w, *y);
                }
            }
        }
    }

    /// Adds dW of one image to `sums`.
    fn windows_grad_weight(sums: &mut [f32], dy: &[f32], x: &[f32], conv: &Conv) {
        let channels = conv.in_channels;
        for (out, dy) in dy.chunks_exact(channels).enumerate() {
            for (tap, at) in seen(conv, out) {
                let sums = &mut sums[tap * channels..][..channels];
                for ((sum, x), d) in sums.iter_mut().zip(&x[at..at + channels]).zip(dy) {
                    *sum = x.mul_add(*d, *sum);
                }
            }
        }
    }

    /// Adds dx of one image.
    fn windows_grad_input(dx: &mut [f32], dy: &[f32], weight: &[f32], conv: &Conv) {
        let channels = conv.in_channels;
        for (out, dy) in dy.chunks_exact(channels).enumerate() {
            for (tap, at) in seen(conv, out) {
                let weight = &weight[tap * channels..][..channels];
                for ((dx, d), w) in dx[at..at + channels].iter_mut().zip(dy).zip(weight) {
                    *dx = d.mul_add(*w, *dx);
                }
            }
        }
    }
}
