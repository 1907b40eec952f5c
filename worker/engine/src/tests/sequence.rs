//! Blocks over sequences: their definitions in double precision, and their gradients.

use stoker_domain::spec::TrainSpec;
use stoker_model::{InputDescription, Plan, Target, compile};

use super::gradients::check_plan;
use super::{cpu, finished, input, numbers, run};
use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};
use crate::{Outcome, Run, Table, Targets};

/// A row of `weight` per token.
pub(super) fn embedding(x: &[f64], weight: &[f64], units: usize) -> Vec<f64> {
    let row = |&token: &f64| weight[token as usize * units..][..units].to_vec();
    x.iter().flat_map(row).collect()
}

/// PyTorch's `LayerNorm`, or without a bias `RMSNorm`, over rows of the gain's length.
pub(super) fn norm(x: &mut [f64], gain: &[f64], bias: Option<&[f64]>, epsilon: f64) {
    let count = gain.len() as f64;
    for row in x.chunks_exact_mut(gain.len()) {
        let mean = bias.map_or(0.0, |_| row.iter().sum::<f64>() / count);
        let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        for (index, x) in row.iter_mut().enumerate() {
            *x = (*x - mean) / (square + epsilon).sqrt() * gain[index];
            *x += bias.map_or(0.0, |bias| bias[index]);
        }
    }
}

type Projection<'a> = (&'a [f64], Option<&'a [f64]>);

