//! Families over sequences learn, resume, and depend on neither threads nor instructions.

use std::sync::Arc;

use stoker_domain::spec::TrainSpec;
use stoker_model::{InputDescription, Plan, Target, compile};

use super::{Watch, cpu, finished, input, measure, run};
use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};
use crate::{Outcome, Run, RunInput, Table, Targets};

const LENGTH: usize = 11;
const VOCABULARY: usize = 7;
const TRAIN: &str = r#"{"epochs": 30, "batch_size": 32, "virtual_shards": 2, "loss": "cross_entropy",
    "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#;

fn compiled(model: &str, train: &str, target: Target, tokens: bool) -> Arc<Plan> {
    let train: TrainSpec = serde_json::from_str(train).unwrap();
    let input = InputDescription {
        width: LENGTH,
        shape: vec![LENGTH],
        vocabulary: tokens.then_some(VOCABULARY),
        columns: Vec::new(),
        target,
    };
    Arc::new(compile(&serde_json::from_str(model).unwrap(), &train, &input).unwrap())
}

/// Rows of token ids that count up, from a random one.
fn counting(rows: usize) -> Vec<f32> {
    let stream = Stream::new(5, Purpose::Init, 3, 0);
    let row = |row: u64| {
        let first = stream.below(row, VOCABULARY as u64) as usize;
        (0..LENGTH).map(move |position| ((first + position) % VOCABULARY) as f32)
    };
    (0..rows as u64).flat_map(row).collect()
}

/// A table whose class is the first token of a row.
fn first_tokens(rows: usize) -> Arc<Table> {
    let features = counting(rows);
    let first = features.chunks_exact(LENGTH).map(|row| row[0] as u32);
    let targets = Targets::Classes(first.collect());
    Arc::new(Table::new(features, LENGTH, targets).unwrap())
}

#[track_caller]
fn learns(plan: &Arc<Plan>, table: &Arc<Table>, below: f64) {
    let (expected, _) = run(&cpu(1, Level::Scalar), input(plan, table, None));
    let loss = expected.metrics["test.loss"];
    assert!(loss < below, "{loss}");
    for (threads, level) in [(2, Level::Scalar), (3, Level::detect())] {
        let (other, _) = run(&cpu(threads, level), input(plan, table, None));
        assert_eq!(
            other.weights, expected.weights,
            "{threads} threads, {level:?}"
        );
    }
}

#[test]
fn recurrent_and_convolutional_ones_learn() {
    for model in [
        r#"{"family": "lstm", "embedding": 8, "units": 19, "dropout": 0.1}"#,
        r#"{"family": "lstm", "cell": "gru", "embedding": 8, "units": 16}"#,
        r#"{"family": "tcn", "embedding": 8, "channels": [12, 12, 10], "dropout": 0.1}"#,
    ] {
        let plan = compiled(model, TRAIN, Target::Classes(VOCABULARY), true);
        learns(&plan, &first_tokens(150), 0.3);
    }
    // As numbers, one to a position.
    let plan = compiled(
        r#"{"family": "lstm", "layers": 1, "units": 24}"#,
        TRAIN,
        Target::Classes(VOCABULARY),
        false,
    );
    learns(&plan, &first_tokens(150), 1.5);
}

#[test]
fn encoders_learn() {
    for positions in ["learned", "rotary"] {
        let model = format!(
            r#"{{"family": "encoder", "depth": 1, "width": 16, "heads": 2, "positions": "{positions}"}}"#
        );
        // Without learned positions the mean is over what each one saw beside it.
        let below = if positions == "learned" { 0.3 } else { 1.5 };
        let plan = compiled(&model, TRAIN, Target::Classes(VOCABULARY), true);
        learns(&plan, &first_tokens(150), below);
    }
}

fn masked(train: &str) -> (Arc<Plan>, Arc<Table>) {
    let model = r#"{"family": "encoder", "depth": 1, "width": 16, "heads": 2, "masked": 0.2}"#;
    let (classes, positions) = (VOCABULARY, LENGTH);
    let plan = compiled(model, train, Target::Masked { classes, positions }, true);
    let table = Table::new(counting(150), LENGTH, Targets::Features).unwrap();
    (plan, Arc::new(table))
}

#[test]
fn masked_tokens_are_learned_from_the_others() {
    let (plan, table) = masked(TRAIN);
    learns(&plan, &table, 0.7);
    // The metric counts what the loss counts.
    let mut input = input(&plan, &table, None);
    input.metrics = vec![measure("accuracy", &plan)];
    let (finished, watch) = run(&cpu(2, Level::detect()), input);
    assert!(
        finished.metrics["test.accuracy"] > 0.8,
        "{:?}",
        finished.metrics
    );
    assert!(watch.evaluations.len() > 1);
}

/// Other masks in each step, the same ones in each evaluation.
#[test]
fn masks_follow_step_and_row() {
    let still = TRAIN
        .replace("0.01", "1e-30")
        .replace("\"epochs\": 30", "\"epochs\": 3")
        .replace("adamw", "sgd");
    let (plan, table) = masked(&still);
    let (_, watch) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
    let first = &watch.evaluations[0].1;
    assert!(watch.evaluations.len() == 3 && watch.evaluations.iter().all(|(_, e)| e == first));
    let mut losses = watch.losses.clone();
    losses.sort_unstable();
    losses.dedup();
    assert_eq!(losses.len(), watch.losses.len());
    // Of one shard or of many, a row's masks are the same.
    let one = still.replace("\"virtual_shards\": 2", "\"virtual_shards\": 1");
    let (plan, table) = masked(&one);
    let (_, other) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
    for (a, b) in watch.losses.iter().zip(&other.losses) {
        let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn masked_runs_resume_to_the_same_bits() {
    let (plan, table) = masked(&TRAIN.replace("\"epochs\": 30", "\"epochs\": 3"));
    let cpu = cpu(2, Level::detect());
    let (expected, _) = run(&cpu, input(&plan, &table, None));
    let mut watch = Watch {
        pause_at: Some(4),
        ..Watch::default()
    };
    let paused: RunInput<'_> = input(&plan, &table, None);
    let paused = Run::new(&cpu, paused).unwrap().run(&mut watch).unwrap();
    assert_eq!(paused, Outcome::Paused { step: 4 });
    let (_, checkpoint) = watch.checkpoints.pop().unwrap();
    let mut resumed = Run::new(&cpu, input(&plan, &table, Some(&checkpoint))).unwrap();
    let resumed = resumed.run(&mut Watch::default()).unwrap();
    assert_eq!(finished(resumed).weights, expected.weights);
}
