//! Ranks in one process: their number changes no bit, and none waits for one that is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_domain::spec::{Apply, PreprocessSpec};
use stoker_model::{InputDescription, Plan, Target, compile_padded};

use super::{SPLIT, Watch, cpu, finished, measure, numbers, plan, targets};
use crate::cpu::simd::Level;
use crate::metric::Metric;
use crate::philox::{Purpose, Stream};
use crate::{
    Control, EngineError, Finished, MetricSource, Observer, Outcome, Preprocess, Run, RunInput,
    StepReport, Table, TargetRows, Targets, Transform,
};

const MODEL: &str =
    r#"{"family": "mlp", "hidden": [21, 13], "activation": "gelu", "dropout": 0.2}"#;
/// Eight shards of three rows, four batches to a step.
const TRAIN: &str = r#"{"epochs": 5, "batch_size": 6, "virtual_shards": 2, "accumulate": 4, "seed": 5,
    "loss": "cross_entropy", "clip": {"norm": 0.4}, "ema": {"decay": 0.7}, "keep_best": true,
    "monitor": {"metric": "test.loss", "goal": "max"}, "early_stop": {"patience": 50},
    "schedule": {"name": "plateau", "patience": 1, "factor": 0.5},
    "optimizer": {"name": "adamw", "learning_rate": 0.03}, "checkpoint": {"every_steps": 1}}"#;
const WIDTH: usize = 5;
const ROWS: usize = 83;

/// Changes rows by seed and place; fails or panics at one of them.
#[derive(Clone, Copy)]
struct Shake {
    fails_at: Option<u64>,
    panics_at: Option<u64>,
}

const SHAKE: Shake = Shake {
    fails_at: None,
    panics_at: None,
};

impl Transform for Shake {
    fn apply(
        &mut self,
        features: &mut Vec<f32>,
        rows: &[u64],
        seed: u64,
    ) -> Result<(), EngineError> {
        let found = |row: Option<u64>| row.is_some_and(|row| rows.contains(&row));
        assert!(!found(self.panics_at), "the transform broke");
        if found(self.fails_at) {
            return Err(EngineError::new(FailureKind::Plugin, "no such row"));
        }
        for (index, x) in features.iter_mut().enumerate() {
            *x += ((seed >> (index % 50)) % 16) as f32 * 0.01;
        }
        Ok(())
    }
}

/// Joins all classes that it has seen, in order, so that merging in another order is seen.
struct Chain(Vec<u8>);

impl Metric for Chain {
    fn update(
        &mut self,
        _scores: &[f32],
        _outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        if let TargetRows::Classes(classes) = targets {
            self.0.extend(classes.iter().map(|&class| class as u8));
        }
        Ok(())
    }
    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok([b"(", self.0.as_slice(), b")"].concat())
    }
    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.0.extend_from_slice(state);
        Ok(())
    }
    fn finish(&mut self) -> Result<f64, EngineError> {
        let word = blake3::hash(&self.0).as_bytes()[..6].to_vec();
        Ok(word
            .iter()
            .fold(0.0, |sum, &byte| sum * 256.0 + f64::from(byte)))
    }
}

fn table_of(features: Vec<f32>) -> Arc<Table> {
    let targets = targets(ROWS, Target::Classes(4));
    Arc::new(Table::new(features, WIDTH, targets).unwrap())
}

fn table() -> Arc<Table> {
    table_of(numbers(ROWS * WIDTH, 1))
}

fn the_plan() -> Arc<Plan> {
    plan(MODEL, TRAIN, WIDTH, Target::Classes(4))
}

