//! The trained model as ONNX, where it has a translation.

use stoker_domain::spec::JobSpec;
use stoker_engine::Weights;
use stoker_model::InputDescription;

/// Name of the artifact.
pub(crate) const FILE: &str = "model.onnx";

/// Writes the model with its finished weights, or tells why there is no such file.
///
/// # Errors
/// Why there is none.
pub(crate) fn write(
    spec: &JobSpec,
    input: &InputDescription,
    weights: &[u8],
) -> Result<Vec<u8>, String> {
    if spec.data.padding.is_some() {
        return Err("with `data.padding` rows end early, which it has no word for".to_owned());
    }
    let weights = Weights::read(weights).map_err(|error| error.to_string())?;
    let model = stoker_model::write_onnx(&spec.model, input, |name| weights.get(name));
    model.map_err(|error| error.to_string())
}
