//! The metric that a run goes by: for stopping early, keeping the best weights, and lowering the
//! learning rate on a plateau.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::metric::goal_of;
use super::{MetricSpec, ScheduleSpec, TrainSpec};
use crate::error::{FieldError, nearest};

/// The metric that a run goes by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorSpec {
    /// `test.loss`, or `test.<metric>` of one of the job's metrics.
    pub metric: String,
    /// Whether less or more of it is better; known for the loss and the built-in metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// What it must change by to count as better.
    pub min_change: f64,
}

impl Default for MonitorSpec {
    fn default() -> Self {
        Self {
            metric: "test.loss".to_owned(),
            goal: None,
            min_change: 0.0,
        }
    }
}

/// Which of two values is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

/// When a run ends before its last step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopSpec {
    /// Evaluations without improvement after which it ends.
    pub patience: u32,
}

impl MonitorSpec {
    /// Which of two values is better, where it is known.
    #[must_use]
    pub fn goal(&self) -> Option<Goal> {
        self.goal.or_else(|| goal_of(&self.metric))
    }
}

impl TrainSpec {
    /// The metric that the run goes by, if it goes by one.
    #[must_use]
    pub fn monitored(&self) -> Option<MonitorSpec> {
        let plateau = matches!(self.schedule, ScheduleSpec::Plateau { .. });
        (plateau || self.keep_best || self.early_stop.is_some())
            .then(|| self.monitor.clone().unwrap_or_default())
    }

    /// Checks the monitored metric against those of the job, and that there are rows to measure.
    pub(super) fn check_monitor(&self, metrics: &[MetricSpec], test: f64) -> Vec<FieldError> {
        let Some(monitor) = self.monitored() else {
            let unused = self.monitor.as_ref().map(|_| {
                let message =
                    "nothing goes by it: set `keep_best`, `early_stop` or a plateau schedule";
                FieldError::new("train.monitor", message)
            });
            return unused.into_iter().collect();
        };
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        check(
            test > 0.0,
            "data.split.test",
            "0 given, but `train.monitor` needs held-out rows".to_owned(),
        );
        let patience = self.early_stop.as_ref().map(|stop| stop.patience);
        let message = "0 given, at least 1 needed".to_owned();
        check(patience != Some(0), "train.early_stop.patience", message);
        let change = monitor.min_change;
        let message = format!("{change} is not a number from 0");
        let from_zero = change >= 0.0 && change.is_finite();
        check(from_zero, "train.monitor.min_change", message);
        let names = metrics.iter().filter_map(MetricSpec::name);
        let known: Vec<String> = std::iter::once("loss".to_owned())
            .chain(names)
            .map(|name| format!("test.{name}"))
            .collect();
        let metric = monitor.metric.as_str();
        if known.iter().all(|name| name != metric) {
            let hint = nearest(metric, known.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let message = format!("`{metric}` isn't measured, only {}{hint}", known.join(", "));
            errors.push(FieldError::new("train.monitor.metric", message));
        } else if monitor.goal.is_none() && is_plugin(metric, metrics) {
            let message = format!("needed for `{metric}`: \"min\" or \"max\"");
            errors.push(FieldError::new("train.monitor.goal", message));
        }
        errors
    }
}

/// Whether a plugin measures it, of which nothing is known, whatever its name.
fn is_plugin(metric: &str, metrics: &[MetricSpec]) -> bool {
    let own = |plugin: &MetricSpec| {
        let name = plugin.name().filter(|_| plugin.plugin.is_some());
        name.is_some_and(|name| metric == format!("test.{name}"))
    };
    metrics.iter().any(own)
}