fn input<'a>(table: &Arc<Table>, shake: Shake, resume: Option<&'a [u8]>) -> RunInput<'a> {
    let spec: PreprocessSpec = serde_json::from_str(r#"{"builtin": "normalise"}"#).unwrap();
    RunInput {
        plan: the_plan(),
        table: Arc::clone(table),
        split: &SPLIT,
        preprocess: vec![
            Preprocess::builtin(&spec, &the_plan().input)
                .unwrap()
                .unwrap(),
            Preprocess::custom(Apply::Always, Box::new(shake)),
        ],
        metrics: vec![
            measure("accuracy", &the_plan()),
            MetricSource::new("chain", Box::new(|| Ok(Box::new(Chain(Vec::new()))))),
        ],
        resume,
    }
}

fn train(workers: usize, resume: Option<&[u8]>) -> (Finished, Watch) {
    let mut watch = Watch::default();
    let cpu = cpu(2, Level::detect());
    let mut run = Run::with_workers(&cpu, input(&table(), SHAKE, resume), workers).unwrap();
    (finished(run.run(&mut watch).unwrap()), watch)
}

/// The error of a run that must fail, and what it told before.
fn fail(workers: usize, table: &Arc<Table>, shake: Shake) -> (EngineError, Watch, Run) {
    let mut watch = Watch::default();
    let cpu = cpu(2, Level::detect());
    let mut run = Run::with_workers(&cpu, input(table, shake, None), workers).unwrap();
    let error = run.run(&mut watch).unwrap_err();
    (error, watch, run)
}

#[test]
fn the_number_of_workers_changes_no_bit() {
    let (expected, watched) = train(1, None);
    // 66 training rows in steps of 24: the last step of an epoch has shards without rows.
    assert_eq!((expected.steps, watched.checkpoints.len()), (15, 14));
    assert!(
        watched.rates.last() < watched.rates.first(),
        "the plateau was reached"
    );
    for workers in [2, 4, 8] {
        let (given, watch) = train(workers, None);
        assert_eq!(watch.losses, watched.losses, "{workers} workers");
        assert_eq!(watch.rates, watched.rates, "{workers} workers");
        assert_eq!(watch.evaluations, watched.evaluations, "{workers} workers");
        assert!(
            watch.checkpoints == watched.checkpoints,
            "{workers} workers"
        );
        assert!(given == expected, "{workers} workers");
    }
}

#[test]
fn resumed_with_another_number_of_workers() {
    let (expected, watched) = train(4, None);
    for (step, bytes) in watched.checkpoints.iter().step_by(3) {
        for workers in [1, 2, 8] {
            let (given, watch) = train(workers, Some(bytes));
            assert!(given == expected, "{workers} workers after step {step}");
            assert_eq!(watch.losses, watched.losses[*step as usize..]);
        }
    }
}

#[test]
fn paused_stopped_and_gone_on_with() {
    struct Until(u64, Control, Watch);
    impl Observer for Until {
        fn step(&mut self, report: &StepReport) {
            self.2.step(report);
        }
        fn evaluated(&mut self, step: u64, epoch: u64, metrics: &[(String, f64)]) {
            self.2.evaluated(step, epoch, metrics);
        }
        fn checkpoint(&mut self, step: u64, bytes: Vec<u8>) -> Result<(), EngineError> {
            self.2.checkpoint(step, bytes)
        }
        fn control(&mut self) -> Control {
            if self.2.losses.len() as u64 == self.0 {
                self.1
            } else {
                Control::Continue
            }
        }
    }
    let (expected, watched) = train(1, None);
    for step in [1, 3, 7, 14, 15] {
        let cpu = cpu(1, Level::detect());
        let mut run = Run::with_workers(&cpu, input(&table(), SHAKE, None), 4).unwrap();
        let mut until = Until(step, Control::Stop, Watch::default());
        assert_eq!(run.run(&mut until).unwrap(), Outcome::Stopped { step });
        let mut rest = Watch::default();
        assert!(finished(run.run(&mut rest).unwrap()) == expected);
        assert_eq!(rest.losses, watched.losses[step as usize..]);

        let mut run = Run::with_workers(&cpu, input(&table(), SHAKE, None), 4).unwrap();
        let mut until = Until(step, Control::Pause, Watch::default());
        assert_eq!(run.run(&mut until).unwrap(), Outcome::Paused { step });
        let (at, bytes) = until.2.checkpoints.last().unwrap();
        assert_eq!(*at, step);
        assert!(train(2, Some(bytes)).0 == expected);
    }
}

