#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Losses of numbers one by one, whose mean over a row is the row's loss.

use stoker_domain::spec::Loss;

use super::super::simd::simd;
use super::{huber, sign};
use crate::math::{exp, ln_to_two, sigmoid};

/// Numbers whose losses are found side by side, and then added in order.
const BLOCK: usize = 64;

/// The mean of f's losses; `d` gets its slopes over their number.
#[inline(always)]
fn each(d: &mut [f32], scores: &[f32], values: &[f32], f: impl Fn(f32, f32) -> (f64, f32)) -> f64 {
    let count = scores.len() as f32;
    let mut sum = 0.0;
    let blocks = scores.chunks(BLOCK).zip(values.chunks(BLOCK));
    for (d, (scores, values)) in d.chunks_mut(BLOCK).zip(blocks) {
        let mut losses = [0_f64; BLOCK];
        let both = scores.iter().zip(values);
        for ((d, loss), (&score, &value)) in d.iter_mut().zip(&mut losses).zip(both) {
            let slope;
            (*loss, slope) = f(score, value);
            *d = slope / count;
        }
        for loss in &losses[..scores.len()] {
            sum += loss;
        }
    }
    sum / f64::from(count)
}

simd! {
    /// Squared, absolute, Huber's and binary losses.
    fn mean_loss(loss: &Loss, d: &mut [f32], scores: &[f32], values: &[f32]) -> f64 {
        match loss {
            Loss::Mae => each(d, scores, values, |score, value| {
                let error = score - value;
                (f64::from(error.abs()), sign(error))
            }),
            Loss::Huber { delta } => {
                each(d, scores, values, |score, value| huber(score - value, *delta))
            }
            Loss::Bce => each(d, scores, values, |score, value| {
                // ln(1 + e^score) - value · score, where the exponential is at most 1.
                let tail = ln_to_two(1.0 + f64::from(exp(-score.abs())));
                let loss = f64::from(score.max(0.0)) - f64::from(score) * f64::from(value) + tail;
                // max() takes a number over NaN.
                let loss = if score.is_nan() { f64::NAN } else { loss };
                (loss, sigmoid(score) - value)
            }),
            _ => each(d, scores, values, |score, value| {
                let error = score - value;
                (f64::from(error) * f64::from(error), 2.0 * error)
            }),
        }
    }
}
