//! A run that is interrupted and resumed equals one that isn't, to the bit.

use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_domain::spec::{Apply, PreprocessSpec, SplitSpec};
use stoker_model::{Plan, Target};

use super::{SPLIT, Watch, cpu, finished, measure, numbers, plan, run, targets};
use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};
use crate::{EngineError, Finished, Outcome, Preprocess, Run, RunInput, Table, Transform};

const MODEL: &str =
    r#"{"family": "mlp", "hidden": [19, 23], "activation": "silu", "dropout": 0.3}"#;
const TRAIN: &str = r#"{"epochs": 3, "batch_size": 12, "virtual_shards": 4, "loss": "mse", "seed": 6,
    "optimizer": {"name": "adamw", "learning_rate": 0.01},
    "schedule": {"name": "cosine", "warmup_steps": 3}, "checkpoint": {"every_steps": 1}}"#;
const WIDTH: usize = 5;

/// Adds noise that depends on the seed alone.
struct Noise;

impl Transform for Noise {
    fn apply(
        &mut self,
        features: &mut Vec<f32>,
        rows: &[u64],
        seed: u64,
    ) -> Result<(), EngineError> {
        assert_eq!(features.len(), rows.len() * WIDTH);
        let stream = Stream::new(seed, Purpose::Init, 0, 0);
        for (index, x) in features.iter_mut().enumerate() {
            *x += stream.below(index as u64, 1000) as f32 / 10_000.0;
        }
        Ok(())
    }
}

fn preprocess(plan: &Plan) -> Vec<Preprocess> {
    let spec: PreprocessSpec = serde_json::from_str(r#"{"builtin": "normalise"}"#).unwrap();
    vec![
        Preprocess::builtin(&spec, &plan.input).unwrap().unwrap(),
        Preprocess::custom(Apply::Train, Box::new(Noise)),
    ]
}

fn input<'a>(table: &Arc<Table>, train: &str, resume: Option<&'a [u8]>) -> RunInput<'a> {
    let plan = plan(MODEL, train, WIDTH, Target::Values(2));
    RunInput {
        preprocess: preprocess(&plan),
        table: table.clone(),
        split: &SPLIT,
        metrics: vec![measure("mae", &plan), measure("rmse", &plan)],
        plan,
        resume,
    }
}

fn table() -> Arc<Table> {
    let targets = targets(59, Target::Values(2));
    Arc::new(Table::new(numbers(59 * WIDTH, 1), WIDTH, targets).unwrap())
}

/// Runs, then goes on from each checkpoint.
fn check_every_step(train: &str) -> (Finished, Watch) {
    let (table, cpu) = (table(), cpu(2, Level::detect()));
    let (expected, watched) = run(&cpu, input(&table, train, None));
    for (step, bytes) in &watched.checkpoints {
        let (given, watch) = run(&cpu, input(&table, train, Some(bytes)));
        let (losses, rates) = (
            &watched.losses[*step as usize..],
            &watched.rates[*step as usize..],
        );
        assert_eq!(watch.losses, losses, "after step {step}");
        assert_eq!(watch.rates, rates, "after step {step}");
        assert!(given == expected, "after step {step}");
        let later = watched.checkpoints.iter().filter(|(s, _)| s > step);
        assert!(
            watch.checkpoints.iter().eq(later),
            "checkpoints after step {step}"
        );
    }
    (expected, watched)
}

#[test]
fn resumed_at_any_step() {
    let (expected, watched) = check_every_step(TRAIN);
    // 47 rows in batches of 12 are 4 steps an epoch; the last step needs no checkpoint.
    assert_eq!((expected.steps, watched.checkpoints.len()), (12, 11));
    assert_eq!(watched.evaluations.len(), 3);
    assert!(expected.metrics.contains_key("test.rmse"));
}

