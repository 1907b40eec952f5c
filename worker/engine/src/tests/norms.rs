//! Batch and group normalisation: their definitions in double precision, their gradients, and the
//! running statistics.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::gradients::{check, layers};
use super::reference::Reference;
use super::{as_rows, cpu, numbers, plan, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::{Session, Shard, TargetRows};

/// Mean and variance of each channel, and over how many numbers.
pub(super) struct Moments {
    mean: Vec<f64>,
    variance: Vec<f64>,
    count: f64,
}

impl Moments {
    pub(super) fn new(mean: &[f64], variance: &[f64]) -> Self {
        Self {
            mean: mean.to_vec(),
            variance: variance.to_vec(),
            count: 1.0,
        }
    }
}

/// The channel of each number: the first dimension of an image, else the last one.
fn channel(index: usize, shape: &[usize]) -> usize {
    match *shape {
        [_, height, width] => index / (height * width),
        _ => index % shape[shape.len() - 1],
    }
}

fn channels(shape: &[usize]) -> usize {
    match *shape {
        [channels, _, _] => channels,
        _ => shape[shape.len() - 1],
    }
}

/// Over rows and their shapes.
pub(super) fn moments(rows: &[(Vec<f64>, Vec<usize>)]) -> Moments {
    let shape = &rows[0].1;
    let count = (rows.len() * rows[0].0.len() / channels(shape)) as f64;
    let sum = |f: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; channels(shape)];
        for (row, _) in rows {
            for (index, &x) in row.iter().enumerate() {
                sums[channel(index, shape)] += f(channel(index, shape), x) / count;
            }
        }
        sums
    };
    let mean = sum(&|_, x| x);
    let variance = sum(&|channel, x| (x - mean[channel]).powi(2));
    Moments {
        mean,
        variance,
        count,
    }
}

pub(super) fn batch_norm(
    x: &mut [f64],
    shape: &[usize],
    moments: &Moments,
    gain: &[f64],
    bias: &[f64],
    epsilon: f64,
) {
    for (index, x) in x.iter_mut().enumerate() {
        let c = channel(index, shape);
        let deviation = (moments.variance[c] + epsilon).sqrt();
        *x = (*x - moments.mean[c]) / deviation * gain[c] + bias[c];
    }
}

pub(super) fn group_norm(
    x: &mut [f64],
    shape: &[usize],
    groups: usize,
    gain: &[f64],
    bias: &[f64],
    epsilon: f64,
) {
    let size = gain.len() / groups;
    for group in 0..groups {
        let of = |index: &usize| channel(*index, shape) / size == group;
        let own: Vec<usize> = (0..x.len()).filter(of).collect();
        let mean = own.iter().map(|&i| x[i]).sum::<f64>() / own.len() as f64;
        let square: f64 = own.iter().map(|&i| (x[i] - mean).powi(2)).sum();
        let deviation = (square / own.len() as f64 + epsilon).sqrt();
        for i in own {
            let c = channel(i, shape);
            x[i] = (x[i] - mean) / deviation * gain[c] + bias[c];
        }
    }
}

const BATCH: &str = r#"{"type": "batch_norm", "epsilon": 0.01}"#;
const RELU: &str = r#"{"type": "activation", "function": "relu"}"#;

#[test]
fn batches_of_images_sequences_and_flat_rows() {
    for (room, rows) in [(2, 2), (7, 7), (13, 5)] {
        let blocks = format!(
            r#"{BATCH}, {{"type": "conv2d", "channels": 67, "kernel": 2, "padding": 1, "bias": false}}, {BATCH}, {RELU},
               {{"type": "conv2d", "channels": 5, "kernel": 3, "bias": false}}, {BATCH},
               {{"type": "activation", "function": "silu"}}, {{"type": "flatten"}}, {BATCH},
               {{"type": "linear", "units": 3}}"#
        );
        let model = layers("[3, 7, 5]", &blocks);
        let kernels = check(&model, 105, Target::Classes(3), room, rows);
        assert!(kernels.contains("relu: true") && kernels.contains("Activate {"));
        let blocks = format!(
            r#"{{"type": "linear", "units": 19, "bias": false}}, {BATCH}, {RELU}, {{"type": "linear", "units": 2, "bias": false}},
               {{"type": "batch_norm", "epsilon": 0.1}}, {{"type": "global_avg_pool"}},
               {{"type": "linear", "units": 2}}"#
        );
        check(
            &layers("[11, 3]", &blocks),
            33,
            Target::Values(2),
            room,
            rows,
        );
        let blocks = format!(
            r#"{{"type": "linear", "units": 131, "bias": false}}, {BATCH}, {RELU},
               {{"type": "linear", "units": 3, "bias": false}}, {BATCH}"#
        );
        check(&layers("[6]", &blocks), 6, Target::Values(3), room, rows);
    }
}

