//! Numbers that stop being finite stop a run before they reach the weights.

use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_model::Target;

use super::{SPLIT, Watch, cpu, input, numbers, plan, targets};
use crate::cpu::simd::Level;
use crate::order::split;
use crate::tensors::read_checkpoint;
use crate::{EngineError, Run, Table, Targets};

const TRAIN: &str = r#"{"epochs": 50, "batch_size": 16, "virtual_shards": 2, "loss": "mse",
    "optimizer": {"name": "sgd", "learning_rate": 1.0}, "checkpoint": {"every_steps": 1}}"#;

fn fail(train: &str, table: Table) -> (EngineError, Watch, Run) {
    let model = r#"{"family": "mlp", "hidden": [8], "activation": "relu"}"#;
    let plan = plan(model, train, 3, Target::Values(2));
    let mut run = Run::new(
        &cpu(2, Level::detect()),
        input(&plan, &Arc::new(table), None),
    )
    .unwrap();
    let mut watch = Watch::default();
    let error = run.run(&mut watch).unwrap_err();
    (error, watch, run)
}

fn table(features: Vec<f32>) -> Table {
    Table::new(features, 3, targets(40, Target::Values(2))).unwrap()
}

#[test]
fn divergence_is_told_with_step_and_layer_and_leaves_the_weights() {
    let features = numbers(120, 1).into_iter().map(|x| x * 1e6).collect();
    let (error, watch, run) = fail(TRAIN, table(features));
    assert_eq!(error.kind, FailureKind::Numeric);
    let made = watch.losses.len() as u64;
    assert_eq!(error.step, Some(made + 1), "{error:?}");
    let layer = error.layer.as_deref().unwrap();
    assert!(layer.starts_with("layers.") || layer == "loss", "{layer}");
    assert!((1..=16).contains(&error.samples.len()) && error.samples.iter().all(|&row| row < 40));
    // What is left is the state after the last good step.
    let (step, bytes) = watch.checkpoints.last().unwrap();
    assert_eq!(*step, made);
    assert!(run.checkpoint() == *bytes);
}

/// The first row of each side: trained on, held out.
fn sides() -> [u64; 2] {
    let split = split(&SPLIT, &table(vec![0.0; 120])).unwrap();
    [split.train[0], split.test[0]]
}

#[test]
fn a_bad_feature_names_its_row() {
    let [train, test] = sides();
    for row in [train, test] {
        let mut features = numbers(120, 1);
        features[row as usize * 3 + 1] = f32::NAN;
        let (error, watch, _) = fail(TRAIN, table(features));
        assert_eq!(error.kind, FailureKind::Data, "{error:?}");
        assert_eq!(error.samples, [row]);
        assert_eq!(error.layer.as_deref(), Some("input"));
        let made = watch.losses.len() as u64;
        assert_eq!(error.step, Some(made + u64::from(row == train)));
    }
}

#[test]
fn a_bad_target_is_found_in_the_loss() {
    let mut values = numbers(80, 9);
    let [row, _] = sides();
    values[row as usize * 2] = f32::INFINITY;
    let targets = Targets::Values { values, width: 2 };
    let (error, _, _) = fail(TRAIN, Table::new(numbers(120, 1), 3, targets).unwrap());
    assert_eq!(error.kind, FailureKind::Numeric);
    assert_eq!(
        (error.layer.as_deref(), error.samples.as_slice()),
        (Some("loss"), &[row][..])
    );
}

#[test]
fn weights_that_the_last_update_broke_are_not_given_out() {
    let train = r#"{"steps": 1, "batch_size": 40, "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": 3e38}}"#;
    let features = numbers(120, 1).into_iter().map(|x| x * 1e3).collect();
    let (error, watch, run) = fail(train, table(features));
    assert_eq!((error.kind, error.step), (FailureKind::Numeric, Some(1)));
    assert_eq!(watch.losses.len(), 1);
    let state = read_checkpoint(
        &super::plan(
            r#"{"family": "mlp", "hidden": [8], "activation": "relu"}"#,
            train,
            3,
            Target::Values(2),
        ),
        &run.checkpoint(),
    )
    .unwrap();
    assert!(
        state.weights.iter().any(|w| !w.is_finite()),
        "the test must break the weights"
    );
}
