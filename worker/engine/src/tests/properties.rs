//! Random jobs: whatever a spec holds, no bit depends on the run, the threads, the instruction set,
//! an interruption, or the number of workers.
//!
//! The cases follow from a seed, so a failure comes again; proptest prints the smallest case that
//! fails. `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use stoker_domain::spec::{Apply, SplitSpec};
use stoker_model::{InputDescription, Plan, Target, compile};

use super::columns::{describe, rows_of};
use super::{Watch, cpu, finished, measure, numbers, on_disk, targets};
use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};
use crate::{Cpu, EngineError, Finished, Preprocess, Run, RunInput, Table, Transform};

/// Virtual shards of a step, over all accumulated batches.
const SHARDS: usize = 8;

/// A job, and the size of its data.
#[derive(Debug, Clone)]
struct Case {
    model: Value,
    train: Value,
    /// Of the features.
    shape: Vec<usize>,
    /// Features are token ids below this.
    tokens: Option<usize>,
    columns: Vec<Column>,
    target: Target,
    rows: usize,
    augmented: bool,
    /// Bytes of the rows that are shuffled together.
    window_bytes: usize,
}

/// A column of features that the model tells apart: name, numbers, and for ids their vocabulary.
type Column = (&'static str, usize, Option<usize>);

/// A model with what goes in and comes out.
#[derive(Debug, Clone)]
struct Model {
    model: Value,
    shape: Vec<usize>,
    tokens: Option<usize>,
    columns: Vec<Column>,
    target: Target,
}

fn activation() -> impl Strategy<Value = &'static str> {
    select(vec!["relu", "gelu", "silu", "tanh", "sigmoid"])
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        (2_usize..12).prop_map(Target::Classes),
        (1_usize..6).prop_map(Target::Values),
    ]
}

fn perceptron() -> impl Strategy<Value = Model> {
    // Now and then large enough for groups of kernels.
    let widths = prop_oneof![9 => 1_u32..40, 1 => 200_u32..400];
    let hidden = prop::collection::vec(widths, 1..4);
    (hidden, activation(), any::<bool>(), 1_usize..30, target()).prop_map(
        |(hidden, activation, drops, width, target)| Model {
            model: json!({"family": "mlp", "hidden": hidden, "activation": activation,
                "dropout": if drops { 0.3 } else { 0.0 }}),
            shape: vec![width],
            tokens: None,
            columns: Vec::new(),
            target,
        },
    )
}

/// A block over images that keeps them images, whatever their size.
fn image_block() -> impl Strategy<Value = Value> {
    let convolution = (1_u32..9, select(vec![1_u32, 3]), 1_u32..3, any::<bool>());
    prop_oneof![
        4 => convolution.prop_map(|(channels, kernel, dilation, bias)| {
            json!({"type": "conv2d", "channels": channels, "kernel": kernel,
                "padding": kernel / 2 * dilation, "dilation": dilation, "bias": bias})
        }),
        2 => activation().prop_map(|f| json!({"type": "activation", "function": f})),
        1 => Just(json!({"type": "max_pool2d", "kernel": 3, "stride": 1, "padding": 1})),
        1 => Just(json!({"type": "avg_pool2d", "kernel": 3, "stride": 1, "padding": 1})),
        1 => Just(json!({"type": "dropout", "rate": 0.25})),
        2 => Just(json!({"type": "batch_norm"})),
        1 => Just(json!({"type": "group_norm", "groups": 1})),
        1 => (1_u32..9).prop_map(|channels| {
            json!({"type": "conv_transpose2d", "channels": channels, "kernel": 3, "padding": 1})
        }),
    ]
}

