#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Unfolds an image's windows to rows of a matrix, and folds their gradients back.
//!
//! Images are `[height, width, channels]`; a window is `[kernel, kernel, channels]`.

use stoker_model::Conv;

use super::simd::simd;

/// The columns of one window row: zeros before, numbers copied from `source` on, zeros after.
#[inline(always)]
fn span(conv: &Conv, out_x: usize) -> (usize, usize, usize) {
    let start = out_x * conv.stride;
    let before = conv.padding.saturating_sub(start).min(conv.kernel);
    let source = (start + before)
        .saturating_sub(conv.padding)
        .min(conv.in_width);
    let width = (conv.in_width - source).min(conv.kernel - before);
    (
        before * conv.in_channels,
        source * conv.in_channels,
        width * conv.in_channels,
    )
}

/// The input row that a window's row `ky` lies on, unless it is padding.
#[inline(always)]
fn input_row(conv: &Conv, out_y: usize, ky: usize) -> Option<usize> {
    (out_y * conv.stride + ky)
        .checked_sub(conv.padding)
        .filter(|&y| y < conv.in_height)
}

simd! {
    /// Writes the windows of output rows `first..first + rows` of one image: `columns` is
    /// `[rows * out_width, window]`.
    fn unfold(columns: &mut [f32], image: &[f32], conv: &Conv, first: usize, rows: usize) {
        let row_floats = conv.kernel * conv.in_channels;
        let stride = conv.in_width * conv.in_channels;
        let mut windows = columns.chunks_exact_mut(conv.kernel * row_floats);
        for out_y in first..first + rows {
            for out_x in 0..conv.out_width {
                let Some(window) = windows.next() else { return };
                let (before, source, width) = span(conv, out_x);
                for (ky, row) in window.chunks_exact_mut(row_floats).enumerate() {
                    let Some(y) = input_row(conv, out_y, ky) else {
                        row.fill(0.0);
                        continue;
                    };
                    let from = &image[y * stride + source..][..width];
                    if width == row_floats {
                        copy(row, from);
                    } else {
                        row.fill(0.0);
                        copy(&mut row[before..before + width], from);
                    }
                }
            }
        }
    }

    /// Adds the gradients of the same windows to those of the image.
    fn fold(image: &mut [f32], columns: &[f32], conv: &Conv, first: usize, rows: usize) {
        let row_floats = conv.kernel * conv.in_channels;
        let stride = conv.in_width * conv.in_channels;
        let mut windows = columns.chunks_exact(conv.kernel * row_floats);
        for out_y in first..first + rows {
            for out_x in 0..conv.out_width {
                let Some(window) = windows.next() else { return };
                let (before, source, width) = span(conv, out_x);
                for (ky, row) in window.chunks_exact(row_floats).enumerate() {
                    let Some(y) = input_row(conv, out_y, ky) else { continue };
                    let into = &mut image[y * stride + source..][..width];
                    for (into, d) in into.iter_mut().zip(&row[before..before + width]) {
                        *into += d;
                    }
                }
            }
        }
    }
}

/// Copies without a call: a window's row often has few floats.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<16>(), from.as_chunks::<16>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}
