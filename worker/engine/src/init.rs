//! The weights that a run starts with.

use stoker_model::{Init, Plan};

use crate::math::{cos_pi, ln};
use crate::philox::{Purpose, Stream};

/// Initial weights in the plan's layout.
#[cfg(test)]
pub(crate) fn initial_weights(plan: &Plan) -> Vec<f32> {
    let mut weights = vec![0.0; plan.parameter_floats];
    initialise(plan, &mut weights);
    weights
}

/// Writes the initial weights over zeros, in the plan's layout. A number depends on the seed, the
/// parameter's index and its place in PyTorch's form, and not on how it is stored.
pub(crate) fn initialise(plan: &Plan, weights: &mut [f32]) {
    for (site, parameter) in (0_u16..).zip(&plan.parameters) {
        let stream = Stream::new(plan.train.seed, Purpose::Init, site, 0);
        let stored = &mut weights[parameter.offset..][..parameter.floats];
        let bound = match parameter.init {
            Init::Uniform { bound } => bound,
            Init::Normal { deviation } => {
                for index in 0..parameter.floats {
                    let number = normal(stream, index as u64);
                    stored[parameter.order.stored_index(index)] = number * deviation;
                }
                continue;
            }
            Init::Constant { value } => {
                stored.fill(value);
                continue;
            }
        };
        for first in (0..parameter.floats).step_by(4) {
            let block = first as u64 / 4;
            #[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
            let words = stream.block(block as u32, (block >> 32) as u32);
            for (index, word) in (first..parameter.floats).zip(words) {
                // 24 random bits make a number in 0 up to, not including, 1.
                let unit = (word >> 8) as f32 / 16_777_216.0;
                stored[parameter.order.stored_index(index)] = (2.0 * unit - 1.0) * bound;
            }
        }
    }
}

/// The number of the standard normal distribution at `index` of a stream.
fn normal(stream: Stream, index: u64) -> f32 {
    let word = stream.word64(index);
    normal_of(word >> 32, word & 0xFFFF_FFFF)
}

/// A number of the standard normal distribution, of two words of 32 bits (Box and Muller 1958).
#[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
pub(crate) fn normal_of(high: u64, low: u64) -> f32 {
    // Above 0 up to 1, and 0 up to, not including, 2.
    let share = (high + 1) as f64 / 4_294_967_296.0;
    let turn = low as f64 / 2_147_483_648.0;
    let cosine = if turn <= 1.0 {
        cos_pi(turn)
    } else {
        cos_pi(2.0 - turn)
    };
    ((-2.0 * ln(share)).sqrt() * cosine) as f32
}
