//! Rows that end early: what is after a row's end, which bucket it is in and what it shares a
//! batch with changes nothing.

use std::sync::Arc;

use stoker_domain::spec::Apply;
use stoker_model::{InputDescription, Plan, Target, compile_padded};

use super::{Watch, as_rows, cpu, input, measure, numbers, on_disk, run};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::feed::Feed;
use crate::init::initial_weights;
use crate::philox::{Purpose, Stream};
use crate::{EngineError, Preprocess, RunInput, Session, Shard, Table, Targets, Transform};

const FULL: usize = 13;
const VOCABULARY: usize = 11;
const CLASSES: usize = 3;

/// A model, and what it is fed.
#[derive(Clone, Copy)]
struct Case<'a> {
    model: &'a str,
    loss: &'a str,
    /// Numbers per position; token ids where it is 0.
    columns: usize,
    /// Whether there is a class at each position.
    per_position: bool,
    /// The shortest row that the model takes without padding.
    shortest: usize,
}

impl Case<'_> {
    fn columns(self) -> usize {
        self.columns.max(1)
    }

    /// The plan for rows of `length` positions; they end early where `buckets` are given.
    fn plan(self, length: usize, room: usize, buckets: Option<&[u32]>) -> Plan {
        let model = self.model.replace("LENGTH", &length.to_string());
        let train = format!(
            r#"{{"steps": 1, "batch_size": {room}, "loss": {}, "seed": 5}}"#,
            self.loss
        );
        let input = InputDescription {
            width: length * self.columns(),
            shape: match self.columns {
                0 => vec![length],
                columns => vec![length, columns],
            },
            vocabulary: (self.columns == 0).then_some(VOCABULARY),
            columns: Vec::new(),
            target: match self.per_position {
                true => Target::Sequence {
                    classes: CLASSES,
                    positions: length,
                },
                false => Target::Classes(CLASSES),
            },
        };
        let (model, train) = (
            serde_json::from_str(&model).unwrap(),
            serde_json::from_str(&train).unwrap(),
        );
        let padding = buckets.map(|_| 0.0);
        compile_padded(&model, &train, &input, buckets.unwrap_or(&[]), padding).unwrap()
    }

    /// Numbers of a row.
    fn features(self, row: usize, length: usize) -> Vec<f32> {
        let numbers = numbers(FULL * self.columns(), 20 + row as u16);
        let token = |x: f32| ((x + 1.0) / 2.0 * VOCABULARY as f32).floor();
        let numbers = (numbers.iter()).map(|&x| if self.columns == 0 { token(x) } else { x });
        numbers.take(length * self.columns()).collect()
    }

    fn classes(self, row: usize, length: usize) -> Vec<u32> {
        let stream = Stream::new(79, Purpose::Init, row as u16, 0);
        let classes = (0..FULL as u64).map(|at| stream.below(at, CLASSES as u64) as u32);
        classes
            .take(if self.per_position { length } else { 1 })
            .collect()
    }
}

/// Loss, weight and gradients of a shard.
fn train(plan: &Plan, weights: &[f32], shard: &Shard<'_>) -> (f64, f64, Vec<f32>) {
    let cpu = cpu(2, Level::detect());
    let plan = Arc::new(plan.clone());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan).unwrap();
    session.write(weights, &[]);
    session.start_step();
    let sum = session.train_shard(shard);
    (sum.loss, sum.weight, session.gradients().to_vec())
}

/// The sum over rows, each by itself in a plan of its own length.
fn alone(case: Case<'_>, whole: &Plan, weights: &[f32], rows: &[usize]) -> (f64, f64, Vec<f64>) {
    let (mut loss, mut weight) = (0.0, 0.0);
    let mut gradients = vec![0.0; whole.parameter_floats];
    for (row, &length) in rows.iter().enumerate() {
        let plan = case.plan(length, 1, None);
        let pairs = || plan.parameters.iter().zip(&whole.parameters);
        let mut own = vec![0.0; plan.parameter_floats];
        for (part, all) in pairs() {
            own[part.offset..][..part.floats]
                .copy_from_slice(&weights[all.offset..][..part.floats]);
        }
        let targets = Targets::Classes(case.classes(row, length));
        let shard = Shard {
            features: &case.features(row, length),
            targets: as_rows(&targets),
            lengths: &[],
            first_row: row as u32,
            step: 3,
        };
        let (own_loss, own_weight, own_gradients) = train(&plan, &own, &shard);
        (loss, weight) = (loss + own_loss, weight + own_weight);
        for (part, all) in pairs() {
            for index in 0..part.floats {
                gradients[all.offset + index] += f64::from(own_gradients[part.offset + index]);
            }
        }
    }
    (loss, weight, gradients)
}

