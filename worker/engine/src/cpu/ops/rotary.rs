#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Rotary positions (Su et al. 2021): pairs of numbers are turned by an angle that grows with the
//! position. The halves of a head make the pairs.

use stoker_model::ValueId;

use super::super::simd::simd;
use super::Context;
use crate::math::{cos_pi, wide_exp};

/// A pair's angle per position falls from 1 towards one over this, pair by pair.
const BASE_LN: f64 = 9.210_340_371_976_184;

/// Writes each position's cosines, then its sines: `[length, 2, pairs]`.
pub(super) fn angles(y: ValueId, pairs: usize, context: &mut Context<'_>) {
    let [y] = context.arena.views([y]);
    for pair in 0..pairs {
        let speed = wide_exp(-(pair as f64 / pairs as f64) * BASE_LN);
        for (position, y) in y.chunks_exact_mut(2 * pairs).enumerate() {
            let half_turns = (position as f64 * speed / std::f64::consts::PI) % 2.0;
            // sin πt = cos π (t - 1/2).
            let [cosine, sine] = [half_turns, half_turns - 0.5].map(|t| {
                let t = t.abs();
                cos_pi(if t <= 1.0 { t } else { 2.0 - t })
            });
            #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
            {
                y[pair] = cosine as f32;
                y[pairs + pair] = sine as f32;
            }
        }
    }
}

simd! {
    /// Turns a head's numbers, `[length, 2, pairs]`, by the angles times `direction`, 1 or -1.
    fn turn(head: &mut [f32], angles: &[f32], pairs: usize, direction: f32) {
        for (head, angles) in head.chunks_exact_mut(2 * pairs).zip(angles.chunks_exact(2 * pairs)) {
            let (left, right) = head.split_at_mut(pairs);
            let (cosines, sines) = angles.split_at(pairs);
            let pairs = left.iter_mut().zip(right);
            for ((left, right), (&cosine, &sine)) in pairs.zip(cosines.iter().zip(sines)) {
                let sine = sine * direction;
                let (a, b) = (*left, *right);
                *left = a * cosine - b * sine;
                *right = b * cosine + a * sine;
            }
        }
    }
}