/// What comes before the other blocks: nothing; a convolution per channel; two convolutions with a
/// connection around the second; or twice as many rows and columns.
fn image_start() -> impl Strategy<Value = Vec<Value>> {
    let mode = select(vec!["nearest", "bilinear"]);
    prop_oneof![
        3 => Just(Vec::new()),
        1 => (1_u32..4).prop_map(|each| vec![
            json!({"type": "conv2d", "channels": 3, "kernel": 1}),
            json!({"type": "conv2d", "channels": 3 * each, "kernel": 3, "padding": 1, "groups": 3}),
        ]),
        1 => (1_u32..9).prop_map(|channels| {
            let conv = |name: &str| json!({"type": "conv2d", "name": name, "channels": channels,
                "kernel": 3, "padding": 1});
            let around = json!({"type": "add", "inputs": ["before", "after"]});
            let relu = json!({"type": "activation", "function": "relu"});
            vec![conv("before"), relu.clone(), conv("after"), around, relu]
        }),
        1 => mode.prop_map(|mode| vec![json!({"type": "upsample", "factor": 2, "mode": mode})]),
    ]
}

fn images() -> impl Strategy<Value = Model> {
    let sizes = (1_usize..4, 3_usize..10, 3_usize..10);
    let blocks = (image_start(), prop::collection::vec(image_block(), 1..6));
    (sizes, blocks, any::<bool>(), target()).prop_map(|((c, h, w), blocks, means, target)| {
        let mut layers = [blocks.0, blocks.1].concat();
        let last = if means { "global_avg_pool" } else { "flatten" };
        layers.push(json!({"type": "max_pool2d", "kernel": 2}));
        layers.push(json!({ "type": last }));
        layers.push(json!({"type": "linear", "units": target.outputs()}));
        Model {
            model: json!({"input": [c, h, w], "layers": layers}),
            shape: vec![c, h, w],
            tokens: None,
            columns: Vec::new(),
            target,
        }
    })
}

/// A block over `[length, 12]` that keeps the shape.
fn sequence_block() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({"type": "linear", "units": 12})),
        2 => (select(vec![(1, 1), (2, 1), (4, 2)]), any::<bool>()).prop_map(
            |((heads, shared), causal)| {
                json!({"type": "attention", "heads": heads, "kv_heads": shared, "causal": causal})
            }
        ),
        1 => (1_u32..4).prop_map(|kernel| {
            json!({"type": "conv1d", "channels": 12, "kernel": kernel, "causal": true})
        }),
        1 => Just(json!({"type": "layer_norm"})),
        1 => Just(json!({"type": "rms_norm"})),
        1 => activation().prop_map(|f| json!({"type": "activation", "function": f})),
        1 => Just(json!({"type": "dropout", "rate": 0.4})),
        3 => (select(vec!["lstm", "gru"]), 1_u32..3).prop_map(|(cell, layers)| {
            json!({"type": cell, "units": 12, "layers": layers, "dropout": 0.1 * (layers - 1) as f32})
        }),
    ]
}

fn sequences() -> impl Strategy<Value = Model> {
    let blocks = prop::collection::vec(sequence_block(), 1..6);
    let last = select(vec!["global_avg_pool", "global_max_pool", "last_position"]);
    let sizes = (2_usize..9, 2_usize..20);
    (blocks, sizes, last, target()).prop_map(|(blocks, (length, tokens), last, target)| {
        let mut layers = vec![
            json!({"type": "embedding", "units": 12, "vocabulary": tokens}),
            json!({"type": "position"}),
        ];
        layers.extend(blocks);
        layers.push(json!({ "type": last }));
        layers.push(json!({"type": "linear", "units": target.outputs()}));
        Model {
            model: json!({"input": [length], "layers": layers}),
            shape: vec![length],
            tokens: Some(tokens),
            columns: Vec::new(),
            target,
        }
    })
}

/// Models over ids: of small tables, and of such as a step touches few rows of.
fn ids() -> impl Strategy<Value = Model> {
    let kinds = select(vec!["matrix_factorisation", "two_tower", "dlrm"]);
    let vocabulary = || prop_oneof![3_usize..40, 1000_usize..4000];
    (kinds, vocabulary(), vocabulary(), 1_u32..9).prop_map(|(kind, users, items, dim)| {
        let mut model = json!({"family": "recommender", "kind": kind, "user": "user",
            "item": "item", "dim": dim});
        if kind != "matrix_factorisation" {
            model["categorical"] = json!(["genre"]);
            model["numeric"] = json!(["price"]);
            model["hidden"] = json!([7]);
        }
        if kind == "two_tower" {
            model["item_columns"] = json!(["genre", "price"]);
        }
        if kind == "dlrm" {
            model["bottom"] = json!([5]);
        }
        let columns = vec![
            ("user", 1, Some(users)),
            ("item", 1, Some(items)),
            ("genre", 2, Some(5)),
            ("price", 1, None),
        ];
        Model {
            model,
            shape: vec![5],
            tokens: None,
            columns,
            target: Target::Values(1),
        }
    })
}

