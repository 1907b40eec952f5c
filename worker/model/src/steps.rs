//! The built-in preprocessing steps: which settings they take, and which models they fit.

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::error::nearest;
use stoker_domain::spec::{PreprocessSpec, Preprocessing};

use crate::plan::Plan;

/// Settings of the built-in step `normalise`. Numbers that embeddings take as ids aren't changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalise {
    /// What the features are scaled to.
    pub mode: Scale,
    /// Over what the statistics are taken.
    pub per: Per,
}

/// What `normalise` scales features to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Mean 0, deviation 1.
    #[default]
    Standard,
    /// 0 to 1.
    MinMax,
}

/// Over what `normalise` takes its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each feature.
    #[default]
    Feature,
    /// All features together.
    All,
}

impl Normalise {
    /// Reads a step's `config`.
    ///
    /// # Errors
    /// At `config`, or the field of it that is unknown.
    pub fn parse(config: &serde_json::Map<String, serde_json::Value>) -> Result<Self, FieldError> {
        let known = ["mode", "per"];
        if let Some(field) = config.keys().find(|key| !known.contains(&key.as_str())) {
            let hint = nearest(field, known).map(|n| format!("; did you mean `{n}`?"));
            let message = format!(
                "unknown setting, `normalise` takes `mode` and `per`{}",
                hint.unwrap_or_default()
            );
            return Err(FieldError::new(format!("config.{field}"), message));
        }
        serde_json::from_value(config.clone().into())
            .map_err(|error| FieldError::new("config", error.to_string()))
    }
}

/// Checks the settings of built-in steps.
#[must_use]
pub fn check_preprocess(steps: &[PreprocessSpec]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if step.builtin == Some(Preprocessing::Normalise)
            && let Err(error) = Normalise::parse(&step.config)
        {
            errors.push(error.under(&format!("preprocess[{index}]")));
        }
    }
    errors
}

/// Checks that not all features are ids, which built-in steps leave alone.
pub(crate) fn check_tokens(steps: &[PreprocessSpec], plan: &Plan) -> Option<FieldError> {
    let index = steps.iter().position(|step| step.builtin.is_some())?;
    let ids = plan.ids();
    let is_id = |number| {
        ids.iter()
            .any(|span| (span.first..span.first + span.count).contains(&number))
    };
    (0..plan.input.width).all(is_id).then(|| {
        let message = "all features are ids that `embedding` takes, which `normalise` leaves alone";
        FieldError::new(format!("preprocess[{index}].builtin"), message)
    })
}
