//! Every kernel's gradient against central differences of the reference in double precision.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::reference::Reference;
use super::{as_rows, cpu, numbers, plan, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::{Session, Shard, TargetRows, Targets};

/// Parameters that are looked at, per tensor.
const SAMPLES: usize = 24;

fn kernel_names(plan: &Plan) -> String {
    let kernels = plan.forward.iter().chain(&plan.backward);
    kernels.map(|kernel| format!("{:?}\n", kernel.op)).collect()
}

/// Compares loss and gradients on `rows` rows of a shard that has room for `room`.
pub(super) fn check(model: &str, width: usize, target: Target, room: usize, rows: usize) -> String {
    let loss = match target {
        Target::Classes(_) | Target::Sequence { .. } => "cross_entropy",
        Target::Values(_) | Target::Quantiles { .. } => "mse",
    };
    let train = format!(r#"{{"steps": 1, "batch_size": {room}, "loss": "{loss}", "seed": 5}}"#);
    let plan = plan(model, &train, width, target);
    check_plan(
        Arc::unwrap_or_clone(plan),
        model,
        &numbers(rows * width, 1),
        rows,
    )
}

/// The same of a compiled model of layers.
pub(super) fn check_plan(plan: Plan, model: &str, features: &[f32], rows: usize) -> String {
    let targets = targets(rows, plan.input.target);
    check_targets(plan, model, features, &targets)
}

/// The same with targets of the caller's.
pub(super) fn check_targets(
    plan: Plan,
    model: &str,
    features: &[f32],
    targets: &Targets,
) -> String {
    let plan = Arc::new(plan);
    let weights = initial_weights(&plan);
    let cpu = cpu(2, Level::detect());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    session.write(&weights, &[]);
    session.start_step();
    let shard = Shard {
        features,
        targets: as_rows(targets),
        lengths: &[],
        first_row: 0,
        step: 3,
    };
    let loss = session.train_shard(&shard).loss;

    let reference = Reference::new(&plan, model);
    let parameters = reference.parameters(&weights);
    let expected = reference.loss(&parameters, features, as_rows(targets), 3);
    assert!(
        (loss - expected).abs() < 1e-5 * expected.abs().max(1.0),
        "{loss} for {expected}: {model}"
    );
    let gradients = reference.parameters(session.gradients());
    compare(
        &reference,
        parameters,
        &gradients,
        features,
        as_rows(targets),
        model,
    );
    kernel_names(&plan)
}

fn compare(
    reference: &Reference<'_>,
    mut parameters: Vec<Vec<f64>>,
    gradients: &[Vec<f64>],
    features: &[f32],
    targets: TargetRows<'_>,
    model: &str,
) {
    const STEP: f64 = 1e-5;
    for tensor in 0..parameters.len() {
        let scale = gradients[tensor]
            .iter()
            .fold(1e-3, |max: f64, g| max.max(g.abs()));
        let count = parameters[tensor].len();
        for sample in 0..SAMPLES.min(count) {
            let index = sample * count / SAMPLES.min(count);
            let at = parameters[tensor][index];
            let mut loss = |by: f64| {
                parameters[tensor][index] = at + by;
                let loss = reference.loss(&parameters, features, targets, 3);
                parameters[tensor][index] = at;
                loss
            };
            let expected = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let given = gradients[tensor][index];
            let name = &reference.plan.parameters[tensor].name;
            assert!(
                (given - expected).abs() < 2e-5 * scale,
                "{name}[{index}]: {given}, {expected} by differences, in {model}"
            );
        }
    }
}

pub(super) fn layers(input: &str, blocks: &str) -> String {
    format!(r#"{{"input": {input}, "layers": [{blocks}]}}"#)
}

#[test]
fn linear_layers_of_odd_sizes() {
    for (rows, room) in [(1, 1), (7, 7), (5, 13), (67, 67)] {
        for (target, outputs) in [(Target::Classes(5), 5), (Target::Values(3), 3)] {
            let blocks = format!(
                r#"{{"type": "linear", "units": 11}}, {{"type": "activation", "function": "tanh"}},
                   {{"type": "linear", "units": 17, "bias": false}},
                   {{"type": "linear", "units": {outputs}}}"#
            );
            check(&layers("[13]", &blocks), 13, target, room, rows);
        }
    }
}

#[test]
fn one_output_and_one_input() {
    let blocks = r#"{"type": "linear", "units": 1}"#;
    check(&layers("[1]", blocks), 1, Target::Values(1), 3, 2);
    check(&layers("[600]", blocks), 600, Target::Values(1), 31, 31);
}

#[test]
fn every_activation_fused_and_alone() {
    for function in ["relu", "gelu", "silu", "tanh", "sigmoid"] {
        let blocks = format!(
            r#"{{"type": "linear", "units": 9}}, {{"type": "activation", "function": "{function}"}},
               {{"type": "activation", "function": "{function}"}}, {{"type": "linear", "units": 4}}"#
        );
        let kernels = check(&layers("[6]", &blocks), 6, Target::Classes(4), 19, 17);
        assert!(kernels.contains("Linear {") && kernels.contains("Activate {"));
        // Also in the place of the scores, and on the rows themselves.
        let blocks = format!(
            r#"{{"type": "activation", "function": "{function}"}}, {{"type": "linear", "units": 2}},
               {{"type": "activation", "function": "{function}"}}"#
        );
        check(&layers("[6]", &blocks), 6, Target::Values(2), 5, 5);
    }
}

#[test]
fn dropout_layers() {
    let blocks = r#"{"type": "linear", "units": 131}, {"type": "dropout", "rate": 0.4},
        {"type": "activation", "function": "relu"}, {"type": "dropout", "rate": 0.1},
        {"type": "linear", "units": 3}"#;
    let kernels = check(&layers("[5]", blocks), 5, Target::Classes(3), 9, 7);
    assert!(kernels.contains("DropoutGrad"));
}

#[test]
fn convolutions_of_all_geometries() {
    for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 0), (5, 3, 2), (2, 1, 3)] {
        for (channels, rows) in [(1, 3), (3, 5)] {
            let conv = |channels: usize| {
                format!(
                    r#"{{"type": "conv2d", "channels": {channels}, "kernel": {kernel},
                        "stride": {stride}, "padding": {padding}}}"#
                )
            };
            let blocks = format!(
                r#"{}, {{"type": "activation", "function": "gelu"}},
                   {{"type": "conv2d", "channels": 5, "kernel": 1, "bias": false}},
                   {{"type": "flatten"}}, {{"type": "linear", "units": 3}}"#,
                conv(7)
            );
            let model = layers(&format!("[{channels}, 7, 9]"), &blocks);
            check(&model, channels * 63, Target::Classes(3), 5, rows);
        }
    }
}