fn transformer() -> impl Strategy<Value = Model> {
    let sizes = (1_u32..3, 1_u32..4, 2_usize..9, 2_usize..20);
    (sizes, any::<bool>()).prop_map(|((depth, heads, length, tokens), drops)| Model {
        model: json!({"family": "gpt", "depth": depth, "width": 6 * heads, "heads": heads,
            "vocabulary": tokens, "dropout": if drops { 0.2 } else { 0.0 }}),
        shape: vec![length],
        tokens: Some(tokens),
        columns: Vec::new(),
        target: Target::Sequence {
            classes: tokens,
            positions: length,
        },
    })
}

fn optimizer() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"name": "sgd", "learning_rate": 0.05})),
        Just(json!({"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": true})),
        Just(json!({"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.02})),
    ]
}

fn clip() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!({"norm": 0.2}),
        json!({"value": 0.01}),
        json!({"norm": 0.5, "value": 0.05}),
    ])
}

fn case() -> impl Strategy<Value = Case> {
    let model = prop_oneof![
        3 => perceptron(),
        3 => images(),
        3 => sequences(),
        1 => transformer(),
        2 => ids(),
    ];
    let sizes = (1_u32..5, 0_u32..4, 10_usize..130);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    // A batch in each, some batches, and all rows in one.
    let window_bytes = select(vec![0, 2_000, 1 << 20]);
    let parts = (optimizer(), clip(), switches, any::<u32>(), window_bytes);
    (model, sizes, parts).prop_map(|(model, (shard, log, rows), parts)| {
        let (optimizer, clip, switches, seed, window_bytes) = parts;
        let Model {
            model,
            shape,
            tokens,
            columns,
            target,
        } = model;
        let accumulate = 1 << log;
        let shards = SHARDS as u32 / accumulate;
        let (averaged, stops, augmented) = switches;
        let loss = match target {
            Target::Values(_) => "huber",
            _ => "cross_entropy",
        };
        let mut train = json!({"epochs": 2, "batch_size": shard * shards, "virtual_shards": shards,
            "accumulate": accumulate, "seed": seed, "loss": loss, "optimizer": optimizer,
            "schedule": {"name": "cosine", "warmup_steps": 1}, "checkpoint": {"every_steps": 1}});
        if !clip.is_null() {
            train["clip"] = clip;
        }
        if averaged {
            train["ema"] = json!({"decay": 0.8});
        }
        if stops {
            train["early_stop"] = json!({"patience": 2});
            train["keep_best"] = json!(true);
        }
        Case {
            model,
            train,
            shape,
            tokens,
            target,
            rows,
            augmented: augmented && tokens.is_none() && columns.is_empty(),
            columns,
            window_bytes,
        }
    })
}

/// Adds noise that depends on the seed.
struct Noise;

impl Transform for Noise {
    fn apply(
        &mut self,
        features: &mut Vec<f32>,
        _rows: &[u64],
        seed: u64,
    ) -> Result<(), EngineError> {
        let stream = Stream::new(seed, Purpose::Init, 0, 0);
        for (index, x) in features.iter_mut().enumerate() {
            *x += stream.below(index as u64, 1000) as f32 / 10_000.0;
        }
        Ok(())
    }
}

struct Job {
    plan: Arc<Plan>,
    table: Arc<Table>,
    augmented: bool,
}