/// Self-attention, position by position.
pub(super) fn attention(
    x: &[f64],
    features: usize,
    [heads, kv_heads]: [usize; 2],
    [causal, rotary]: [bool; 2],
    [first, last]: [Projection<'_>; 2],
    linear: impl Fn(&[f64], &[f64], Option<&[f64]>, usize) -> Vec<f64>,
) -> Vec<f64> {
    let width = features / heads;
    let rows: Vec<Vec<f64>> = (x.chunks_exact(features))
        .map(|x| linear(x, first.0, first.1, (heads + 2 * kv_heads) * width))
        .collect();
    let part = |position: usize, index: usize| {
        let mut part = rows[position][index * width..][..width].to_vec();
        if rotary && index < heads + kv_heads {
            turn(&mut part, position);
        }
        part
    };
    let mut out = Vec::new();
    for position in 0..rows.len() {
        let seen = if causal { position + 1 } else { rows.len() };
        let mut y = vec![0.0; features];
        for head in 0..heads {
            let shared = head * kv_heads / heads;
            let q = part(position, head);
            let weights: Vec<f64> = (0..seen)
                .map(|other| {
                    let k = part(other, heads + shared);
                    let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    (product / (width as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for (other, weight) in weights.iter().enumerate() {
                let v = part(other, heads + kv_heads + shared);
                for (index, v) in v.iter().enumerate() {
                    y[head * width + index] += weight / total * v;
                }
            }
        }
        out.extend(linear(&y, last.0, last.1, features));
    }
    out
}

/// Turns each pair of a head's first and second half.
fn turn(head: &mut [f64], position: usize) {
    let half = head.len() / 2;
    for pair in 0..half {
        let angle = position as f64 / 10_000_f64.powf(pair as f64 / half as f64);
        let (a, b) = (head[pair], head[half + pair]);
        head[pair] = a * angle.cos() - b * angle.sin();
        head[half + pair] = b * angle.cos() + a * angle.sin();
    }
}

fn tokens(rows: usize, length: usize, vocabulary: u64) -> Vec<f32> {
    let stream = Stream::new(5, Purpose::Init, 3, 0);
    let count = (rows * length) as u64;
    (0..count)
        .map(|i| stream.below(i, vocabulary) as f32)
        .collect()
}

fn plan(
    model: &str,
    train: &str,
    length: usize,
    vocabulary: Option<usize>,
    target: Target,
) -> Plan {
    let train: TrainSpec = serde_json::from_str(train).unwrap();
    let input = InputDescription {
        width: length,
        shape: vec![length],
        vocabulary,
        columns: Vec::new(),
        target,
    };
    compile(&serde_json::from_str(model).unwrap(), &train, &input).unwrap()
}

fn train(room: usize) -> String {
    format!(r#"{{"steps": 1, "batch_size": {room}, "loss": "cross_entropy", "seed": 5}}"#)
}

/// Token ids in, a class at each position out.
fn check(
    blocks: &str,
    [length, vocabulary, classes]: [usize; 3],
    [room, rows]: [usize; 2],
) -> String {
    let target = Target::Sequence {
        classes,
        positions: length,
    };
    let model = format!(r#"{{"layers": [{blocks}]}}"#);
    let plan = plan(&model, &train(room), length, Some(vocabulary), target);
    let features = tokens(rows, length, vocabulary as u64);
    check_plan(plan, &model, &features, rows)
}

#[test]
fn embeddings_positions_and_norms() {
    let blocks = r#"{"type": "embedding", "units": 6}, {"type": "position"},
        {"type": "layer_norm"}, {"type": "linear", "units": 5},
        {"type": "rms_norm", "epsilon": 1e-3}, {"type": "linear", "units": 3}"#;
    for (length, room, rows) in [(7, 5, 3), (1, 2, 2), (13, 67, 67)] {
        if length > 1 {
            check(blocks, [length, 11, 3], [room, rows]);
        }
    }
}

#[test]
fn norms_of_rows() {
    let blocks = r#"{"type": "layer_norm"}, {"type": "linear", "units": 19}, {"type": "rms_norm"},
        {"type": "linear", "units": 4}"#;
    let model = format!(r#"{{"layers": [{blocks}]}}"#);
    let plan = plan(&model, &train(5), 37, None, Target::Classes(4));
    check_plan(plan, &model, &numbers(3 * 37, 1), 3);
}

#[test]
fn norms_of_flattened_images() {
    // Gains and biases are told apart by channel and position, in PyTorch's order.
    for norm in ["layer_norm", "rms_norm"] {
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 3, "kernel": 2}}, {{"type": "flatten"}},
                {{"type": "{norm}"}}, {{"type": "linear", "units": 4}}"#
        );
        let model = format!(r#"{{"input": [2, 4, 5], "layers": [{blocks}]}}"#);
        let plan = plan(&model, &train(5), 40, None, Target::Classes(4));
        check_plan(plan, &model, &numbers(3 * 40, 1), 3);
    }
}

#[test]
fn attention_of_all_kinds() {
    for (heads, kv_heads, causal, bias, rotary) in [
        (1, 1, false, true, false),
        (4, 4, true, true, false),
        (4, 2, true, false, false),
        (6, 1, false, true, false),
        (2, 1, true, true, true),
        (3, 3, false, false, true),
    ] {
        for (length, rows) in [(5, 3), (17, 1)] {
            let blocks = format!(
                r#"{{"type": "embedding", "units": 12}},
                   {{"type": "attention", "heads": {heads}, "kv_heads": {kv_heads},
                     "causal": {causal}, "bias": {bias}, "rotary": {rotary}}},
                   {{"type": "linear", "units": 3}}"#
            );
            check(&blocks, [length, 9, 3], [3, rows]);
        }
    }
}

#[test]
fn long_and_wide_sequences_in_groups() {
    let blocks = r#"{"type": "embedding", "units": 64}, {"type": "layer_norm"},
        {"type": "attention", "heads": 2, "causal": true}, {"type": "linear", "units": 7}"#;
    let kernels = check(blocks, [70, 600, 7], [9, 8]);
    assert!(kernels.contains("partials: Some"), "{kernels}");
}

/// Values with several readers, whose gradients are summed; readers that change theirs in place.
#[test]
fn branches_and_residuals() {
    let branches = [
        // A residual around a block, as transformers have it.
        r#"{"name": "a", "type": "embedding", "units": 6},
           {"name": "n", "type": "layer_norm"}, {"name": "l", "type": "linear", "units": 6},
           {"name": "f", "type": "activation", "function": "gelu"},
           {"name": "d", "type": "dropout", "rate": 0.3},
           {"name": "s", "type": "add", "inputs": ["a", "d"]},
           {"type": "linear", "units": 3}"#,
        // One value three times, twice in one sum, and before and after an activation.
        r#"{"name": "a", "type": "embedding", "units": 6},
           {"name": "l", "type": "linear", "units": 3},
           {"name": "t", "type": "activation", "function": "tanh"},
           {"name": "u", "type": "activation", "function": "sigmoid", "inputs": ["l"]},
           {"name": "s", "type": "add", "inputs": ["l", "t", "u", "l", "t"]},
           {"name": "v", "type": "activation", "function": "relu", "inputs": ["s"]},
           {"name": "w", "type": "activation", "function": "silu", "inputs": ["s"]},
           {"type": "add", "inputs": ["v", "w", "s"]}"#,
    ];
    for blocks in branches {
        check(blocks, [5, 11, 3], [4, 3]);
    }
}

const GPT: &str = r#"{"family": "gpt", "depth": 2, "width": 24, "heads": 3, "dropout": 0.1}"#;

fn gpt(train: &str) -> (std::sync::Arc<Plan>, std::sync::Arc<Table>) {
    const LENGTH: usize = 9;
    let target = Target::Sequence {
        classes: 13,
        positions: LENGTH,
    };
    let plan = plan(GPT, train, LENGTH, Some(13), target);
    let features = tokens(53, LENGTH, 13);
    // What comes next is the token before, so that there is something to learn.
    let targets = (features.chunks_exact(LENGTH))
        .flat_map(|row| std::iter::once(0).chain(row[..LENGTH - 1].iter().map(|&x| x as u32)))
        .collect();
    let table = Table::new(features, LENGTH, Targets::Classes(targets)).unwrap();
    (std::sync::Arc::new(plan), std::sync::Arc::new(table))
}

#[test]
fn gpt_learns_and_no_bit_depends_on_threads_or_instructions() {
    let train = r#"{"epochs": 30, "batch_size": 16, "virtual_shards": 2, "loss": "cross_entropy",
        "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#;
    let (plan, table) = gpt(train);
    let (expected, _) = run(&cpu(1, Level::Scalar), input(&plan, &table, None));
    assert!(
        expected.metrics["test.loss"] < 1.0,
        "{:?}",
        expected.metrics
    );
    for (threads, level) in [
        (2, Level::Scalar),
        (1, Level::detect()),
        (2, Level::detect()),
    ] {
        let (other, _) = run(&cpu(threads, level), input(&plan, &table, None));
        assert_eq!(
            other.weights, expected.weights,
            "{threads} threads, {level:?}"
        );
    }
}

#[test]
fn gpt_resumes_to_the_same_bits() {
    let train = r#"{"epochs": 3, "batch_size": 16, "loss": "cross_entropy"}"#;
    let (plan, table) = gpt(train);
    let cpu = cpu(2, Level::detect());
    let (expected, _) = run(&cpu, input(&plan, &table, None));
    let mut watch = super::Watch {
        pause_at: Some(4),
        ..super::Watch::default()
    };
    let paused = Run::new(&cpu, input(&plan, &table, None))
        .unwrap()
        .run(&mut watch)
        .unwrap();
    assert_eq!(paused, Outcome::Paused { step: 4 });
    let (_, checkpoint) = watch.checkpoints.pop().unwrap();
    let resumed = Run::new(&cpu, input(&plan, &table, Some(&checkpoint))).unwrap();
    let resumed = { resumed }.run(&mut super::Watch::default()).unwrap();
    assert_eq!(finished(resumed).weights, expected.weights);
}
