//! Autoencoders: the gradients of samples and their divergence, and that they learn.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::gradients::check_targets;
use super::{cpu, input, numbers, run};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::{initial_weights, normal_of};
use crate::philox::Stream;
use crate::{Outcome, Preprocess, Run, RunInput, Session, Shard, Table, TargetRows, Targets};

/// mean + e^(log_variance / 2) · a standard normal number.
pub(super) fn sample(mean: &[f64], log_variance: &[f64], stream: Stream, row: u32) -> Vec<f64> {
    let normal = |index: usize| {
        let words = stream.block(index as u32 / 2, row);
        let pair = &words[index % 2 * 2..][..2];
        f64::from(normal_of(u64::from(pair[1]), u64::from(pair[0])))
    };
    (mean.iter().zip(log_variance).enumerate())
        .map(|(index, (mean, l))| mean + (l / 2.0).exp() * normal(index))
        .collect()
}

/// Σ (e^log_variance + mean² - 1 - log_variance) / 2.
pub(super) fn divergence(mean: &[f64], log_variance: &[f64]) -> f64 {
    let terms = mean.iter().zip(log_variance);
    terms
        .map(|(mean, l)| (l.exp() + mean * mean - 1.0 - l) / 2.0)
        .sum()
}

#[test]
fn samples_and_their_divergence() {
    for (width, latent, beta, room, rows) in [
        (5, 3, 1.0, 1, 1),
        (7, 1, 0.1, 7, 5),
        (11, 17, 0.0, 5, 5),
        (13, 32, 0.25, 131, 129),
    ] {
        let model = format!(
            r#"{{"layers": [{{"name": "h", "type": "linear", "units": 9}},
                {{"name": "t", "type": "activation", "function": "tanh"}},
                {{"name": "mean", "type": "linear", "units": {latent}}},
                {{"name": "lv", "type": "linear", "units": {latent}, "inputs": ["t"]}},
                {{"name": "s", "type": "sample", "beta": {beta}, "inputs": ["mean", "lv"]}},
                {{"type": "linear", "units": {width}}}]}}"#
        );
        let train = format!(r#"{{"steps": 1, "batch_size": {room}, "loss": "mse", "seed": 5}}"#);
        let plan = super::plan(&model, &train, width, Target::Values(width));
        let features = numbers(rows * width, 1);
        let targets = Targets::Values {
            values: features.clone(),
            width,
        };
        check_targets(Arc::unwrap_or_clone(plan), &model, &features, &targets);
    }
}

const WIDTH: usize = 24;

