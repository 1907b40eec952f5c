//! Clipping: by the norm of all gradients and by value.

use std::sync::Arc;

use stoker_domain::spec::SplitSpec;
use stoker_model::Target;

use super::{SPLIT, Watch, cpu, numbers, plan, run, targets};
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::tensors::read_checkpoint;
use crate::{Run, RunInput, Table};

const MODEL: &str = r#"{"family": "mlp", "hidden": [300, 70]}"#;
const WIDTH: usize = 60;
const RATE: f32 = 0.5;

fn input<'a>(train: &str, split: &'a SplitSpec) -> RunInput<'a> {
    let plan = plan(MODEL, train, WIDTH, Target::Values(3));
    let targets = targets(50, Target::Values(3));
    RunInput {
        plan,
        table: Arc::new(Table::new(numbers(50 * WIDTH, 1), WIDTH, targets).unwrap()),
        split,
        preprocess: Vec::new(),
        metrics: Vec::new(),
        resume: None,
    }
}

/// What one step of plain SGD took from the weights, over the learning rate: the clipped gradient.
fn gradient(clip: &str) -> Vec<f64> {
    let train = format!(
        r#"{{"steps": 2, "batch_size": 40, "loss": "mse", {clip}
            "optimizer": {{"name": "sgd", "learning_rate": {RATE}}}}}"#
    );
    let input = input(&train, &SPLIT);
    let plan = Arc::clone(&input.plan);
    let mut watch = Watch {
        pause_at: Some(1),
        ..Watch::default()
    };
    Run::new(&cpu(2, Level::detect()), input)
        .unwrap()
        .run(&mut watch)
        .unwrap();
    let state = read_checkpoint(&plan, &watch.checkpoints[0].1).unwrap();
    let both = initial_weights(&plan).into_iter().zip(state.weights);
    both.map(|(before, after)| (f64::from(before) - f64::from(after)) / f64::from(RATE))
        .collect()
}

fn norm(gradient: &[f64]) -> f64 {
    gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
}

#[test]
fn the_norm_of_all_gradients_is_limited_and_their_direction_kept() {
    let free = gradient("");
    assert!(norm(&free) > 0.2, "{}", norm(&free));
    let clipped = gradient(r#""clip": {"norm": 0.1},"#);
    assert!((norm(&clipped) - 0.1).abs() < 1e-4, "{}", norm(&clipped));
    let share = 0.1 / norm(&free);
    for (free, clipped) in free.iter().zip(&clipped) {
        assert!((free * share - clipped).abs() < 1e-6);
    }
    // A limit that isn't reached changes no bit.
    assert_eq!(gradient(r#""clip": {"norm": 1e6, "value": 1e6},"#), free);
}

#[test]
fn each_number_is_limited() {
    let free = gradient("");
    let clipped = gradient(r#""clip": {"value": 0.01},"#);
    let limit = free.iter().filter(|g| g.abs() > 0.01).count();
    assert!(limit > 10, "{limit} numbers are above the limit");
    for (free, clipped) in free.iter().zip(&clipped) {
        assert!((free.clamp(-0.01, 0.01) - clipped).abs() < 1e-6);
    }
}

#[test]
fn clipping_depends_on_no_thread_and_no_instruction_set() {
    let train = r#"{"epochs": 3, "batch_size": 8, "virtual_shards": 4, "loss": "mse",
        "clip": {"norm": 0.5, "value": 0.1}}"#;
    let (expected, _) = run(&cpu(1, Level::Scalar), input(train, &SPLIT));
    for (threads, level) in [
        (2, Level::Scalar),
        (1, Level::detect()),
        (2, Level::detect()),
    ] {
        let (other, _) = run(&cpu(threads, level), input(train, &SPLIT));
        assert_eq!(
            other.weights, expected.weights,
            "{threads} threads, {level:?}"
        );
    }
}