#[test]
fn one_row_with_positions_and_one_without() {
    let blocks = format!(
        r#"{{"type": "conv2d", "channels": 4, "kernel": 2, "bias": false}}, {BATCH}, {RELU}, {{"type": "flatten"}},
           {{"type": "linear", "units": 3}}"#
    );
    for room in [1, 3] {
        check(
            &layers("[2, 5, 4]", &blocks),
            40,
            Target::Classes(3),
            room,
            1,
        );
        // All is the mean: the bias comes out.
        let blocks = format!(
            r#"{{"type": "linear", "units": 7, "bias": false}}, {BATCH}, {{"type": "linear", "units": 3}}"#
        );
        check(&layers("[6]", &blocks), 6, Target::Values(3), room, 1);
    }
}

/// Blocks as in a residual network, with and without a projection and a last relu.
fn residual(last: &str) -> String {
    format!(
        r#"{{"type": "conv2d", "channels": 6, "kernel": 3, "padding": 1, "name": "a", "bias": false}},
           {{"type": "conv2d", "channels": 6, "kernel": 3, "padding": 1, "bias": false}}, {BATCH}, {RELU},
           {{"type": "conv2d", "channels": 6, "kernel": 3, "padding": 1, "bias": false}},
           {{"type": "batch_norm", "name": "b"}}, {{"type": "add", "inputs": ["a", "b"]}},
           {{"type": "activation", "function": "{last}", "name": "c"}},
           {{"type": "conv2d", "channels": 8, "kernel": 1, "stride": 2, "bias": false}},
           {{"type": "batch_norm", "name": "d"}},
           {{"type": "conv2d", "channels": 8, "kernel": 3, "padding": 1, "stride": 2, "inputs": ["c"], "bias": false}},
           {{"type": "batch_norm", "name": "e"}}, {{"type": "add", "inputs": ["e", "d"]}},
           {{"type": "activation", "function": "{last}"}}, {{"type": "global_avg_pool"}},
           {{"type": "linear", "units": 3}}"#
    )
}

#[test]
fn sums_with_what_went_around() {
    for (last, rows) in [("relu", 3), ("tanh", 2)] {
        let model = layers("[2, 7, 9]", &residual(last));
        let kernels = check(&model, 126, Target::Classes(3), 3, rows);
        let fused = |text: &str| kernels.matches(text).count();
        assert_eq!(fused("residual: Some"), 2, "{kernels}");
        assert_eq!(fused("Add {"), 0, "{kernels}");
        assert_eq!(fused("Activate {"), if last == "relu" { 0 } else { 2 });
    }
}

#[test]
fn groups_of_channels() {
    for (groups, channels, room, rows) in
        [(1, 5, 1, 1), (3, 12, 7, 5), (6, 6, 2, 2), (2, 134, 3, 3)]
    {
        let norm = format!(r#"{{"type": "group_norm", "groups": {groups}}}"#);
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": {channels}, "kernel": 2, "bias": false}}, {norm}, {RELU},
               {{"type": "conv2d", "channels": {channels}, "kernel": 2, "bias": false}}, {norm},
               {{"type": "activation", "function": "tanh"}}, {{"type": "global_avg_pool"}},
               {{"type": "linear", "units": 3}}"#
        );
        check(
            &layers("[2, 6, 5]", &blocks),
            60,
            Target::Classes(3),
            room,
            rows,
        );
        let blocks = format!(
            r#"{{"type": "linear", "units": {channels}, "bias": false}}, {norm}, {RELU}, {{"type": "global_avg_pool"}},
               {{"type": "linear", "units": {}, "bias": false}}, {{"type": "group_norm", "groups": 2}},
               {{"type": "linear", "units": 2}}"#,
            2 * channels
        );
        check(
            &layers("[7, 3]", &blocks),
            21,
            Target::Values(2),
            room,
            rows,
        );
    }
}

