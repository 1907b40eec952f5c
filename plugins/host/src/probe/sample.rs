//! Made-up rows.

use crate::batch::{Batch, Element, Strings, Tensor, Values};
use crate::description::TensorSpec;

/// Rows of a sample.
pub(super) const ROWS: u32 = 4;

/// A batch with the example shapes of `specs`: numbers in [0, 1), integers 0 and 1, which are valid
/// classes, any bytes, short words. `salt` chooses among batches.
pub(super) fn sample_batch(specs: &[TensorSpec], salt: u64) -> Batch {
    let tensors = specs
        .iter()
        .zip(0..)
        .map(|(spec, at)| sample_tensor(spec, salt, at))
        .collect();
    Batch {
        rows: ROWS,
        tensors,
    }
}

fn sample_tensor(spec: &TensorSpec, salt: u64, at: u64) -> Tensor {
    let shape: Vec<u32> = std::iter::once(ROWS)
        .chain(spec.example.iter().copied())
        .collect();
    let count: usize = shape.iter().map(|extent| *extent as usize).product();
    let bits = (0..count as u64).map(|index| scramble(index ^ (salt << 32) ^ (at << 48)));
    let values = match spec.element {
        Element::Float32 => Values::Float32(bits.map(unit).collect()),
        Element::Int64 => Values::Int64(bits.map(|bits| i64::from(bits >> 63 == 1)).collect()),
        Element::Uint8 => Values::Uint8(bits.map(|bits| bits.to_le_bytes()[7]).collect()),
        Element::Text => {
            let mut strings = Strings::default();
            for bits in bits {
                // A word is short, and there are few: this can't reach 4 GiB.
                let _ = strings.push(&format!("word-{}", bits >> 56));
            }
            Values::Text(strings)
        }
    };
    Tensor {
        name: spec.name.clone(),
        shape,
        values,
    }
}

/// The upper 24 bits as a number in [0, 1), exactly.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1_u32 << 24) as f32
}

fn scramble(value: u64) -> u64 {
    let once = value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (once ^ (once >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
