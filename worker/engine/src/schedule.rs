//! The learning rate of a step.

use stoker_domain::spec::{OptimizerSpec, ScheduleSpec, TrainSpec};

use crate::math::{cos_pi, power};

/// The learning rate of step `step` of `steps`; the first one is 0. `lowered` counts the plateaus
/// so far.
///
/// The warm-up's n steps take 1/n, 2/n, … of the rate. The last step of all has `min_share` of it,
/// where the schedule has one.
pub(crate) fn learning_rate(train: &TrainSpec, step: u64, steps: u64, lowered: u32) -> f64 {
    let (OptimizerSpec::Sgd { learning_rate, .. } | OptimizerSpec::AdamW { learning_rate, .. }) =
        train.optimizer;
    let rate = f64::from(learning_rate);
    let warmup = train.schedule.warmup_steps();
    if step < warmup {
        return rate * (step + 1) as f64 / warmup as f64;
    }
    // 0 at the first step after the warm-up, 1 at the last of all.
    let length = steps.saturating_sub(1).saturating_sub(warmup).max(1);
    let done = ((step - warmup) as f64 / length as f64).min(1.0);
    rate * match train.schedule {
        ScheduleSpec::Constant { .. } => 1.0,
        ScheduleSpec::Cosine { min_share, .. } => descent(1.0, f64::from(min_share), done),
        ScheduleSpec::Linear { min_share, .. } => {
            let floor = f64::from(min_share);
            floor + (1.0 - floor) * (1.0 - done)
        }
        ScheduleSpec::OneCycle {
            rise,
            start_share,
            min_share,
        } => {
            let [rise, start, end] = [rise, start_share, min_share].map(f64::from);
            if done < rise {
                descent(start, 1.0, done / rise)
            } else {
                descent(1.0, end, (done - rise) / (1.0 - rise))
            }
        }
        ScheduleSpec::Step {
            every_steps,
            factor,
            ..
        } => power(f64::from(factor), step / every_steps.max(1)),
        ScheduleSpec::Plateau {
            factor, min_share, ..
        } => power(f64::from(factor), u64::from(lowered)).max(f64::from(min_share)),
    }
}

/// Half a cosine from one number to another.
fn descent(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + cos_pi(done))
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
        let rates = (0..10).map(|step| learning_rate(&train, step, 10, 0));
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
    fn lines_cycles_and_plateaus() {
        let linear = rates(r#"{"name": "linear", "warmup_steps": 2, "min_share": 0.3}"#);
        assert_eq!(linear[..4], [0.25, 0.5, 0.5, 0.45]);
        assert_eq!(linear[9], 0.15);
        let warm = rates(r#"{"name": "constant", "warmup_steps": 4}"#);
        assert_eq!(warm[..5], [0.125, 0.25, 0.375, 0.5, 0.5]);
        // The largest rate comes at 3/9 of the way, which is where 0.3 would be.
        let cycle = rates(r#"{"name": "one_cycle", "rise": 0.3333333333, "min_share": 0.1}"#);
        assert_eq!([cycle[0], cycle[3], cycle[9]], [0.02, 0.5, 0.05]);
        assert!(
            cycle.windows(2).take(3).all(|pair| pair[0] < pair[1]),
            "{cycle:?}"
        );
        assert!(
            cycle[3..].windows(2).all(|pair| pair[0] > pair[1]),
            "{cycle:?}"
        );
        let plateau = train(r#"{"name": "plateau", "factor": 0.5, "min_share": 0.2}"#);
        let lowered = (0..4).map(|lowered| learning_rate(&plateau, 5, 10, lowered));
        let expected = [0.5, 0.25, 0.125, f64::from(0.2_f32) * 0.5];
        assert_eq!(lowered.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn short_runs_have_a_rate_too() {
        for steps in 1..4 {
            for step in 0..steps {
                for name in ["cosine", "linear"] {
                    let train = train(&format!(r#"{{"name": "{name}", "warmup_steps": 2}}"#));
                    let rate = learning_rate(&train, step, steps, 0);
                    assert!((0.0..=0.5).contains(&rate), "{step} of {steps}: {rate}");
                }
                let cycle = learning_rate(&train(r#"{"name": "one_cycle"}"#), step, steps, 0);
                assert!((0.0..=0.5).contains(&cycle), "{step} of {steps}: {cycle}");
            }
        }
    }
}