#[test]
fn images_that_are_cut_into_tiles_and_groups() {
    // 24 x 24 windows of 7 x 7 x 16 numbers are more than a tile holds.
    let blocks = r#"{"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1},
        {"type": "activation", "function": "tanh"},
        {"type": "conv2d", "channels": 3, "kernel": 7, "padding": 3}, {"type": "flatten"},
        {"type": "linear", "units": 2}"#;
    let model = layers("[2, 24, 24]", blocks);
    let kernels = check(&model, 2 * 576, Target::Classes(2), 3, 3);
    assert!(
        kernels.contains("tile: Tile { images: 1, rows: 1 }"),
        "{kernels}"
    );
    assert!(kernels.contains("partials: Some"), "{kernels}");
}

#[test]
fn pools_and_layouts() {
    for (kernel, stride) in [(2, 2), (3, 2), (2, 1)] {
        // A pooling before any parameter, one between, and an image as the scores.
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 67, "kernel": 2}},
               {{"type": "max_pool2d", "kernel": {kernel}, "stride": {stride}}},
               {{"type": "activation", "function": "sigmoid"}},
               {{"type": "conv2d", "channels": 2, "kernel": 1}},
               {{"type": "max_pool2d", "kernel": 2}}, {{"type": "flatten"}}"#
        );
        let pooled = (8 - kernel) / stride + 1;
        let side = pooled / 2;
        let outputs = 2 * side * side;
        let model = layers("[3, 9, 9]", &blocks);
        let kernels = check(&model, 3 * 81, Target::Values(outputs), 3, 2);
        assert!(kernels.contains("ToChannelsLast"));
        assert_eq!(kernels.contains("ToChannelsFirst"), side > 1);
        assert!(kernels.contains("MaxPoolGrad"));
    }
    let blocks = r#"{"type": "max_pool2d", "kernel": 2}, {"type": "flatten"}, {"type": "linear", "units": 2}"#;
    check(&layers("[3, 4, 6]", blocks), 72, Target::Classes(2), 2, 2);
}
