//! One optimiser step over all parameters at once.

use rayon::prelude::*;
use stoker_domain::spec::{ClipSpec, EmaSpec, OptimizerSpec};
use stoker_model::NORM_CHUNK;

use super::lanes::{self, AdamStep, Mean, SgdStep};
use super::simd::Level;
use crate::math::power;

/// Parameters that one thread takes at a time.
const CHUNK: usize = NORM_CHUNK;

/// The norm of all gradients: squares are summed over fixed chunks, and these in order. `squares`
/// has room for one number per chunk.
fn norm(level: Level, gradients: &[f32], squares: &mut [f64]) -> f64 {
    let chunks = gradients.par_chunks(CHUNK).zip(squares.par_iter_mut());
    chunks.for_each(|(chunk, square)| *square = lanes::sum_of_squares(level, chunk));
    squares.iter().sum::<f64>().sqrt()
}

/// What a step's gradients are: the mean over `weight`, clipped.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scalars are worked out in double precision and rounded once"
)]
pub(crate) fn mean(
    level: Level,
    clip: Option<&ClipSpec>,
    weight: f64,
    gradients: &[f32],
    squares: &mut [f64],
) -> Mean {
    let mut share = 1.0;
    if let Some(limit) = clip.and_then(|clip| clip.norm) {
        let norm = norm(level, gradients, squares) / weight;
        share = (f64::from(limit) / (norm + 1e-6)).min(1.0);
    }
    Mean {
        weight: weight as f32,
        share: share as f32,
        limit: clip.and_then(|clip| clip.value).unwrap_or(f32::INFINITY),
    }
}

/// Chunks of so many gradients.
pub(crate) const fn chunks(floats: usize) -> usize {
    floats.div_ceil(CHUNK)
}

/// Takes the weights after `step` into their running average, which the first step starts.
pub(crate) fn average(
    level: Level,
    spec: &EmaSpec,
    step: u64,
    average: &mut [f32],
    weights: &[f32],
) {
    let share = if step == 1 { 1.0 } else { 1.0 - spec.decay };
    average
        .par_chunks_mut(CHUNK)
        .zip(weights.par_chunks(CHUNK))
        .for_each(|(average, weights)| lanes::approach(level, average, weights, share));
}

/// Updates `weights` by the summed `gradients`, made to a mean. `step` counts from 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scalars are worked out in double precision and rounded once"
)]
pub(crate) fn update(
    level: Level,
    spec: &OptimizerSpec,
    (mean, learning_rate, step): (Mean, f64, u64),
    weights: &mut [f32],
    gradients: &[f32],
    state: &mut [Vec<f32>],
) {
    let chunks = weights
        .par_chunks_mut(CHUNK)
        .zip(gradients.par_chunks(CHUNK));
    match *spec {
        OptimizerSpec::Sgd {
            momentum,
            nesterov,
            weight_decay,
            ..
        } => {
            let by = SgdStep {
                mean,
                learning_rate: learning_rate as f32,
                momentum,
                nesterov,
                weight_decay,
            };
            match state {
                [buffer] => chunks
                    .zip(buffer.par_chunks_mut(CHUNK))
                    .for_each(|((w, g), m)| lanes::sgd_momentum(level, w, g, m, &by)),
                _ => chunks.for_each(|(w, g)| lanes::sgd(level, w, g, &by)),
            }
        }
        OptimizerSpec::AdamW {
            betas,
            epsilon,
            weight_decay,
            ..
        } => {
            let [beta1, beta2] = betas.map(f64::from);
            let by = AdamStep {
                mean,
                beta1: betas[0],
                rest1: (1.0 - beta1) as f32,
                beta2: betas[1],
                rest2: (1.0 - beta2) as f32,
                epsilon,
                step_size: (learning_rate / (1.0 - power(beta1, step))) as f32,
                root_correction2: (1.0 - power(beta2, step)).sqrt() as f32,
                keep: (1.0 - learning_rate * f64::from(weight_decay)) as f32,
            };
            let [first, second] = state else { return };
            chunks
                .zip(first.par_chunks_mut(CHUNK))
                .zip(second.par_chunks_mut(CHUNK))
                .for_each(|(((w, g), m), v)| lanes::adamw(level, w, g, m, v, &by));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_summed_by_chunks_in_order() {
        // 37 chunks and a bit, of numbers that grow, so that the order is seen in the sum.
        let floats = 37 * CHUNK + 1234;
        let gradients: Vec<f32> = (0..floats)
            .map(|i| (i % 977) as f32 * 0.013 + (i / CHUNK) as f32)
            .collect();
        let sums = gradients
            .chunks(CHUNK)
            .map(|chunk| lanes::sum_of_squares(Level::detect(), chunk));
        let sums: Vec<f64> = sums.collect();
        let fold = |numbers: &mut dyn Iterator<Item = &f64>| numbers.fold(0.0, |sum, x| sum + x);
        let expected = fold(&mut sums.iter());
        let reversed = fold(&mut sums.iter().rev());
        assert_ne!(expected.sqrt(), reversed.sqrt(), "the order must be seen");
        let mut squares = vec![0.0; chunks(floats)];
        for threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let given = pool
                .build()
                .unwrap()
                .install(|| norm(Level::detect(), &gradients, &mut squares));
            assert_eq!(
                given.to_bits(),
                expected.sqrt().to_bits(),
                "{threads} threads"
            );
        }
    }
}
