//! Which weights a run gives out: the last, their running average, or the best; and what counts as
//! one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::{SPLIT, Watch, cpu, measure, numbers, plan, run, targets};
use crate::cpu::simd::Level;
use crate::tensors::read_checkpoint;
use crate::{Finished, RunInput, Table};

const MODEL: &str = r#"{"family": "mlp", "hidden": [11], "dropout": 0.2}"#;
const WIDTH: usize = 6;

fn trained(more: &str) -> (Arc<Plan>, Finished, Watch) {
    let text = format!(
        r#"{{"epochs": 9, "seed": 2, "optimizer": {{"name": "adamw", "learning_rate": 0.05}},
            "loss": "cross_entropy", "checkpoint": {{"every_steps": 1}}, {more}}}"#
    );
    let plan = plan(MODEL, &text, WIDTH, Target::Classes(3));
    let table = Table::new(
        numbers(70 * WIDTH, 1),
        WIDTH,
        targets(70, Target::Classes(3)),
    );
    let input = RunInput {
        plan: Arc::clone(&plan),
        table: Arc::new(table.unwrap()),
        split: &SPLIT,
        preprocess: Vec::new(),
        metrics: vec![measure("accuracy", &plan)],
        resume: None,
    };
    let (finished, watch) = run(&cpu(2, Level::detect()), input);
    (plan, finished, watch)
}

/// The tensors of a file, without its metadata.
fn tensors(file: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = safetensors::SafeTensors::deserialize(file).unwrap();
    let tensors = file.iter();
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()))
        .collect()
}

#[test]
fn summed_batches_are_one_larger_batch() {
    let (_, one, watched) = trained(r#""batch_size": 24, "virtual_shards": 8"#);
    let (plan, many, watch) = trained(r#""batch_size": 6, "virtual_shards": 2, "accumulate": 4"#);
    assert_eq!((plan.rows, plan.shards), (3, 8));
    assert_eq!(watch.losses, watched.losses);
    assert_eq!(tensors(&one.weights), tensors(&many.weights));
}

#[test]
fn the_running_average_is_evaluated_and_given_out() {
    let plain = r#""batch_size": 28"#;
    let (plan, last, watched) = trained(plain);
    let (averaged_plan, averaged, watch) =
        trained(&format!(r#"{plain}, "ema": {{"decay": 0.75}}"#));
    assert_eq!(
        watch.losses, watched.losses,
        "training goes by the weights themselves"
    );
    assert_ne!(averaged.metrics["test.loss"], last.metrics["test.loss"]);
    assert_ne!(tensors(&averaged.weights), tensors(&last.weights));
    let mut expected: Vec<f64> = Vec::new();
    for ((_, bytes), (step, averaged)) in watched.checkpoints.iter().zip(&watch.checkpoints) {
        let weights = read_checkpoint(&plan, bytes).unwrap().weights;
        let given = read_checkpoint(&averaged_plan, averaged).unwrap();
        assert_eq!(given.weights, weights);
        let weights = weights.iter().map(|&w| f64::from(w));
        expected = match *step {
            1 => weights.collect(),
            _ => weights
                .zip(expected)
                .map(|(w, a)| 0.75 * a + 0.25 * w)
                .collect(),
        };
        for (given, expected) in given.optimizer.last().unwrap().iter().zip(&expected) {
            assert!((f64::from(*given) - expected).abs() < 1e-6, "step {step}");
        }
    }
}

#[test]
fn the_best_weights_are_given_out() {
    let common = r#""batch_size": 8, "monitor": {"metric": "test.accuracy"}"#;
    let (_, best, watch) = trained(&format!(r#"{common}, "keep_best": true"#));
    let accuracy = |metrics: &[(String, f64)]| metrics[1].1;
    let values: Vec<f64> = watch.evaluations.iter().map(|(_, m)| accuracy(m)).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    assert!(
        *values.last().unwrap() < largest,
        "the last isn't the best: {values:?}"
    );
    assert_eq!(best.metrics["test.accuracy"], largest);
    let at = values.iter().position(|&value| value == largest).unwrap();
    let step = watch.evaluations[at].0;
    assert_eq!(best.metrics["best.step"], step as f64);
    let (_, checkpoint) = &watch.checkpoints[step as usize - 1];
    let then = tensors(checkpoint);
    for (name, data) in tensors(&best.weights) {
        assert!(then[&name] == data, "{name} is not that of step {step}");
    }
    let last = watch.checkpoints.last().unwrap();
    let best_of_last = tensors(&last.1);
    for (name, data) in tensors(&best.weights) {
        assert!(best_of_last[&format!("best.{name}")] == data);
    }
    let file: serde_json::Value = serde_json::from_slice(&best.files["confusion.json"]).unwrap();
    let matrix: Vec<Vec<u64>> = serde_json::from_value(file["matrix"].clone()).unwrap();
    let right: u64 = (0..3).map(|class| matrix[class][class]).sum();
    let all: u64 = matrix.iter().flatten().sum();
    let found = right as f64 / all as f64;
    assert_eq!(found, largest, "the file is of the same weights");
}

#[test]
fn a_run_without_improvement_ends_early() {
    let more = r#""batch_size": 8, "early_stop": {"patience": 2},
        "monitor": {"metric": "test.loss", "min_change": 1e3}"#;
    let (_, finished, watch) = trained(more);
    // The first evaluation is the best; 7 steps an epoch.
    assert_eq!((finished.steps, watch.evaluations.len()), (21, 3));
    assert!(!finished.metrics.contains_key("best.step"));
}
