//! The learning rate of a step.

use stoker_domain::spec::{OptimizerSpec, ScheduleSpec, TrainSpec};

use crate::math::{cos_pi, power};

/// The learning rate of step `step` of `steps`; the first one is 0.
///
/// Cosine: the warm-up's n steps take 1/n, 2/n, … of the rate; the last step of all has
/// `min_share` of it.
pub(crate) fn learning_rate(train: &TrainSpec, step: u64, steps: u64) -> f64 {
    let (OptimizerSpec::Sgd { learning_rate, .. } | OptimizerSpec::AdamW { learning_rate, .. }) =
        train.optimizer;
    let rate = f64::from(learning_rate);
    match train.schedule {
        ScheduleSpec::Constant => rate,
        ScheduleSpec::Cosine {
            warmup_steps,
            min_share,
        } => {
            if step < warmup_steps {
                return rate * (step + 1) as f64 / warmup_steps as f64;
            }
            let length = steps.saturating_sub(1).saturating_sub(warmup_steps).max(1);
            let share = ((step - warmup_steps) as f64 / length as f64).min(1.0);
            let floor = f64::from(min_share);
            rate * (floor + (1.0 - floor) * 0.5 * (1.0 + cos_pi(share)))
        }
        ScheduleSpec::Step {
            every_steps,
            factor,
        } => rate * power(f64::from(factor), step / every_steps.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(schedule: &str) -> TrainSpec {
        let text = format!(
            r#"{{"steps": 10, "batch_size": 1, "loss": "mse", "schedule": {schedule},
                "optimizer": {{"name": "sgd", "learning_rate": 0.5}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn rates(schedule: &str) -> Vec<f64> {
        let train = train(schedule);
        let rates = (0..10).map(|step| learning_rate(&train, step, 10));
        rates.map(|rate| (rate * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn schedules_count_steps() {
        assert_eq!(rates(r#"{"name": "constant"}"#), [0.5; 10]);
        assert_eq!(
            rates(r#"{"name": "step", "every_steps": 4, "factor": 0.5}"#),
            [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125]
        );
        let cosine = rates(r#"{"name": "cosine", "warmup_steps": 5, "min_share": 0.1}"#);
        assert_eq!(cosine[..6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]);
        assert_eq!(cosine[7], 0.275);
        assert_eq!(cosine[9], 0.05);
    }

    #[test]
    fn short_runs_have_a_rate_too() {
        for steps in 1..4 {
            for step in 0..steps {
                let train = train(r#"{"name": "cosine", "warmup_steps": 2}"#);
                let rate = learning_rate(&train, step, steps);
                assert!((0.0..=0.5).contains(&rate), "{step} of {steps}: {rate}");
            }
        }
    }
}
