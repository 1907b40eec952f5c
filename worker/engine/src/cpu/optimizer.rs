//! One optimiser step over all parameters at once.

use rayon::prelude::*;
use stoker_domain::spec::{ClipSpec, EmaSpec, OptimizerSpec};

use super::lanes::{self, AdamStep, Mean, SgdStep};
use super::simd::Level;
use crate::math::power;

/// Parameters that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// What a step's gradients are: the mean over `weight`, clipped. The norm is summed over fixed
/// chunks, in order; `squares` has room for one number per chunk.
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
        let chunks = gradients.par_chunks(CHUNK).zip(squares.par_iter_mut());
        chunks.for_each(|(chunk, square)| *square = lanes::sum_of_squares(level, chunk));
        let norm = squares.iter().sum::<f64>().sqrt() / weight;
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
