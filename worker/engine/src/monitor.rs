//! The metric that a run goes by: what was best, and how long ago.

use serde::{Deserialize, Serialize};
use stoker_domain::spec::{Goal, MonitorSpec, ScheduleSpec, TrainSpec};

/// Follows a run's monitored metric.
#[derive(Debug)]
pub(crate) struct Monitor {
    spec: MonitorSpec,
    /// Evaluations that a plateau schedule and early stopping wait.
    plateau: Option<u32>,
    patience: Option<u32>,
    pub(crate) state: MonitorState,
}

/// What a checkpoint keeps of it. Numbers are kept as bits, which JSON can't round.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MonitorState {
    /// The step that was evaluated last; each counts once, also where it is evaluated again after
    /// a resume.
    step: u64,
    /// The best evaluation.
    best: Option<Best>,
    /// Evaluations since the best one.
    waited: u32,
    /// The same, or since the learning rate was lowered.
    since_lowered: u32,
    /// How often it was.
    pub(crate) lowered: u32,
}

/// The best evaluation: its step, and all that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) step: u64,
    value: u64,
    metrics: Vec<(String, u64)>,
}

impl Best {
    /// All that was measured.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (String, f64)> {
        let metrics = self.metrics.iter();
        metrics.map(|(name, bits)| (name.clone(), f64::from_bits(*bits)))
    }
}

impl Monitor {
    /// Nothing where no part of the spec goes by a metric.
    pub(crate) fn new(train: &TrainSpec, saved: Option<MonitorState>) -> Option<Self> {
        Some(Self {
            spec: train.monitored()?,
            plateau: match train.schedule {
                ScheduleSpec::Plateau { patience, .. } => Some(patience),
                _ => None,
            },
            patience: train.early_stop.as_ref().map(|stop| stop.patience),
            state: saved.unwrap_or_default(),
        })
    }

    /// Takes in an evaluation; an empty one doesn't count. Whether it is the best so far.
    pub(crate) fn take(&mut self, step: u64, metrics: &[(String, f64)]) -> bool {
        let state = &mut self.state;
        if metrics.is_empty() || step <= state.step {
            return false;
        }
        let found = metrics.iter().find(|(name, _)| *name == self.spec.metric);
        // One that is undefined isn't better.
        let value = found.map_or(f64::NAN, |(_, value)| *value);
        state.step = step;
        let change = self.spec.min_change;
        let better = !value.is_nan()
            && state.best.as_ref().is_none_or(|best| {
                let best = f64::from_bits(best.value);
                match self.spec.goal() {
                    Some(Goal::Max) => value > best + change,
                    _ => value < best - change,
                }
            });
        if better {
            let metrics = metrics.iter();
            state.best = Some(Best {
                step,
                value: value.to_bits(),
                metrics: metrics
                    .map(|(name, v)| (name.clone(), v.to_bits()))
                    .collect(),
            });
            (state.waited, state.since_lowered) = (0, 0);
        } else {
            state.waited += 1;
            state.since_lowered += 1;
        }
        if self
            .plateau
            .is_some_and(|patience| state.since_lowered >= patience)
        {
            state.lowered += 1;
            state.since_lowered = 0;
        }
        better
    }

    /// Whether the run is to end here.
    pub(crate) fn is_over(&self) -> bool {
        self.patience
            .is_some_and(|patience| self.state.waited >= patience)
    }

    /// The best evaluation so far.
    pub(crate) const fn best(&self) -> Option<&Best> {
        self.state.best.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor(more: &str) -> Monitor {
        let text = format!(r#"{{"steps": 9, "batch_size": 1, "loss": "mse", {more}}}"#);
        let train: TrainSpec = serde_json::from_str(&text).unwrap();
        Monitor::new(&train, None).unwrap()
    }

    fn take(monitor: &mut Monitor, step: u64, value: f64) -> bool {
        monitor.take(
            step,
            &[("test.f1".to_owned(), 0.5), ("test.loss".to_owned(), value)],
        )
    }

    #[test]
    fn waits_from_the_last_improvement() {
        let mut monitor = monitor(r#""early_stop": {"patience": 2}"#);
        let taken = [3.0, 2.0, 2.0, f64::NAN, 2.5];
        let better: Vec<bool> = (1..)
            .zip(taken)
            .map(|(step, value)| take(&mut monitor, step, value))
            .collect();
        assert_eq!(better, [true, true, false, false, false]);
        assert_eq!(monitor.state.waited, 3);
        assert!(monitor.is_over());
        assert!(take(&mut monitor, 6, 1.0) && !monitor.is_over());
        assert!(!take(&mut monitor, 6, 0.5), "a step counts once");
        let best = monitor.best().unwrap();
        assert_eq!(
            best.metrics().last().unwrap(),
            ("test.loss".to_owned(), 1.0)
        );
    }

    #[test]
    fn an_undefined_metric_is_no_improvement() {
        let mut monitor = monitor(r#""early_stop": {"patience": 2}"#);
        let other = [("test.f1".to_owned(), 0.5)];
        assert!(!monitor.take(1, &[]) && !monitor.take(2, &other));
        assert_eq!(monitor.state.waited, 1);
        assert!(take(&mut monitor, 3, 1.0));
        assert!(!monitor.take(4, &other) && !monitor.take(5, &other));
        assert!(monitor.is_over());
    }

    #[test]
    fn larger_may_be_better_and_small_changes_not() {
        let monitored = r#""monitor": {"metric": "test.loss", "goal": "max", "min_change": 0.5}"#;
        let mut monitor = monitor(&format!(r#""keep_best": true, {monitored}"#));
        let taken = [1.0, 1.4, 1.6, 0.0];
        let better = (1..)
            .zip(taken)
            .map(|(step, v)| take(&mut monitor, step, v));
        assert_eq!(better.collect::<Vec<_>>(), [true, false, true, false]);
        assert!(!monitor.is_over());
    }

    #[test]
    fn a_plateau_lowers_again_and_again() {
        let mut monitor = monitor(r#""schedule": {"name": "plateau", "patience": 2}"#);
        let lowered: Vec<u32> = (1..=7)
            .map(|step| {
                take(&mut monitor, step, if step == 6 { 0.5 } else { 1.0 });
                monitor.state.lowered
            })
            .collect();
        assert_eq!(lowered, [0, 0, 1, 1, 2, 2, 2]);
        let json = serde_json::to_string(&monitor.state).unwrap();
        assert_eq!(
            serde_json::from_str::<MonitorState>(&json).unwrap(),
            monitor.state
        );
    }
}
