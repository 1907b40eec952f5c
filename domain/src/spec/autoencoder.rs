//! Autoencoders: a row is made small, and made again of that.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::block::Activation;
use super::check::Checks;

/// The kinds of autoencoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoencoderKind {
    /// A row's code is a vector (Hinton & Salakhutdinov 2006).
    #[default]
    Plain,
    /// A row's code is a normal distribution, of which one sample is decoded in training and the
    /// mean in evaluation (Kingma & Welling 2014).
    Vae,
}

/// An autoencoder of dense layers. It predicts its own features, as they are after the
/// preprocessing steps, so `data.target` is left out. Parameters `encoder.{i}.…` and
/// `decoder.{i}.…`; with `vae` also `mean.…` and `log_variance.…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Autoencoder {
    /// What a row's code is.
    #[serde(default)]
    pub kind: AutoencoderKind,
    /// Units of each hidden layer of the encoder; the decoder has them in reverse.
    #[serde(default = "default_hidden")]
    pub hidden: Vec<u32>,
    /// Numbers of a row's code.
    #[serde(default = "default_latent")]
    pub latent: u32,
    /// After each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// Only for `vae`: what the divergence of a code's distribution from the standard normal one,
    /// summed over its numbers, counts beside the row's loss, which is a mean over the features
    /// (Higgins et al. 2017). 1 / features is the evidence lower bound of a row's summed loss.
    #[serde(default = "default_beta", skip_serializing_if = "is_one")]
    pub beta: f32,
}

fn default_hidden() -> Vec<u32> {
    vec![128]
}
const fn default_latent() -> u32 {
    16
}
pub(super) const fn default_beta() -> f32 {
    1.0
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(value: &f32) -> bool {
    (*value - 1.0).abs() == 0.0
}

impl Autoencoder {
    pub(super) fn validate(&self, checks: &mut Checks) {
        checks.widths("hidden", &self.hidden);
        checks.width("latent".to_owned(), self.latent);
        checks.not_negative("beta".to_owned(), self.beta);
    }
}
