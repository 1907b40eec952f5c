//! The built-in preprocessing steps and metrics: which settings they take, and which models they
//! fit.

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::error::nearest;
use stoker_domain::spec::{Measure, MetricSpec, PreprocessSpec, Preprocessing};

use crate::input::Target;
use crate::op::{Kernel, Op};
use crate::plan::Plan;

/// Settings of the built-in step `normalise`.
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

/// Checks that no built-in step changes token ids.
pub(crate) fn check_tokens(steps: &[PreprocessSpec], plan: &Plan) -> Option<FieldError> {
    let embeds = |kernel: &Kernel| matches!(kernel.op, Op::Embedding { .. });
    let index = steps.iter().position(|step| step.builtin.is_some())?;
    plan.forward.iter().any(embeds).then(|| {
        let message = "`normalise` would change the token ids that `embedding` takes";
        FieldError::new(format!("preprocess[{index}].builtin"), message)
    })
}

/// Checks that built-in metrics fit what is predicted.
#[must_use]
pub fn check_metrics(metrics: &[MetricSpec], target: Target) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let Some(measure) = metric.builtin else {
            continue;
        };
        let allowed = match (measure, target) {
            (Measure::Accuracy, Target::Values(_) | Target::Quantiles { .. }) => {
                "a class (loss = \"cross_entropy\")"
            }
            (
                Measure::Mae | Measure::Rmse,
                Target::Classes(_)
                | Target::Sequence { .. }
                | Target::Masked { .. }
                | Target::Quantiles { .. },
            ) => "values, with a prediction for each (loss = \"mse\")",
            _ => continue,
        };
        let message = format!("`{}` needs a target that is {allowed}", measure.as_str());
        errors.push(FieldError::new(
            format!("metrics[{index}].builtin"),
            message,
        ));
    }
    errors
}