fn family(model: &str, train: &str) -> Arc<Plan> {
    let model = format!(r#"{{"family": "autoencoder", {model}}}"#);
    super::plan(&model, train, WIDTH, Target::Values(WIDTH))
}

/// Rows that two hidden numbers make.
fn table(rows: usize) -> Arc<Table> {
    let hidden = numbers(2 * rows, 4);
    let row = |pair: &[f32]| {
        let (a, b) = (pair[0], pair[1]);
        let number =
            move |i: usize| (a * (1.0 + i as f32 / 9.0) + b * (3.0 - i as f32 / 7.0)).sin();
        (0..WIDTH).map(number).collect::<Vec<f32>>()
    };
    let features = hidden.chunks_exact(2).flat_map(row).collect();
    Arc::new(Table::new(features, WIDTH, Targets::Features).unwrap())
}

#[test]
fn parameters_are_named_as_the_family_says() {
    let train = r#"{"steps": 1, "batch_size": 4, "loss": "mse"}"#;
    let names = |model: &str| {
        let plan = family(model, train);
        let names = plan.parameters.iter().map(|p| p.name.clone());
        names
            .filter(|name| name.ends_with("weight"))
            .collect::<Vec<_>>()
    };
    let layers = |layers: &[&str]| {
        layers
            .iter()
            .map(|l| format!("{l}.weight"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(r#""hidden": [9, 5], "latent": 2"#),
        layers(&[
            "encoder.0",
            "encoder.1",
            "encoder.2",
            "decoder.0",
            "decoder.1",
            "decoder.2"
        ])
    );
    assert_eq!(
        names(r#""kind": "vae", "hidden": [9], "latent": 2"#),
        layers(&[
            "encoder.0",
            "mean",
            "log_variance",
            "decoder.0",
            "decoder.1"
        ])
    );
    assert_eq!(
        names(r#""kind": "vae", "hidden": []"#),
        layers(&["mean", "log_variance", "decoder.0"])
    );
}

#[test]
fn both_kinds_learn_and_no_bit_depends_on_threads_or_instructions() {
    let table = table(700);
    for (model, limit) in [
        (r#""hidden": [48], "latent": 4, "activation": "silu""#, 0.01),
        (
            r#""kind": "vae", "hidden": [48], "latent": 4, "activation": "tanh", "beta": 1e-3"#,
            0.06,
        ),
    ] {
        let train = r#"{"epochs": 80, "batch_size": 64, "virtual_shards": 4, "loss": "mse",
            "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#;
        let plan = family(model, train);
        let (expected, _) = run(&cpu(1, Level::Scalar), input(&plan, &table, None));
        let loss = expected.metrics["test.loss"];
        assert!(loss < limit, "{loss} after training {model}");
        for (threads, level) in [
            (2, Level::Scalar),
            (1, Level::detect()),
            (2, Level::detect()),
        ] {
            let (other, _) = run(&cpu(threads, level), input(&plan, &table, None));
            assert!(
                other.weights == expected.weights,
                "{threads} threads, {level:?}: {model}"
            );
        }
    }
}

/// What is predicted are the features as the model sees them.
#[test]
fn the_target_is_what_preprocessing_made() {
    let far: Vec<f32> = numbers(200 * WIDTH, 7).iter().map(|x| 1000.0 + x).collect();
    let table = Arc::new(Table::new(far, WIDTH, Targets::Features).unwrap());
    let train = r#"{"epochs": 1, "batch_size": 50, "loss": "mse"}"#;
    let plan = family(r#""hidden": [5], "latent": 2"#, train);
    let step = serde_json::from_str(r#"{"builtin": "normalise"}"#).unwrap();
    let input = RunInput {
        preprocess: vec![Preprocess::builtin(&step, &plan.input).unwrap().unwrap()],
        ..input(&plan, &table, None)
    };
    let (finished, _) = run(&cpu(1, Level::detect()), input);
    let loss = finished.metrics["test.loss"];
    assert!(
        (0.8..1.5).contains(&loss),
        "{loss} for features of deviation 1"
    );
}

/// Samples differ by step and row; the mean, which evaluation takes, doesn't.
#[test]
fn evaluation_takes_the_mean() {
    let train = r#"{"steps": 1, "batch_size": 6, "loss": "mse"}"#;
    let plan = family(r#""kind": "vae", "hidden": [7], "latent": 3"#, train);
    let cpu = cpu(2, Level::detect());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    session.write(&initial_weights(&plan), &[]);
    let features = numbers(6 * WIDTH, 2);
    let shard = |first_row: u32, step: u64| Shard {
        features: &features,
        targets: TargetRows::Values(&features),
        lengths: &[],
        first_row,
        step,
    };
    let mut train = |first_row, step| {
        session.start_step();
        session.train_shard(&shard(first_row, step)).loss
    };
    let loss = train(0, 1);
    assert!((train(0, 1) - loss).abs() == 0.0);
    assert!((train(0, 2) - loss).abs() > 1e-6 && (train(6, 1) - loss).abs() > 1e-6);
    let evaluated = session.evaluate_shard(&shard(0, 1)).0.to_vec();
    assert_eq!(session.evaluate_shard(&shard(6, 2)).0, evaluated);
}

/// A sample follows from the step, so a resumed run draws the same ones.
#[test]
fn a_variational_autoencoder_resumes_to_the_same_bits() {
    let train = r#"{"epochs": 3, "batch_size": 64, "virtual_shards": 2, "loss": "mse"}"#;
    let (plan, table) = (
        family(r#""kind": "vae", "hidden": [9], "latent": 3"#, train),
        table(300),
    );
    let cpu = cpu(2, Level::detect());
    let (expected, _) = run(&cpu, input(&plan, &table, None));
    let mut watch = super::Watch {
        pause_at: Some(5),
        ..super::Watch::default()
    };
    let paused = Run::new(&cpu, input(&plan, &table, None))
        .unwrap()
        .run(&mut watch)
        .unwrap();
    assert_eq!(paused, Outcome::Paused { step: 5 });
    let (_, checkpoint) = watch.checkpoints.pop().unwrap();
    let (resumed, _) = run(&cpu, input(&plan, &table, Some(&checkpoint)));
    assert_eq!(resumed.weights, expected.weights);
}
