//! The weights that a run starts with.

use stoker_model::{Init, Plan};

use crate::philox::{Purpose, Stream};

/// Initial weights in the plan's layout. A number depends on the seed, the parameter's index and
/// its place in PyTorch's form, and not on how it is stored.
pub(crate) fn initial_weights(plan: &Plan) -> Vec<f32> {
    let mut weights = vec![0.0; plan.parameter_floats];
    for (site, parameter) in (0_u16..).zip(&plan.parameters) {
        let stream = Stream::new(plan.train.seed, Purpose::Init, site, 0);
        let stored = &mut weights[parameter.offset..][..parameter.floats];
        let Init::Uniform { bound } = parameter.init;
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
    weights
}
