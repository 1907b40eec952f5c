//! Finished weights predict what the run measured; a scaled target is measured in its own unit.

use std::sync::Arc;

use stoker_domain::spec::{PreprocessSpec, SplitSpec};
use stoker_model::{Plan, Target};

use super::{SPLIT, cpu, finished, input, measure, numbers, plan, run};
use crate::cpu::simd::Level;
use crate::order::split;
use crate::{Predictor, Preprocess, Run, RunInput, Table, Targets};

const ROWS: usize = 83;
const WIDTH: usize = 5;
const MODEL: &str = r#"{"family": "mlp", "hidden": [9], "dropout": 0.2}"#;
const TRAIN: &str = r#"{"epochs": 12, "batch_size": 8, "virtual_shards": 2, "loss": "mse",
    "optimizer": {"name": "adamw", "learning_rate": 0.02}, "checkpoint": {"every_steps": 7}}"#;

/// Targets near 50,000 that follow from the features.
fn table() -> Arc<Table> {
    let features = numbers(ROWS * WIDTH, 1);
    let values = features.chunks(WIDTH).flat_map(|row| {
        let sum: f32 = row.iter().sum();
        [50_000.0 + 900.0 * sum, 7.0 * row[0]]
    });
    let targets = Targets::Values {
        values: values.collect(),
        width: 2,
    };
    Arc::new(Table::new(features.clone(), WIDTH, targets).unwrap())
}

fn steps(plan: &Plan) -> Vec<Preprocess> {
    let steps = [
        r#"{"builtin": "normalise"}"#,
        r#"{"builtin": "normalise", "config": {"of": "target"}}"#,
    ];
    let steps = steps.map(|text| serde_json::from_str::<PreprocessSpec>(text).unwrap());
    let steps = steps
        .iter()
        .map(|step| Preprocess::builtin(step, &plan.input));
    steps.map(|step| step.unwrap().unwrap()).collect()
}

fn scaled<'a>(plan: &Arc<Plan>, table: &Arc<Table>, resume: Option<&'a [u8]>) -> RunInput<'a> {
    RunInput {
        preprocess: steps(plan),
        metrics: vec![measure("mae", plan), measure("rmse", plan)],
        ..input(plan, table, resume)
    }
}

#[test]
fn predictions_are_what_was_measured() {
    let (table, cpu) = (table(), cpu(2, Level::detect()));
    let plan = plan(MODEL, TRAIN, WIDTH, Target::Values(2));
    let (trained, watch) = run(&cpu, scaled(&plan, &table, None));
    assert!(trained.metrics["test.mae"] < 500.0, "{:?}", trained.metrics);
    let Targets::Values { values, .. } = table.targets() else {
        panic!("values")
    };
    let test = split(&SPLIT, &table).unwrap().test;
    let rows: Vec<f32> = test
        .iter()
        .flat_map(|&row| table.row(row as usize))
        .copied()
        .collect();
    let mut model =
        Predictor::new(&cpu, Arc::clone(&plan), &trained.weights, steps(&plan)).unwrap();
    let predicted = model.predict(rows.clone()).unwrap();
    let errors = test.iter().zip(&predicted).flat_map(|(&row, predicted)| {
        let values = &values[2 * row as usize..][..2];
        let pairs = values.iter().zip(predicted);
        pairs.map(|(a, b)| f64::from((a - b).abs()))
    });
    let mae = errors.sum::<f64>() / (2 * test.len()) as f64;
    let expected = trained.metrics["test.mae"];
    assert!((mae / expected - 1.0).abs() < 1e-6, "{mae} {expected}");
    // One row alone gives the same as among others.
    let alone = model.predict(rows[..WIDTH].to_vec()).unwrap();
    assert_eq!(alone[0], predicted[0]);
    // What scales the target is in the checkpoint.
    let (step, bytes) = &watch.checkpoints[2];
    let mut again = Run::new(&cpu, scaled(&plan, &table, Some(bytes))).unwrap();
    let resumed = finished(again.run(&mut super::Watch::default()).unwrap());
    assert!(resumed == trained, "resumed after {step}");
}

#[test]
fn a_table_may_come_with_its_sides() {
    let held_out: Vec<bool> = (0..ROWS).map(|row| row % 4 == 1).collect();
    let whole = || Arc::into_inner(table()).unwrap();
    assert!(whole().with_held_out(vec![true]).is_err());
    let table = whole().with_held_out(held_out).unwrap();
    let sides = split(&SplitSpec::default(), &table).unwrap();
    assert!(sides.test.iter().all(|row| row % 4 == 1));
    assert_eq!(sides.test.len() + sides.train.len(), ROWS);
}

#[test]
fn weights_of_another_model_are_refused() {
    let (table, cpu) = (table(), cpu(1, Level::detect()));
    let small = plan(MODEL, TRAIN, WIDTH, Target::Values(2));
    let (trained, _) = run(&cpu, scaled(&small, &table, None));
    let other = plan(
        r#"{"family": "mlp", "hidden": [8]}"#,
        TRAIN,
        WIDTH,
        Target::Values(2),
    );
    let error = Predictor::new(&cpu, other, &trained.weights, Vec::new())
        .err()
        .unwrap();
    assert!(error.to_string().contains("another shape"), "{error}");
    let cut = &trained.weights[..trained.weights.len() - 9];
    assert!(Predictor::new(&cpu, small, cut, Vec::new()).is_err());
}
