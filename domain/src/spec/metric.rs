//! What is measured on the held-out rows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::monitor::Goal;
use crate::error::FieldError;
use crate::id::Ref;

/// Scores that `top_k` looks at, and `recall_at` too, where `config.k` is left out.
pub const TOP_K_DEFAULT: u32 = 5;
/// The same of `recall_at`.
pub const RECALL_K_DEFAULT: u32 = 10;

/// One metric: a built-in one or a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// A plugin, as `name@version`; excludes `builtin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Ref>,
    /// A built-in metric; excludes `plugin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Measure>,
    /// The metric's own settings.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
}

impl MetricSpec {
    /// What its points are reported as, after `test.`; nothing where it has no value.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        if let Some(plugin) = &self.plugin {
            return Some(plugin.name.as_str().to_owned());
        }
        self.builtin?.name(&self.config)
    }
}

/// The built-in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Share of rows whose highest score is the target class.
    Accuracy,
    /// Share of rows whose target class is among the `k` highest scores.
    TopK,
    /// Share of the rows predicted to be of a class that are.
    Precision,
    /// Share of the rows of a class that are predicted to be.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Intersection over union of the rows of a class and those predicted to be (Jaccard).
    Iou,
    /// Twice the intersection over the sum of both: the same as `f1`.
    Dice,
    /// No value: the numbers of rows by target and predicted class, as `confusion.json`.
    Confusion,
    /// Area under the curve of true over false positives.
    RocAuc,
    /// Area under the curve of precision over recall: average precision.
    PrAuc,
    /// How far the share of right predictions is from their probability (top-label ECE).
    CalibrationError,
    /// e to the mean negative log-likelihood of the target class.
    Perplexity,
    /// Mean negative log-likelihood of the target class in bits.
    BitsPerChar,
    /// Mean absolute error.
    Mae,
    /// Root of the mean squared error.
    Rmse,
    /// Mean absolute error over the size of the target.
    Mape,
    /// Pinball loss of quantiles.
    Pinball,
    /// Normalised discounted cumulative gain of a ranking.
    Ndcg,
    /// Share of what is relevant that is among the `k` highest scores of a ranking.
    RecallAt,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Accuracy,
        Self::TopK,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Iou,
        Self::Dice,
        Self::Confusion,
        Self::RocAuc,
        Self::PrAuc,
        Self::CalibrationError,
        Self::Perplexity,
        Self::BitsPerChar,
        Self::Mae,
        Self::Rmse,
        Self::Mape,
        Self::Pinball,
        Self::Ndcg,
        Self::RecallAt,
    ];

    /// The name as it is written in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::TopK => "top_k",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Iou => "iou",
            Self::Dice => "dice",
            Self::Confusion => "confusion",
            Self::RocAuc => "roc_auc",
            Self::PrAuc => "pr_auc",
            Self::CalibrationError => "calibration_error",
            Self::Perplexity => "perplexity",
            Self::BitsPerChar => "bits_per_char",
            Self::Mae => "mae",
            Self::Rmse => "rmse",
            Self::Mape => "mape",
            Self::Pinball => "pinball",
            Self::Ndcg => "ndcg",
            Self::RecallAt => "recall_at",
        }
    }

    /// The settings that its `config` takes.
    #[must_use]
    pub const fn settings(self) -> &'static [&'static str] {
        match self {
            Self::TopK => &["k"],
            Self::Precision | Self::Recall | Self::F1 | Self::Iou | Self::Dice => {
                &["average", "positive"]
            }
            Self::RocAuc | Self::PrAuc => &["average"],
            Self::CalibrationError => &["bins"],
            Self::Pinball => &["level"],
            Self::Ndcg => &["k", "group"],
            Self::RecallAt => &["k", "threshold", "group"],
            Self::Accuracy
            | Self::Confusion
            | Self::Perplexity
            | Self::BitsPerChar
            | Self::Mae
            | Self::Rmse
            | Self::Mape => &[],
        }
    }

    /// Which of two values is better; nothing where it has no value.
    #[must_use]
    pub const fn goal(self) -> Option<Goal> {
        match self {
            Self::Confusion => None,
            Self::CalibrationError
            | Self::Perplexity
            | Self::BitsPerChar
            | Self::Mae
            | Self::Rmse
            | Self::Mape
            | Self::Pinball => Some(Goal::Min),
            _ => Some(Goal::Max),
        }
    }

    /// The name under which its points are reported: it tells the settings that were given, so
    /// that a job may have one measure in several ways.
    fn name(self, config: &Map<String, Value>) -> Option<String> {
        let given = |key: &str| config.get(key).map(plain);
        let or = |key: &str, default: u32| given(key).unwrap_or_else(|| default.to_string());
        let (base, k) = match self {
            Self::Confusion => return None,
            Self::TopK => ("top", Some(or("k", TOP_K_DEFAULT))),
            Self::RecallAt => ("recall_at", Some(or("k", RECALL_K_DEFAULT))),
            _ => (self.as_str(), given("k")),
        };
        let mut name = base.to_owned();
        let settings = [
            ("_", k),
            ("_", given("average")),
            ("_class_", given("positive")),
            ("_", given("level")),
            ("_", given("bins")),
            ("_from_", given("threshold")),
            ("_by_", given("group")),
        ];
        for (before, value) in settings {
            if let Some(value) = value {
                name.push_str(before);
                name.push_str(&value);
            }
        }
        Some(name)
    }

    /// The measure whose points are reported under a name.
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&measure| {
            let base = match measure {
                Self::TopK => "top",
                _ => measure.as_str(),
            };
            let Some(settings) = name.strip_prefix(base) else {
                return false;
            };
            let Some(settings) = settings.strip_prefix('_') else {
                return settings.is_empty() && measure != Self::TopK;
            };
            let words = ["macro", "micro", "class_", "from_", "by_"];
            words.iter().any(|word| settings.starts_with(word))
                || settings.starts_with(|c: char| c.is_ascii_digit())
        })
    }
}