/// The same of all in one batch of `bucket` positions, with `poison` after their ends.
fn together(
    case: Case<'_>,
    plan: &Plan,
    weights: &[f32],
    (rows, bucket): (&[usize], usize),
    poison: f32,
) -> (f64, f64, Vec<f32>) {
    let (mut features, mut classes) = (Vec::new(), Vec::new());
    for (row, &length) in rows.iter().enumerate() {
        features.extend(case.features(row, length));
        features.resize((row + 1) * bucket * case.columns(), poison);
        classes.extend(case.classes(row, length));
        if case.per_position {
            classes.resize((row + 1) * bucket, 2);
        }
    }
    let lengths: Vec<u32> = rows.iter().map(|&length| length as u32).collect();
    let targets = Targets::Classes(classes);
    let shard = Shard {
        features: &features,
        targets: as_rows(&targets),
        lengths: &lengths,
        first_row: 0,
        step: 3,
    };
    train(plan, weights, &shard)
}

fn check(case: Case<'_>) {
    let plan = case.plan(FULL, 8, Some(&[5, 9, 64]));
    assert_eq!(plan.shorter.len(), 2);
    let weights = initial_weights(&plan);
    let all = [13, 1, 6, 9, 2, 11, 5];
    for (longest, buckets) in [(5, &[5, 9, 13][..]), (9, &[9, 13]), (13, &[13])] {
        let rows: Vec<usize> = (all.into_iter())
            .map(|length| length.max(case.shortest))
            .filter(|&length| length <= longest)
            .collect();
        let (loss, weight, gradients) = alone(case, &plan, &weights, &rows);
        let scale = gradients.iter().fold(1e-3, |max: f64, g| max.max(g.abs()));
        let mut before = None;
        for &bucket in buckets {
            let of = |poison| together(case, &plan, &weights, (&rows, bucket), poison);
            let given = of(0.0);
            assert!(
                (given.0 - loss).abs() < 1e-6 * loss.abs() && given.1 == weight,
                "{} for {loss} in {bucket}: {}",
                given.0,
                case.model
            );
            for parameter in &plan.parameters {
                let own = parameter.offset..parameter.offset + parameter.floats;
                let pairs = given.2[own.clone()].iter().zip(&gradients[own]);
                for (index, (&given, &expected)) in pairs.enumerate() {
                    assert!(
                        (f64::from(given) - expected).abs() < 1e-5 * scale,
                        "{}[{index}]: {given} for {expected} in {bucket}: {}",
                        parameter.name,
                        case.model
                    );
                }
            }
            let before = before.get_or_insert(given.0);
            assert_eq!(before.to_bits(), given.0.to_bits(), "{bucket} positions");
            for poison in [f32::NAN, f32::INFINITY, 1e30, -3.0] {
                assert!(of(poison) == given, "{poison} in {}", case.model);
            }
        }
    }
}

const TOKENS: Case<'_> = Case {
    model: "",
    loss: r#""cross_entropy""#,
    columns: 0,
    per_position: true,
    shortest: 1,
};

#[test]
fn attention_sees_no_padding() {
    let gpt = r#"{"family": "gpt", "depth": 2, "width": 24, "heads": 3, "dropout": 0.1}"#;
    for loss in [
        r#""cross_entropy""#,
        r#""dice""#,
        r#"{"name": "cross_entropy", "label_smoothing": 0.1, "class_weights": [1, 2, 0.5]}"#,
    ] {
        check(Case {
            model: gpt,
            loss,
            ..TOKENS
        });
    }
    let full = r#"{"layers": [{"type": "embedding", "units": 12}, {"type": "position"},
        {"type": "attention", "heads": 4, "kv_heads": 2}, {"type": "rms_norm"},
        {"type": "linear", "units": 7}, {"type": "activation", "function": "gelu"},
        {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: full,
        ..TOKENS
    });
}

#[test]
fn pooling_counts_positions_that_are_there() {
    let mean = r#"{"input": [LENGTH, 2], "layers": [{"type": "linear", "units": 6},
        {"type": "activation", "function": "silu"}, {"type": "position"},
        {"type": "attention", "heads": 2}, {"type": "layer_norm"},
        {"type": "global_avg_pool"}, {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: mean,
        columns: 2,
        per_position: false,
        ..TOKENS
    });
}