#[test]
fn many_groups_and_blocks() {
    // Enough rows and channels for groups of kernels, and positions for several blocks.
    // No relu, whose kinks so many numbers would meet.
    let smooth = r#"{"type": "activation", "function": "tanh"}"#;
    let blocks = format!(
        r#"{{"type": "conv2d", "channels": 83, "kernel": 3, "padding": 1, "bias": false}}, {BATCH}, {smooth},
           {{"type": "conv2d", "channels": 6, "kernel": 1, "bias": false}},
           {{"type": "group_norm", "groups": 3}}, {smooth},
           {{"type": "global_avg_pool"}}, {{"type": "linear", "units": 2}}"#
    );
    let model = layers("[1, 23, 17]", &blocks);
    for rows in [5, 3] {
        check(&model, 391, Target::Classes(2), 5, rows);
    }
    let plan = plan(
        &model,
        r#"{"steps": 1, "batch_size": 5, "loss": "cross_entropy"}"#,
        391,
        Target::Classes(2),
    );
    let kernels = plan.forward.iter().chain(&plan.backward);
    let norms = kernels.filter(|kernel| format!("{:?}", kernel.op).starts_with("BatchNorm"));
    assert!(norms.clone().count() == 2 && norms.clone().all(|kernel| kernel.groups > 1));
}

const IMAGES: &str = r#"{"input": [2, 5, 5], "layers": [
    {"type": "conv2d", "channels": 6, "kernel": 3}, {"type": "batch_norm"},
    {"type": "activation", "function": "relu"},
    {"type": "conv2d", "channels": 4, "kernel": 2},
    {"type": "batch_norm", "momentum": 0.25, "name": "last"}, {"type": "flatten"},
    {"type": "linear", "units": 3}]}"#;

fn session(plan: &Arc<Plan>) -> CpuSession {
    let cpu = cpu(2, Level::detect());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    session.write(&initial_weights(plan), &[]);
    session
}

fn classes(targets: &crate::Targets) -> &[u32] {
    match as_rows(targets) {
        TargetRows::Classes(classes) => classes,
        TargetRows::Values(_) => unreachable!(),
    }
}

#[test]
fn running_statistics_are_those_of_all_shards_of_a_step() {
    let train = r#"{"steps": 1, "batch_size": 20, "virtual_shards": 4, "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 1e-9}}"#;
    let plan = plan(IMAGES, train, 50, Target::Classes(3));
    let mut session = session(&plan);
    // Two full shards, one of a single row, and one without any.
    let shards = [0..5, 5..10, 10..11, 11..11];
    let (features, targets) = (numbers(11 * 50, 1), targets(11, Target::Classes(3)));
    let reference = Reference::new(&plan, IMAGES);
    let weights = reference.parameters(&initial_weights(&plan));
    let (mut means, mut squares) = (
        vec![vec![0.0; 6], vec![0.0; 4]],
        vec![vec![0.0; 6], vec![0.0; 4]],
    );
    let (mut counts, mut freedoms) = ([0.0; 2], [0.0; 2]);
    session.start_step();
    for shard in shards {
        let features = &features[shard.start * 50..shard.end * 50];
        session.train_shard(&Shard {
            features,
            targets: TargetRows::Classes(&classes(&targets)[shard.clone()]),
            first_row: shard.start as u32,
            step: 0,
        });
        if shard.is_empty() {
            continue;
        }
        for (layer, seen) in reference.moments(&weights, features, 0).iter().enumerate() {
            counts[layer] += seen.count;
            freedoms[layer] += seen.count - 1.0;
            for c in 0..seen.mean.len() {
                means[layer][c] += seen.mean[c] * seen.count;
                squares[layer][c] += seen.variance[c] * seen.count;
            }
        }
    }
    assert!(session.gradients_are_finite());
    session.update(11.0, 1e-9, 1);
    let given = reference.parameters(&session.read().0);
    for (layer, (name, momentum)) in [("layers.1", 0.1), ("last", 0.25)].into_iter().enumerate() {
        let of = |what: &str| {
            let name = format!("{name}.{what}");
            &given[plan.parameters.iter().position(|p| p.name == name).unwrap()]
        };
        for c in 0..means[layer].len() {
            let mean = momentum * means[layer][c] / counts[layer];
            assert!(
                (of("running_mean")[c] - mean).abs() < 1e-6,
                "{name}: mean {c}"
            );
            let variance = squares[layer][c] / freedoms[layer];
            let variance = (1.0 - momentum) + momentum * variance;
            assert!(
                (of("running_var")[c] - variance).abs() < 1e-6,
                "{name}: variance {c}"
            );
        }
    }
}

