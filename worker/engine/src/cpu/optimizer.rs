//! One optimiser step over all parameters at once.

use rayon::prelude::*;
use stoker_domain::spec::OptimizerSpec;

use super::lanes::{self, AdamStep, SgdStep};
use super::simd::Level;
use crate::math::power;

/// Parameters that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Updates `weights` by the summed `gradients` over `weight` rows. `step` counts from 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scalars are worked out in double precision and rounded once"
)]
pub(crate) fn update(
    level: Level,
    spec: &OptimizerSpec,
    (weight, learning_rate, step): (f64, f64, u64),
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
                weight: weight as f32,
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
                weight: weight as f32,
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