impl Job {
    fn new(case: &Case) -> Self {
        let width = case.shape.iter().product();
        let input = match case.columns.as_slice() {
            [] => InputDescription {
                width,
                shape: case.shape.clone(),
                vocabulary: case.tokens,
                columns: Vec::new(),
                target: case.target,
            },
            columns => describe(columns, case.target),
        };
        let model = serde_json::from_value(case.model.clone()).unwrap();
        let train = serde_json::from_value(case.train.clone()).unwrap();
        let plan = compile(&model, &train, &input).unwrap();
        let mut features = numbers(case.rows * width, 1);
        if let Some(tokens) = case.tokens {
            for x in &mut features {
                *x = ((*x + 1.0) * 0.499 * tokens as f32).floor();
            }
        }
        if !case.columns.is_empty() {
            features = rows_of(&case.columns, case.rows, 20, 6);
        }
        let table = Table::new(features, width, targets(case.rows, case.target));
        Self {
            plan: Arc::new(plan),
            table: Arc::new(table.unwrap().with_window_bytes(case.window_bytes)),
            augmented: case.augmented,
        }
    }

    /// The same with the rows in a file.
    fn on_disk(&self) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            table: Arc::new(on_disk(&self.table)),
            augmented: self.augmented,
        }
    }

    fn run(&self, cpu: &Cpu, workers: usize, resume: Option<&[u8]>) -> (Finished, Watch) {
        let mut preprocess = Vec::new();
        if self.augmented {
            preprocess.push(Preprocess::custom(Apply::Train, Box::new(Noise)));
        }
        let metric = match self.plan.input.target {
            Target::Values(_) => "mae",
            _ => "accuracy",
        };
        let input = RunInput {
            plan: Arc::clone(&self.plan),
            table: Arc::clone(&self.table),
            split: &SplitSpec {
                test: 0.2,
                shuffle: true,
                seed: 4,
                stratify: false,
            },
            preprocess,
            metrics: vec![measure(metric, &self.plan)],
            resume,
        };
        let mut watch = Watch::default();
        let mut run = Run::with_workers(cpu, input, workers).unwrap();
        (finished(run.run(&mut watch).unwrap()), watch)
    }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let job = Job::new(case);
    let one = cpu(1, Level::detect());
    let (expected, watched) = job.run(&one, 1, None);
    let same = |what: String, (given, watch): (Finished, Watch), from: usize| {
        let losses = &watched.losses[from.min(watched.losses.len())..];
        prop_assert_eq!(&watch.losses, losses, "losses: {}", what);
        let later = watched
            .checkpoints
            .iter()
            .filter(|(step, _)| *step > from as u64);
        prop_assert!(watch.checkpoints.iter().eq(later), "checkpoints: {}", what);
        prop_assert!(given == expected, "weights or metrics: {}", what);
        Ok(())
    };
    same("run to run".to_owned(), job.run(&one, 1, None), 0)?;
    for level in Level::available() {
        let what = format!("2 threads, {level:?}");
        same(what, job.run(&cpu(2, level), 1, None), 0)?;
    }
    let two = cpu(2, Level::detect());
    for workers in [2, 4, 8] {
        same(
            format!("{workers} workers"),
            job.run(&two, workers, None),
            0,
        )?;
    }
    let from_file = job.on_disk();
    for workers in [1, 4] {
        let what = format!("{workers} workers, from a file");
        same(what, from_file.run(&two, workers, None), 0)?;
    }
    let checkpoints = watched.checkpoints.len();
    let picked = [0, checkpoints / 2, checkpoints.saturating_sub(1)];
    for (index, workers) in picked.into_iter().zip([1, 4, 2]) {
        if let Some((step, bytes)) = watched.checkpoints.get(index) {
            let what = format!("resumed after step {step} by {workers} workers");
            same(what, job.run(&two, workers, Some(bytes)), *step as usize)?;
            let what = format!("resumed after step {step} from a file");
            let resumed = from_file.run(&two, 1, Some(bytes));
            same(what, resumed, *step as usize)?;
        }
    }
    Ok(())
}

/// So many cases from a seed of our own, unless the environment says otherwise.
fn config(cases: u32) -> ProptestConfig {
    let given = ProptestConfig::default();
    let usual = given.cases == 256;
    let seeded = given.rng_seed != RngSeed::Random;
    ProptestConfig {
        cases: if usual { cases } else { given.cases },
        rng_seed: if seeded {
            given.rng_seed
        } else {
            RngSeed::Fixed(20_261_125)
        },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..given
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn random_jobs_give_the_same_bits(case in case()) {
        check(&case)?;
    }
}
