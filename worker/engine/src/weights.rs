//! Finished weights, read back for other forms of the same model.

use safetensors::SafeTensors;
use stoker_domain::job::FailureKind;

use crate::error::EngineError;

/// The tensors of a file of finished weights.
#[derive(Debug)]
pub struct Weights<'a>(SafeTensors<'a>);

impl<'a> Weights<'a> {
    /// Reads what a run gave out.
    ///
    /// # Errors
    /// `data` when the file isn't whole.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EngineError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| {
            let message = format!("the weights aren't whole: {error}");
            EngineError::new(FailureKind::Data, message)
        })?;
        Ok(Self(tensors))
    }

    /// A parameter's numbers by its name, as little-endian single precision in PyTorch's order.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.tensor(name).ok().map(|tensor| tensor.data())
    }
}
