//! The losses: the sum over a shard's rows, and its gradient by the scores.

use rayon::prelude::*;

use super::lanes;
use super::simd::Level;
use crate::math;
use crate::table::TargetRows;

/// Rows that one thread takes at a time.
const ROWS: usize = 64;

/// Writes each row's loss to `losses` and its gradient to `d`. Rows beyond the targets are
/// padding: no loss, no gradient.
///
/// `scores` and `d` are `[rows, outputs]`, `losses` is `[rows]`.
pub(crate) fn grad(
    level: Level,
    outputs: usize,
    scores: &[f32],
    targets: TargetRows<'_>,
    d: &mut [f32],
    losses: &mut [f64],
) {
    let size = ROWS * outputs;
    let blocks = scores.par_chunks(size).zip(d.par_chunks_mut(size));
    blocks
        .zip(losses.par_chunks_mut(ROWS))
        .enumerate()
        .for_each(|(block, ((scores, d), losses))| {
            let rows = scores
                .chunks_exact(outputs)
                .zip(d.chunks_exact_mut(outputs));
            for (row, ((scores, d), loss)) in (block * ROWS..).zip(rows.zip(losses)) {
                *loss = match targets {
                    TargetRows::Classes(classes) => match classes.get(row) {
                        Some(&class) => cross_entropy(level, scores, class as usize, d),
                        None => no_loss(d),
                    },
                    TargetRows::Values(values) => {
                        match values.get(row * outputs..(row + 1) * outputs) {
                            Some(values) => squared_error(scores, values, d),
                            None => no_loss(d),
                        }
                    }
                };
            }
        });
}

fn no_loss(d: &mut [f32]) -> f64 {
    d.fill(0.0);
    0.0
}

/// -ln softmax(scores)[class].
fn cross_entropy(level: Level, scores: &[f32], class: usize, d: &mut [f32]) -> f64 {
    let (total, max) = lanes::softmax_grad(level, d, scores, class);
    math::ln(f64::from(total)) + (f64::from(max) - f64::from(scores[class]))
}

/// The mean over a row's numbers of the squared error, as PyTorch's `MSELoss` has it.
fn squared_error(scores: &[f32], values: &[f32], d: &mut [f32]) -> f64 {
    let count = scores.len() as f32;
    let mut sum = 0.0;
    for ((d, &score), &value) in d.iter_mut().zip(scores).zip(values) {
        let error = score - value;
        *d = 2.0 * error / count;
        sum += f64::from(error) * f64::from(error);
    }
    sum / f64::from(count)
}
