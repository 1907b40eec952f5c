//! Results as they were recorded: what no comparison of the engine with itself can show, such as a
//! sum that is taken in another order on every thread and worker alike.
//!
//! A change that moves these changes what jobs give for the same spec. Where that is meant, record
//! the hashes that the test prints, and raise `VERSION` in the plan where its form stayed the same.

use std::sync::Arc;

use stoker_domain::spec::{ModelSpec, TrainSpec};
use stoker_model::{InputDescription, Target, compile};

use super::{SPLIT, cpu, measure, numbers, run, targets};
use crate::cpu::simd::Level;
use crate::{Finished, RunInput, Table, device_class};

struct Job {
    name: &'static str,
    model: &'static str,
    train: &'static str,
    shape: &'static [usize],
    tokens: Option<usize>,
    target: Target,
    rows: usize,
    /// First bytes of the hash, on x86-64 with fused multiply-add.
    recorded: &'static str,
}

const JOBS: &[Job] = &[
    // One shard, whose kernels have several groups.
    Job {
        name: "cnn",
        model: r#"{"family": "cnn", "input": [3, 12, 12], "channels": [16, 24], "dense": [96],
            "activation": "gelu", "dropout": 0.2}"#,
        train: r#"{"epochs": 2, "batch_size": 64, "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}}"#,
        shape: &[3, 12, 12],
        tokens: None,
        target: Target::Classes(7),
        rows: 200,
        recorded: "b542495700ca3eb8",
    },
    // A tree of shards over several batches, dropout, clipping.
    Job {
        name: "mlp",
        model: r#"{"family": "mlp", "hidden": [160, 130], "activation": "silu", "dropout": 0.3}"#,
        train: r#"{"epochs": 3, "batch_size": 12, "virtual_shards": 4, "accumulate": 2, "seed": 8,
            "loss": "huber", "clip": {"norm": 0.3}, "ema": {"decay": 0.9},
            "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#,
        shape: &[40],
        tokens: None,
        target: Target::Values(3),
        rows: 101,
        recorded: "1641323fb33796e5",
    },
    // Running statistics, over shards and batches.
    Job {
        name: "norms",
        model: r#"{"input": [2, 9, 9], "layers": [
            {"type": "conv2d", "channels": 20, "kernel": 3}, {"type": "batch_norm"},
            {"type": "activation", "function": "relu"}, {"type": "max_pool2d", "kernel": 2},
            {"type": "group_norm", "groups": 4}, {"type": "global_avg_pool"},
            {"type": "linear", "units": 4}]}"#,
        train: r#"{"epochs": 2, "batch_size": 24, "virtual_shards": 2, "accumulate": 2,
            "loss": "cross_entropy", "ema": {"decay": 0.8},
            "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#,
        shape: &[2, 9, 9],
        tokens: None,
        target: Target::Classes(4),
        rows: 130,
        recorded: "7729912359459245",
    },
    Job {
        name: "gpt",
        model: r#"{"family": "gpt", "depth": 2, "width": 48, "heads": 4, "kv_heads": 2,
            "dropout": 0.1}"#,
        train: r#"{"epochs": 2, "batch_size": 16, "virtual_shards": 2, "loss": "cross_entropy",
            "optimizer": {"name": "adamw", "learning_rate": 0.003}}"#,
        shape: &[20],
        tokens: Some(30),
        target: Target::Sequence {
            classes: 30,
            positions: 20,
        },
        rows: 75,
        recorded: "48f33d82fdf07ce7",
    },
];

impl Job {
    fn hash(&self) -> String {
        let model: ModelSpec = serde_json::from_str(self.model).unwrap();
        let train: TrainSpec = serde_json::from_str(self.train).unwrap();
        let width = self.shape.iter().product();
        let input = InputDescription {
            width,
            shape: self.shape.to_vec(),
            vocabulary: self.tokens,
            columns: Vec::new(),
            target: self.target,
        };
        let plan = Arc::new(compile(&model, &train, &input).unwrap());
        let mut features = numbers(self.rows * width, 1);
        if let Some(tokens) = self.tokens {
            for x in &mut features {
                *x = ((*x + 1.0) * 0.499 * tokens as f32).floor();
            }
        }
        let metric = match self.target {
            Target::Values(_) => "rmse",
            _ => "accuracy",
        };
        let table = Table::new(features, width, targets(self.rows, self.target)).unwrap();
        let metrics = vec![measure(metric, &plan)];
        let input = RunInput {
            plan,
            table: Arc::new(table),
            split: &SPLIT,
            preprocess: Vec::new(),
            metrics,
            resume: None,
        };
        let (finished, watch) = run(&cpu(2, Level::detect()), input);
        hash(&finished, &watch.losses)
    }
}

/// Of all numbers, and nothing else.
fn hash(finished: &Finished, losses: &[u64]) -> String {
    let mut hasher = blake3::Hasher::new();
    let file = safetensors::SafeTensors::deserialize(&finished.weights).unwrap();
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_by_key(|(name, _)| name.to_owned());
    for (_, tensor) in tensors {
        hasher.update(tensor.data());
    }
    for bits in losses {
        hasher.update(&bits.to_le_bytes());
    }
    for value in finished.metrics.values() {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[test]
fn results_are_those_that_were_recorded() {
    if device_class() != "cpu-x86-64" {
        return;
    }
    let given: Vec<_> = JOBS.iter().map(|job| (job.name, job.hash())).collect();
    let recorded = JOBS.iter().map(|job| (job.name, job.recorded.to_owned()));
    assert_eq!(given, recorded.collect::<Vec<_>>());
}