#[test]
fn the_same_error_whoever_meets_it() {
    let split = crate::order::split(&SPLIT, &table()).unwrap();
    let rows = [
        split.train[0],
        split.train[31],
        split.test[0],
        split.test[9],
    ];
    for row in rows {
        let mut features = numbers(ROWS * WIDTH, 1);
        features[row as usize * WIDTH] = f32::INFINITY;
        let broken = table_of(features);
        let fails = Shake {
            fails_at: Some(row),
            ..SHAKE
        };
        for (table, shake) in [(&broken, SHAKE), (&table(), fails)] {
            let (expected, watched, run) = fail(1, table, shake);
            let left = run.checkpoint();
            for workers in [2, 8] {
                let (error, watch, run) = fail(workers, table, shake);
                assert_eq!(error, expected, "{workers} workers");
                assert_eq!(watch.losses, watched.losses, "{workers} workers");
                assert!(run.checkpoint() == left, "{workers} workers");
            }
        }
    }
}

#[test]
fn a_rank_that_panics_is_lost_and_the_others_end() {
    let split = crate::order::split(&SPLIT, &table()).unwrap();
    for (row, workers) in [
        (split.train[17], 2),
        (split.train[40], 8),
        (split.test[5], 4),
    ] {
        let shake = Shake {
            panics_at: Some(row),
            ..SHAKE
        };
        let run = || fail(workers, &table(), shake);
        // It may be the first rank that has the row; its panic is the caller's.
        let Ok((error, _, mut run)) = catch_unwind(AssertUnwindSafe(run)) else {
            continue;
        };
        assert_eq!(error.kind, FailureKind::Platform);
        let named = |rank| format!("rank {rank} of {workers} was lost: it panicked: the transform");
        let ranks = 1..workers;
        assert!(
            ranks
                .into_iter()
                .any(|rank| error.message.starts_with(&named(rank))),
            "{}",
            error.message
        );
        let again = run.run(&mut Watch::default()).unwrap_err();
        assert_eq!(
            again.message, error.message,
            "a run can't go on without a rank"
        );
    }
}

#[test]
fn an_observer_that_breaks_lets_the_ranks_go() {
    struct Breaks(bool);
    impl Observer for Breaks {
        fn step(&mut self, report: &StepReport) {
            assert!(!self.0 || report.step < 3, "the observer broke");
        }
        fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
        fn checkpoint(&mut self, step: u64, _: Vec<u8>) -> Result<(), EngineError> {
            match step {
                3 => Err(EngineError::new(FailureKind::Capacity, "the disk is full")),
                _ => Ok(()),
            }
        }
        fn control(&mut self) -> Control {
            Control::Continue
        }
    }
    let cpu = cpu(2, Level::detect());
    let start = || Run::with_workers(&cpu, input(&table(), SHAKE, None), 4).unwrap();
    let error = start().run(&mut Breaks(false)).unwrap_err();
    assert_eq!(error.message, "the disk is full");
    let panic = catch_unwind(AssertUnwindSafe(|| start().run(&mut Breaks(true)))).unwrap_err();
    assert!(
        panic
            .downcast_ref::<&str>()
            .is_some_and(|text| text.contains("the observer broke"))
    );
}

#[test]
fn workers_are_a_power_of_two_up_to_the_shards() {
    let cpu = cpu(1, Level::detect());
    for workers in [0, 3, 6, 16] {
        let input = input(&table(), SHAKE, None);
        let Err(error) = Run::with_workers(&cpu, input, workers) else {
            panic!("{workers} workers must be refused")
        };
        assert_eq!(error.kind, FailureKind::User);
        assert!(error.message.contains("up to 8"), "{}", error.message);
    }
}