#[test]
fn evaluation_goes_by_the_running_statistics() {
    let train = r#"{"steps": 1, "batch_size": 8, "loss": "cross_entropy"}"#;
    let plan = plan(IMAGES, train, 50, Target::Classes(3));
    let mut session = session(&plan);
    let mut weights = initial_weights(&plan);
    for parameter in plan.parameters.iter().filter(|p| !p.trained) {
        let statistics = &mut weights[parameter.offset..][..parameter.floats];
        for (number, by) in statistics.iter_mut().zip(numbers(parameter.floats, 5)) {
            *number += 0.5 * by;
        }
    }
    session.write(&weights, &[]);
    let (features, targets) = (numbers(8 * 50, 1), targets(8, Target::Classes(3)));
    let mut evaluate = |rows: std::ops::Range<usize>| {
        let shard = Shard {
            features: &features[rows.start * 50..rows.end * 50],
            targets: TargetRows::Classes(&classes(&targets)[rows]),
            first_row: 0,
            step: 0,
        };
        session.evaluate_shard(&shard).0.to_vec()
    };
    let all = evaluate(0..8);
    let each: Vec<f32> = (0..8).flat_map(|row| evaluate(row..row + 1)).collect();
    assert_eq!(all, each, "rows don't depend on each other");
    let reference = Reference::new(&plan, IMAGES);
    let parameters = reference.parameters(&weights);
    let expected = reference.by_running(&parameters, &features);
    for (given, expected) in all.iter().zip(expected) {
        assert!(
            (f64::from(*given) - expected).abs() < 1e-5,
            "{given} for {expected}"
        );
    }
}

#[test]
fn workers_that_own_subtrees_sum_statistics_to_the_same_bits() {
    let train = r#"{"steps": 1, "batch_size": 24, "virtual_shards": 8, "loss": "cross_entropy"}"#;
    let plan = plan(IMAGES, train, 50, Target::Classes(3));
    let (features, targets) = (numbers(22 * 50, 1), targets(22, Target::Classes(3)));
    let sum = |shards: std::ops::Range<usize>| -> Vec<u32> {
        let mut session = session(&plan);
        session.start_step();
        for shard in shards {
            let rows = (shard * 3).min(22)..((shard + 1) * 3).min(22);
            session.train_shard(&Shard {
                features: &features[rows.start * 50..rows.end * 50],
                targets: TargetRows::Classes(&classes(&targets)[rows]),
                first_row: shard as u32 * 3,
                step: 0,
            });
        }
        session.gradients().iter().map(|g| g.to_bits()).collect()
    };
    let add = |left: Vec<u32>, right: Vec<u32>| -> Vec<u32> {
        let pairs = left.into_iter().zip(right);
        pairs
            .map(|(a, b)| (f32::from_bits(a) + f32::from_bits(b)).to_bits())
            .collect()
    };
    assert!(add(sum(0..4), sum(4..8)) == sum(0..8));
}
