//! States of metrics as bytes: 64-bit numbers, one after the other.

use stoker_domain::job::FailureKind;

use crate::error::EngineError;

/// Appends a number.
pub(super) fn put(state: &mut Vec<u8>, number: u64) {
    state.extend_from_slice(&number.to_le_bytes());
}

/// Reads numbers back.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(state: &'a [u8]) -> Self {
        Self(state)
    }

    pub(super) fn number(&mut self) -> Result<u64, EngineError> {
        let Some((number, rest)) = self.0.split_first_chunk() else {
            return Err(EngineError::new(
                FailureKind::Platform,
                "the state of a metric was cut short",
            ));
        };
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = u64> + 'a {
        let (numbers, _) = std::mem::take(&mut self.0).as_chunks::<8>();
        numbers.iter().map(|number| u64::from_le_bytes(*number))
    }

    /// Adds as many numbers to counts.
    pub(super) fn add_to(&mut self, counts: &mut [u64]) -> Result<(), EngineError> {
        for count in counts {
            *count += self.number()?;
        }
        Ok(())
    }
}

/// A metric got targets of a kind that it was not fitted to.
pub(super) fn misfit(measure: &str) -> EngineError {
    let message = format!("`{measure}` doesn't fit this kind of target: our bug");
    EngineError::new(FailureKind::Platform, message)
}