#[test]
fn a_rank_keeps_gradients_of_its_own_shards_only() {
    let plan = the_plan();
    let slots = [1, 2, 4, 8].map(|ranks| plan.gradient_slots(ranks));
    assert_eq!(slots, [4, 3, 2, 1]);
}

/// Rows of 1 to 7 tokens, zeros behind them, and a class at each position.
fn tokens() -> [Vec<f32>; 2] {
    let stream = Stream::new(80, Purpose::Init, 0, 0);
    let (mut features, mut classes) = (Vec::new(), Vec::new());
    for row in 0..ROWS {
        let length = 1 + stream.below(row as u64, LENGTH as u64) as usize;
        for at in 0..LENGTH {
            let token = 1 + stream.below((ROWS + row * LENGTH + at) as u64, 8);
            features.push(if at < length { token as f32 } else { 0.0 });
            classes.push((token % 4) as f32);
        }
    }
    [features, classes]
}

const LENGTH: usize = 7;

/// Evaluations, losses and checkpoints of a run over rows of tokens that end early, by so many
/// workers.
fn of_tokens(model: &str, target: Target, buckets: &[u32], workers: usize) -> (Finished, Watch) {
    let train = TRAIN.replace("\"epochs\": 5", "\"epochs\": 2");
    let description = InputDescription {
        width: LENGTH,
        shape: vec![LENGTH],
        vocabulary: Some(9),
        columns: Vec::new(),
        target,
    };
    let (model, train) = (
        serde_json::from_str(model).unwrap(),
        serde_json::from_str(&train).unwrap(),
    );
    let plan = compile_padded(&model, &train, &description, buckets, Some(0.0)).unwrap();
    assert_eq!(plan.shorter.len(), buckets.len().saturating_sub(1));
    let [features, classes] = tokens();
    let classes = classes.iter().map(|&class| class as u32).collect();
    let targets = match target {
        Target::Masked { .. } => Targets::Features,
        _ => Targets::Classes(classes),
    };
    let (plan, table) = (
        Arc::new(plan),
        Table::new(features, LENGTH, targets).unwrap(),
    );
    let input = RunInput {
        metrics: vec![measure("accuracy", &plan)],
        ..super::input(&plan, &Arc::new(table), None)
    };
    let mut watch = Watch::default();
    let mut run = Run::with_workers(&cpu(2, Level::detect()), input, workers).unwrap();
    (finished(run.run(&mut watch).unwrap()), watch)
}

#[test]
fn ranks_share_buckets_of_length_and_masked_tokens() {
    let gpt = r#"{"family": "gpt", "depth": 1, "width": 8, "heads": 2, "dropout": 0.1}"#;
    let encoder = r#"{"family": "encoder", "masked": 0.3, "depth": 1, "width": 8, "heads": 2}"#;
    let (classes, positions) = (4, LENGTH);
    let next = Target::Sequence { classes, positions };
    let masked = Target::Masked {
        classes: 9,
        positions,
    };
    for (model, target) in [(gpt, next), (encoder, masked)] {
        for buckets in [&[][..], &[3, 5, LENGTH as u32]] {
            let (expected, watched) = of_tokens(model, target, buckets, 1);
            assert!(watched.checkpoints.len() > 4 && watched.evaluations.len() == 2);
            for workers in [2, 4, 8] {
                let what = format!("{workers} workers, {buckets:?}: {model}");
                let (given, watch) = of_tokens(model, target, buckets, workers);
                assert_eq!(watch.losses, watched.losses, "{what}");
                assert_eq!(watch.evaluations, watched.evaluations, "{what}");
                assert!(watch.checkpoints == watched.checkpoints, "{what}");
                assert!(given == expected, "{what}");
            }
        }
    }
}
