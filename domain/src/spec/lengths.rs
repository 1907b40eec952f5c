//! How long the rows of a sequence are.

use super::DataSpec;
use crate::error::FieldError;

/// Most lengths that batches are cut to: each has kernels of its own.
const LENGTHS_MAX: usize = 16;
/// Largest length.
const LENGTH_MAX: u32 = 1 << 20;

impl DataSpec {
    pub(super) fn check_lengths(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(padding) = self.padding.filter(|padding| !padding.is_finite()) {
            let message = format!("{padding} is not a finite number");
            errors.push(FieldError::new("data.padding", message));
        }
        let lengths = &self.lengths;
        if !lengths.is_empty() && self.padding.is_none() {
            let message = "needs `data.padding`: without it every row has the full length";
            errors.push(FieldError::new("data.lengths", message));
        }
        if lengths.len() > LENGTHS_MAX {
            let message = format!("{} given, at most {LENGTHS_MAX} allowed", lengths.len());
            errors.push(FieldError::new("data.lengths", message));
            return errors;
        }
        let before = std::iter::once(0).chain(lengths.iter().copied());
        for (index, (before, &length)) in before.zip(lengths).enumerate() {
            let message = if !(1..=LENGTH_MAX).contains(&length) {
                format!("{length} is not in 1 to {LENGTH_MAX}")
            } else if length <= before {
                format!("{length} comes after {before}: lengths ascend")
            } else {
                continue;
            };
            errors.push(FieldError::new(format!("data.lengths[{index}]"), message));
        }
        errors
    }
}
