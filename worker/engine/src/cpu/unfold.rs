#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Unfolds an image's windows to rows of a matrix, and folds their gradients back.
//!
//! Images are `[height, width, channels]`; a window is `[kernel, kernel_width, channels]`, of the
//! channels of one part.

use stoker_model::Conv;

use super::simd::simd;

/// The columns of one window row: zeros before, numbers copied from `source` on, zeros after.
#[inline(always)]
fn span(conv: &Conv, out_x: usize) -> (usize, usize, usize) {
    let (start, padding, kernel) = (
        out_x * conv.stride,
        conv.padding_left(),
        conv.kernel_width(),
    );
    let before = padding.saturating_sub(start).min(kernel);
    let source = (start + before).saturating_sub(padding).min(conv.in_width);
    let width = (conv.in_width - source).min(kernel - before);
    (
        before * conv.in_channels,
        source * conv.in_channels,
        width * conv.in_channels,
    )
}

/// The input row that a window's row `ky` lies on, unless it is padding.
#[inline(always)]
pub(super) fn input_row(conv: &Conv, out_y: usize, ky: usize) -> Option<usize> {
    (out_y * conv.stride + ky * conv.dilation())
        .checked_sub(conv.padding)
        .filter(|&y| y < conv.in_height)
}

/// The same for a column.
#[inline(always)]
pub(super) fn input_column(conv: &Conv, out_x: usize, kx: usize) -> Option<usize> {
    (out_x * conv.stride + kx * conv.dilation())
        .checked_sub(conv.padding_left())
        .filter(|&x| x < conv.in_width)
}

/// Whether each row of a window lies together in the image.
pub(super) const fn is_dense(conv: &Conv) -> bool {
    conv.cuts == 0 && (conv.gap == 0 || conv.line)
}

simd! {
    /// Writes the windows of output rows `first..first + rows` of one image, where they are dense:
    /// `columns` is `[rows * out_width, window]`.
    fn unfold(columns: &mut [f32], image: &[f32], conv: &Conv, first: usize, rows: usize) {
        let row_floats = conv.kernel_width() * conv.in_channels;
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
        let row_floats = conv.kernel_width() * conv.in_channels;
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

simd! {
    /// Writes the windows of one part of the channels, dense or not.
    fn unfold_part(columns: &mut [f32], image: &[f32], conv: &Conv, part: usize, first: usize, rows: usize) {
        let count = conv.group_inputs();
        let mut windows = columns.chunks_exact_mut(conv.window());
        for out_y in first..first + rows {
            for out_x in 0..conv.out_width {
                let Some(window) = windows.next() else { return };
                for (ky, row) in window.chunks_exact_mut(conv.kernel_width() * count).enumerate() {
                    let y = input_row(conv, out_y, ky);
                    for (kx, to) in row.chunks_exact_mut(count).enumerate() {
                        match y.zip(input_column(conv, out_x, kx)) {
                            Some((y, x)) => {
                                let at = (y * conv.in_width + x) * conv.in_channels + part * count;
                                copy(to, &image[at..at + count]);
                            }
                            None => to.fill(0.0),
                        }
                    }
                }
            }
        }
    }

    /// Adds the gradients of the same windows to those of the image.
    fn fold_part(image: &mut [f32], columns: &[f32], conv: &Conv, part: usize, first: usize, rows: usize) {
        let count = conv.group_inputs();
        let mut windows = columns.chunks_exact(conv.window());
        for out_y in first..first + rows {
            for out_x in 0..conv.out_width {
                let Some(window) = windows.next() else { return };
                for (ky, row) in window.chunks_exact(conv.kernel_width() * count).enumerate() {
                    let Some(y) = input_row(conv, out_y, ky) else { continue };
                    for (kx, from) in row.chunks_exact(count).enumerate() {
                        let Some(x) = input_column(conv, out_x, kx) else { continue };
                        let at = (y * conv.in_width + x) * conv.in_channels + part * count;
                        for (into, d) in image[at..at + count].iter_mut().zip(from) {
                            *into += d;
                        }
                    }
                }
            }
        }
    }
}

/// Copies without a call: a window's row often has few floats.
#[inline(always)]
pub(super) fn copy(to: &mut [f32], from: &[f32]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<16>(), from.as_chunks::<16>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}