#[test]
fn convolutions_see_zeros_after_a_row() {
    let strided = r#"{"input": [LENGTH, 3], "layers": [
        {"type": "conv1d", "channels": 5, "kernel": 3, "padding": 1},
        {"type": "activation", "function": "relu"},
        {"type": "conv1d", "channels": 8, "kernel": 3, "stride": 2, "padding": 1, "dilation": 2},
        {"type": "activation", "function": "gelu"},
        {"type": "conv1d", "channels": 8, "kernel": 2, "padding": 1, "groups": 8},
        {"type": "global_avg_pool"}, {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: strided,
        columns: 3,
        per_position: false,
        shortest: 4,
        ..TOKENS
    });
    let residual = r#"{"layers": [{"type": "embedding", "units": 6, "name": "e"},
        {"type": "conv1d", "channels": 6, "kernel": 3, "causal": true, "dilation": 2},
        {"type": "activation", "function": "tanh", "name": "a"},
        {"type": "conv1d", "channels": 6, "kernel": 5, "padding": 2, "name": "c", "inputs": ["e"]},
        {"type": "add", "inputs": ["a", "c", "e"]},
        {"type": "dropout", "rate": 0.2},
        {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: residual,
        ..TOKENS
    });
}

/// In one bucket a model may flatten its positions: those after a row's end are zeros.
#[test]
fn flattened_rows_have_zeros_after_their_end() {
    let case = Case {
        model: r#"{"layers": [{"type": "embedding", "units": 4}, {"type": "flatten"},
            {"type": "activation", "function": "sigmoid"}, {"type": "linear", "units": 3}]}"#,
        per_position: false,
        ..TOKENS
    };
    let plan = case.plan(FULL, 8, Some(&[]));
    let weights = initial_weights(&plan);
    let of = |poison| together(case, &plan, &weights, (&[3, 13, 1], FULL), poison);
    let expected = of(0.0);
    assert!(of(f32::NAN) == expected && of(5.0) == expected);
    let other = together(case, &plan, &weights, (&[4, 13, 1], FULL), 0.0);
    assert!(other.0 != expected.0);
}

#[test]
fn recurrences_and_last_positions_end_with_the_row() {
    for (cell, last) in [("lstm", "last_position"), ("gru", "global_avg_pool")] {
        let blocks = format!(
            r#"{{"layers": [{{"type": "embedding", "units": 5}},
                {{"type": "{cell}", "units": 19, "layers": 2, "dropout": 0.1}},
                {{"type": "{last}"}}, {{"type": "linear", "units": 3}}]}}"#
        );
        check(Case {
            model: &blocks,
            per_position: false,
            ..TOKENS
        });
    }
    let convolved = r#"{"input": [LENGTH, 3], "layers": [
        {"type": "conv1d", "channels": 8, "kernel": 3, "stride": 2, "padding": 1},
        {"type": "attention", "heads": 2, "rotary": true},
        {"type": "lstm", "units": 4}, {"type": "last_position"}, {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: convolved,
        columns: 3,
        per_position: false,
        ..TOKENS
    });
}

#[test]
fn windows_and_norms_end_with_the_row() {
    let pools = r#"{"input": [LENGTH, 3], "layers": [
        {"type": "conv1d", "channels": 6, "kernel": 3, "padding": 1},
        {"type": "max_pool1d", "kernel": 3, "stride": 1, "padding": 1, "name": "p"},
        {"type": "group_norm", "groups": 2}, {"type": "activation", "function": "relu"},
        {"type": "avg_pool1d", "kernel": 3, "stride": 1, "padding": 1, "name": "a"},
        {"type": "concat", "inputs": ["p", "a"]},
        {"type": "max_pool1d", "kernel": 2}, {"type": "linear", "units": 5},
        {"type": "global_max_pool"}, {"type": "linear", "units": 3}]}"#;
    check(Case {
        model: pools,
        columns: 3,
        per_position: false,
        shortest: 2,
        ..TOKENS
    });
}