#[test]
fn what_goes_by_a_metric_is_resumed_too() {
    let train = r#"{"epochs": 40, "batch_size": 12, "virtual_shards": 2, "accumulate": 2, "seed": 6,
        "loss": {"name": "huber", "delta": 0.3}, "clip": {"norm": 0.5}, "ema": {"decay": 0.5},
        "monitor": {"metric": "test.rmse"}, "keep_best": true, "early_stop": {"patience": 3},
        "optimizer": {"name": "adamw", "learning_rate": 0.05}, "checkpoint": {"every_steps": 1},
        "schedule": {"name": "plateau", "patience": 2, "factor": 0.5, "warmup_steps": 2}}"#;
    let (finished, watched) = check_every_step(train);
    // 2 steps an epoch.
    assert!(
        (8..80).contains(&finished.steps),
        "{} steps",
        finished.steps
    );
    let rates = &watched.rates;
    assert!(
        rates.last().unwrap() < &rates[3],
        "the plateau was reached: {rates:?}"
    );
    let of = |step: u64| {
        let mut evaluations = watched.evaluations.iter();
        &evaluations.find(|(at, _)| *at == step).unwrap().1
    };
    let best = finished.metrics["best.step"] as u64;
    assert_eq!(
        finished.steps,
        best + 3 * 2,
        "three evaluations without improvement"
    );
    for (name, value) in of(best) {
        assert_eq!(finished.metrics[name], *value);
    }
}

#[test]
fn paused_and_resumed_at_the_very_end() {
    let (table, cpu) = (table(), cpu(1, Level::detect()));
    let (expected, _) = run(&cpu, input(&table, TRAIN, None));
    for pause_at in [5, 12] {
        let mut watch = Watch {
            pause_at: Some(pause_at),
            ..Watch::default()
        };
        let outcome = Run::new(&cpu, input(&table, TRAIN, None))
            .unwrap()
            .run(&mut watch)
            .unwrap();
        assert_eq!(outcome, Outcome::Paused { step: pause_at });
        let (step, bytes) = watch.checkpoints.last().unwrap();
        assert_eq!(*step, pause_at);
        let mut resumed = Run::new(&cpu, input(&table, TRAIN, Some(bytes))).unwrap();
        let given = finished(resumed.run(&mut Watch::default()).unwrap());
        assert!(given == expected, "paused at {pause_at}");
    }
}

#[test]
fn other_plans_and_other_data_are_refused() {
    let (table, cpu) = (table(), cpu(1, Level::detect()));
    let (_, watched) = run(&cpu, input(&table, TRAIN, None));
    let (_, bytes) = &watched.checkpoints[3];
    let refuse = |input: RunInput<'_>| match Run::new(&cpu, input) {
        Err(error) => error,
        Ok(_) => panic!("must be refused"),
    };
    let other_seed = TRAIN.replace("\"seed\": 6", "\"seed\": 7");
    let error = refuse(input(&table, &other_seed, Some(bytes)));
    assert!(error.kind == FailureKind::User && error.message.contains("plan"));
    let split = SplitSpec { seed: 4, ..SPLIT };
    let error = refuse(RunInput {
        split: &split,
        ..input(&table, TRAIN, Some(bytes))
    });
    assert!(error.kind == FailureKind::User && error.message.contains("split"));
    for cut in [0, 7, 100, bytes.len() - 1] {
        let error = refuse(input(&table, TRAIN, Some(&bytes[..cut])));
        assert_eq!(error.kind, FailureKind::Data, "cut to {cut} bytes");
    }
}

#[test]
fn weights_have_the_names_and_layouts_of_pytorch() {
    let model = r#"{"input": [3, 2, 5], "layers": [
        {"type": "conv2d", "channels": 2, "kernel": 1, "name": "stem"},
        {"type": "flatten"}, {"type": "linear", "units": 4, "bias": false}]}"#;
    let train = r#"{"steps": 1, "batch_size": 4, "loss": "cross_entropy"}"#;
    let plan = plan(model, train, 30, Target::Classes(4));
    let targets = targets(9, Target::Classes(4));
    let table = Arc::new(Table::new(numbers(270, 1), 30, targets).unwrap());
    let (given, _) = run(&cpu(1, Level::detect()), super::input(&plan, &table, None));
    let file = safetensors::SafeTensors::deserialize(&given.weights).unwrap();
    let mut shapes: Vec<_> = file
        .iter()
        .map(|(name, t)| (name.to_owned(), t.shape().to_vec()))
        .collect();
    shapes.sort();
    let expected = [
        ("layers.2.weight", vec![4, 20]),
        ("stem.bias", vec![2]),
        ("stem.weight", vec![2, 3, 1, 1]),
    ];
    assert!(
        shapes
            .iter()
            .map(|(n, s)| (n.as_str(), s.clone()))
            .eq(expected)
    );
    let (_, header) = safetensors::SafeTensors::read_metadata(&given.weights).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
}
