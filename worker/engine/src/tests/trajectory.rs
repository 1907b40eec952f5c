//! Twenty optimiser steps against the same steps in double precision, with gradients by central
//! differences and PyTorch's definitions of the optimisers.

use std::sync::Arc;

use stoker_domain::spec::OptimizerSpec;
use stoker_model::Target;

use super::reference::Reference;
use super::{SPLIT, Watch, cpu, numbers, plan, targets};
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::order::{shuffle_epoch, split};
use crate::tensors::read_checkpoint;
use crate::{Run, RunInput, Table, TargetRows, Targets};

const MODEL: &str = r#"{"layers": [{"type": "linear", "units": 5},
    {"type": "activation", "function": "tanh"}, {"type": "linear", "units": 3}]}"#;
const ROWS: usize = 31;
const WIDTH: usize = 4;
const BATCH: usize = 10;

/// One step of an optimiser on one number, in double precision.
fn step(spec: &OptimizerSpec, t: i32, w: &mut f64, g: f64, state: &mut [f64; 2]) {
    match *spec {
        OptimizerSpec::Sgd {
            learning_rate,
            momentum,
            nesterov,
            weight_decay,
        } => {
            let [lr, momentum, decay] = [learning_rate, momentum, weight_decay].map(f64::from);
            let g = g + decay * *w;
            state[0] = if t == 1 { g } else { momentum * state[0] + g };
            let direction = if nesterov {
                g + momentum * state[0]
            } else {
                state[0]
            };
            *w -= lr * if momentum == 0.0 { g } else { direction };
        }
        OptimizerSpec::AdamW {
            learning_rate,
            betas,
            epsilon,
            weight_decay,
        } => {
            let [lr, b1, b2, eps, decay] =
                [learning_rate, betas[0], betas[1], epsilon, weight_decay].map(f64::from);
            *w -= lr * decay * *w;
            state[0] = b1 * state[0] + (1.0 - b1) * g;
            state[1] = b2 * state[1] + (1.0 - b2) * g * g;
            let size = (state[1] / (1.0 - b2.powi(t))).sqrt() + eps;
            *w -= lr * (state[0] / (1.0 - b1.powi(t))) / size;
        }
    }
}

/// The gradient of `loss` by central differences.
fn differences(weights: &[Vec<f64>], loss: impl Fn(&[Vec<f64>]) -> f64) -> Vec<Vec<f64>> {
    let mut gradients = weights.to_vec();
    for tensor in 0..weights.len() {
        for index in 0..weights[tensor].len() {
            let mut moved = weights.to_vec();
            let mut at = |by: f64| {
                moved[tensor][index] = weights[tensor][index] + by;
                loss(&moved)
            };
            gradients[tensor][index] = (at(1e-5) - at(-1e-5)) / 2e-5;
        }
    }
    gradients
}

fn check(optimizer: &str) {
    let train = format!(
        r#"{{"steps": 20, "batch_size": {BATCH}, "virtual_shards": 2, "loss": "cross_entropy",
            "seed": 8, "optimizer": {optimizer}}}"#
    );
    let plan = plan(MODEL, &train, WIDTH, Target::Classes(3));
    let targets = targets(ROWS, Target::Classes(3));
    let table = Table::new(numbers(ROWS * WIDTH, 1), WIDTH, targets.clone()).unwrap();
    let table = Arc::new(table);
    let input = RunInput {
        plan: plan.clone(),
        table: table.clone(),
        split: &SPLIT,
        preprocess: Vec::new(),
        metrics: Vec::new(),
        resume: None,
    };
    let mut run = Run::new(&cpu(1, Level::detect()), input).unwrap();
    let mut watch = Watch::default();
    run.run(&mut watch).unwrap();

    let reference = Reference::new(&plan, MODEL);
    let mut weights = reference.parameters(&initial_weights(&plan));
    let mut state: Vec<Vec<[f64; 2]>> = weights.iter().map(|w| vec![[0.0; 2]; w.len()]).collect();
    let Targets::Classes(classes) = &targets else {
        unreachable!()
    };
    let rows = split(&SPLIT, &table).unwrap().train;
    let batches = rows.len().div_ceil(BATCH);
    let mut order = Vec::new();
    for t in 0..20_usize {
        shuffle_epoch(
            8,
            (t / batches) as u64,
            &rows,
            &table.windows(BATCH),
            &mut order,
        );
        let start = t % batches * BATCH;
        let ids = &order[start..order.len().min(start + BATCH)];
        let features: Vec<f32> = ids
            .iter()
            .flat_map(|&id| table.row(id as usize).to_vec())
            .collect();
        let classes: Vec<u32> = ids.iter().map(|&id| classes[id as usize]).collect();
        let loss = |weights: &[Vec<f64>]| {
            reference.loss(weights, &features, TargetRows::Classes(&classes), 0) / ids.len() as f64
        };
        let given = f64::from_bits(watch.losses[t]);
        assert!(
            (given - loss(&weights)).abs() < 1e-5,
            "step {t}: {given} for {}",
            loss(&weights)
        );
        let gradients = differences(&weights, loss);
        for tensor in 0..weights.len() {
            for (index, w) in weights[tensor].iter_mut().enumerate() {
                let (g, state) = (gradients[tensor][index], &mut state[tensor][index]);
                step(&plan.train.optimizer, t as i32 + 1, w, g, state);
            }
        }
    }
    let last = read_checkpoint(&plan, &run.checkpoint()).unwrap();
    for (given, expected) in reference.parameters(&last.weights).iter().zip(&weights) {
        for (given, expected) in given.iter().zip(expected) {
            assert!(
                (given - expected).abs() < 2e-5,
                "{given} for {expected} with {optimizer}"
            );
        }
    }
}

#[test]
fn sgd() {
    check(r#"{"name": "sgd", "learning_rate": 0.1}"#);
    check(r#"{"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}"#);
    check(r#"{"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": true}"#);
}

#[test]
fn adamw() {
    check(r#"{"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}"#);
}