#[test]
fn families_over_sequences() {
    for (model, per_position) in [
        (
            r#"{"family": "lstm", "embedding": 5, "units": 9, "cell": "gru"}"#,
            false,
        ),
        (
            r#"{"family": "lstm", "embedding": 5, "units": 9, "layers": 1}"#,
            true,
        ),
        (
            r#"{"family": "tcn", "embedding": 6, "channels": [6, 7, 7], "kernel": 3, "dropout": 0.1}"#,
            true,
        ),
        (
            r#"{"family": "tcn", "embedding": 6, "channels": [6, 7], "kernel": 2}"#,
            false,
        ),
        (
            r#"{"family": "encoder", "depth": 1, "width": 12, "heads": 2}"#,
            false,
        ),
    ] {
        check(Case {
            model,
            per_position,
            ..TOKENS
        });
    }
}

/// Tokens after a row's end are neither hidden nor predicted.
#[test]
fn masked_tokens_are_those_of_the_row() {
    let model = r#"{"family": "encoder", "masked": 0.3, "depth": 1, "width": 12, "heads": 2}"#;
    let train = r#"{"epochs": 2, "batch_size": 8, "loss": "cross_entropy", "seed": 4}"#;
    let (model, train) = (
        serde_json::from_str(model).unwrap(),
        serde_json::from_str(train).unwrap(),
    );
    let input = InputDescription {
        width: FULL,
        shape: vec![FULL],
        vocabulary: Some(VOCABULARY),
        columns: Vec::new(),
        target: Target::Masked {
            classes: VOCABULARY,
            positions: FULL,
        },
    };
    let table = table(60, 0);
    let features: Vec<f32> = (0..60).flat_map(|row| table.row(row).to_vec()).collect();
    let table = Arc::new(Table::new(features, FULL, Targets::Features).unwrap());
    let of = |buckets: &[u32]| {
        let plan = compile_padded(&model, &train, &input, buckets, Some(0.0)).unwrap();
        let plan = Arc::new(plan);
        let (finished, watch) = run(&cpu(2, Level::detect()), measured(&plan, &table, None));
        (
            finished.metrics["test.loss"],
            watch.evaluations[0].1.clone(),
        )
    };
    let (one, several) = (of(&[]).1, of(&BUCKETS).1);
    assert!(
        one[0].1.is_finite() && (one[0].1 - several[0].1).abs() < 0.2,
        "{one:?}, {several:?}"
    );
}

const GPT: &str = r#"{"family": "gpt", "depth": 1, "width": 16, "heads": 2, "dropout": 0.1}"#;
const BUCKETS: [u32; 3] = [6, 9, 13];

/// Rows of 1 to 13 tokens, whose padding holds `filled`.
fn table(rows: usize, filled: u32) -> Arc<Table> {
    let stream = Stream::new(80, Purpose::Init, 0, 0);
    let (mut features, mut classes) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let length = 1 + stream.below(row as u64, FULL as u64) as usize;
        let tokens = TOKENS.features(row, length);
        // 0 is padding.
        features.extend(tokens.iter().map(|&x| x.max(1.0)));
        features.resize((row + 1) * FULL, 0.0);
        classes.extend(tokens.iter().map(|&x| x as u32 % CLASSES as u32));
        classes.resize((row + 1) * FULL, filled);
    }
    Arc::new(Table::new(features, FULL, Targets::Classes(classes)).unwrap())
}

fn gpt(buckets: &[u32], more: &str) -> Arc<Plan> {
    let case = Case {
        model: GPT,
        ..TOKENS
    };
    let mut plan = case.plan(FULL, 1, Some(&[]));
    let train = format!(
        r#"{{"epochs": 3, "batch_size": 8, "loss": "cross_entropy", "seed": 4,
            "optimizer": {{"name": "adamw", "learning_rate": 0.01}}{more}}}"#
    );
    let (model, train) = (
        serde_json::from_str(GPT).unwrap(),
        serde_json::from_str(&train).unwrap(),
    );
    plan = compile_padded(&model, &train, &plan.input, buckets, Some(0.0)).unwrap();
    Arc::new(plan)
}

fn measured<'a>(plan: &Arc<Plan>, table: &Arc<Table>, resume: Option<&'a [u8]>) -> RunInput<'a> {
    RunInput {
        metrics: vec![measure("accuracy", plan)],
        ..input(plan, table, resume)
    }
}