/// A setting as part of a name.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let allowed = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
        _ => '_',
    };
    text.chars().take(64).map(allowed).collect()
}

/// Which of two values of a metric is better, by the name of its points.
pub(super) fn goal_of(point: &str) -> Option<Goal> {
    match point.strip_prefix("test.")? {
        "loss" => Some(Goal::Min),
        name => Measure::of_name(name)?.goal(),
    }
}

/// Checks that no two metrics are reported under one name.
pub(super) fn check_names(metrics: &[MetricSpec]) -> Vec<FieldError> {
    let names: Vec<Option<String>> = metrics.iter().map(MetricSpec::name).collect();
    let mut errors = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let mut before = names.iter().take(index);
        if let Some(first) = before.position(|other| other.as_ref() == Some(name)) {
            let message = format!("`test.{name}` is reported by metrics[{first}] already");
            errors.push(FieldError::new(format!("metrics[{index}]"), message));
        }
        if name == "loss" {
            let message = "`test.loss` is always reported: rename the plugin";
            errors.push(FieldError::new(format!("metrics[{index}]"), message));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<String> {
        let spec: MetricSpec = serde_json::from_str(text).unwrap();
        spec.name()
    }

    #[test]
    fn names_tell_the_settings_and_give_the_goal() {
        use Goal::{Max, Min};
        for (text, expected, goal) in [
            (r#""accuracy""#, "accuracy", Max),
            (r#""top_k""#, "top_5", Max),
            (r#""top_k", "config": {"k": 3}"#, "top_3", Max),
            (r#""f1", "config": {"average": "macro"}"#, "f1_macro", Max),
            (
                r#""recall", "config": {"positive": 2}"#,
                "recall_class_2",
                Max,
            ),
            (r#""recall_at""#, "recall_at_10", Max),
            (
                r#""recall_at", "config": {"k": 2, "threshold": 3.5, "group": "the user"}"#,
                "recall_at_2_from_3.5_by_the_user",
                Max,
            ),
            (
                r#""ndcg", "config": {"group": "user"}"#,
                "ndcg_by_user",
                Max,
            ),
            (r#""pinball", "config": {"level": 0.9}"#, "pinball_0.9", Min),
            (
                r#""calibration_error", "config": {"bins": 10}"#,
                "calibration_error_10",
                Min,
            ),
            (r#""mape""#, "mape", Min),
        ] {
            let found = name(&format!("{{\"builtin\": {text}}}"));
            assert_eq!(found.as_deref(), Some(expected));
            assert_eq!(goal_of(&format!("test.{expected}")), Some(goal), "{text}");
        }
        assert_eq!(name(r#"{"builtin": "confusion"}"#), None);
        for own in [
            "test.f1_score",
            "test.top",
            "test.mean",
            "f1",
            "test.confusion",
        ] {
            assert_eq!(goal_of(own), None, "{own}");
        }
    }

    #[test]
    fn spec_names_are_those_of_serde() {
        for measure in Measure::ALL {
            let json = serde_json::to_string(&measure).unwrap();
            assert_eq!(json, format!("\"{}\"", measure.as_str()));
        }
    }
}