#[test]
fn runs_in_buckets_are_equal_to_the_bit() {
    // Windows of three batches.
    let table = |filled| {
        let table = Arc::into_inner(table(83, filled)).unwrap();
        Arc::new(table.with_window_bytes(2_500))
    };
    let (table, other) = (table(0), table(2));
    for more in [
        r#", "virtual_shards": 4"#,
        r#", "accumulate": 2, "drop_last": true"#,
    ] {
        let plan = gpt(&BUCKETS, more);
        let (expected, watched) = run(&cpu(1, Level::Scalar), measured(&plan, &table, None));
        // 66 rows to train on.
        let steps = if more.contains("drop") { 3 * 4 } else { 3 * 9 };
        assert_eq!(watched.losses.len(), steps);
        for (threads, level) in [
            (1, Level::detect()),
            (2, Level::Scalar),
            (3, Level::detect()),
        ] {
            let (given, watch) = run(&cpu(threads, level), measured(&plan, &table, None));
            assert_eq!(watch.losses, watched.losses, "{threads} threads, {level:?}");
            assert!(given == expected, "{threads} threads, {level:?}");
        }
        let (given, watch) = run(
            &cpu(2, Level::detect()),
            measured(&plan, &Arc::new(on_disk(&table)), None),
        );
        assert!(watch.losses == watched.losses && given == expected, "file");
        // What is predicted after a row's end is nobody's business.
        let (given, _) = run(&cpu(1, Level::detect()), measured(&plan, &other, None));
        assert!(given == expected, "targets of padding");
    }
}

#[test]
fn runs_in_buckets_are_resumed_at_any_step() {
    let (table, cpu) = (table(50, 0), cpu(2, Level::detect()));
    let plan = gpt(
        &BUCKETS,
        r#", "checkpoint": {"every_steps": 1}, "virtual_shards": 2"#,
    );
    let (expected, watched) = run(&cpu, measured(&plan, &table, None));
    assert_eq!(watched.checkpoints.len(), 3 * 5 - 1);
    for (step, bytes) in &watched.checkpoints {
        let (given, watch) = run(&cpu, measured(&plan, &table, Some(bytes)));
        assert_eq!(
            watch.losses,
            watched.losses[*step as usize..],
            "after step {step}"
        );
        assert!(given == expected, "after step {step}");
    }
}

/// Buckets change which rows share a batch, but not what held-out rows give.
#[test]
fn held_out_rows_are_measured_alike_in_all_buckets() {
    let (table, cpu) = (table(83, 0), cpu(1, Level::detect()));
    let still = r#", "schedule": {"name": "cosine", "warmup_steps": 1000000}"#;
    let of = |buckets: &[u32]| {
        run(&cpu, measured(&gpt(buckets, still), &table, None))
            .0
            .metrics
    };
    let (one, several) = (of(&[]), of(&BUCKETS));
    let close = |name: &str, by: f64| (one[name] - several[name]).abs() < by;
    assert!(close("test.loss", 1e-4), "{one:?}, {several:?}");
    assert!(close("test.accuracy", 0.02), "{one:?}, {several:?}");
}

#[test]
fn the_arena_is_that_of_the_largest_bucket() {
    let plan = gpt(&BUCKETS, "");
    let largest = plan.shorter.iter().map(|body| body.arena_floats).max();
    assert!(plan.arena_floats > largest.unwrap());
    let cpu = cpu(1, Level::detect());
    let session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    let shape = (plan.rows, plan.shards);
    let feed = Feed::new(table(9, 0), 0, shape, Vec::new(), (&[0], &[]), None, None).unwrap();
    let allocated = session.allocated_bytes() + feed.allocated_bytes();
    assert_eq!(allocated, plan.quote().peak_bytes);
}

/// Changes what is after the end of rows, which must be of no use.
struct Scribble;

impl Transform for Scribble {
    fn apply(&mut self, features: &mut Vec<f32>, _: &[u64], _: u64) -> Result<(), EngineError> {
        for row in features.chunks_exact_mut(FULL) {
            for x in row.iter_mut().rev().take_while(|x| **x == 0.0) {
                *x = f32::NAN;
            }
        }
        Ok(())
    }
}

#[test]
fn preprocessing_may_leave_anything_after_a_row() {
    let (table, cpu) = (table(40, 0), cpu(1, Level::detect()));
    let plan = gpt(&BUCKETS, "");
    let (expected, _) = run(&cpu, measured(&plan, &table, None));
    let scribbled = RunInput {
        preprocess: vec![Preprocess::custom(Apply::Always, Box::new(Scribble))],
        ..measured(&plan, &table, None)
    };
    let mut run = crate::Run::new(&cpu, scribbled).unwrap();
    let given = super::finished(run.run(&mut Watch::default()).unwrap());
    assert!(given == expected);
}
