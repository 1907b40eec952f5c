//! Recommenders: their names, that they learn, and that no bit depends on threads or instructions.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::columns::{Kinds, compiled, describe, rows_of};
use super::{Watch, cpu, finished, input, run};
use crate::cpu::simd::Level;
use crate::{Run, Table, Targets};

/// Users and items of large tables of which few come up, what is known of them, and numbers.
const COLUMNS: Kinds<'_> = &[
    ("user", 1, Some(400)),
    ("age", 1, None),
    ("item", 1, Some(900)),
    ("genre", 2, Some(7)),
    ("price", 2, None),
];

fn names(plan: &Plan) -> Vec<&str> {
    plan.parameters.iter().map(|p| p.name.as_str()).collect()
}

fn plan(model: &str, train: &str) -> Plan {
    let model = format!(r#"{{"family": "recommender", {model}}}"#);
    compiled(&model, train, &describe(COLUMNS, Target::Values(1)))
}

const FACTORS: &str =
    r#""kind": "matrix_factorisation", "user": "user", "item": "item", "dim": 6, "mean": 0.5"#;
const TOWERS: &str = r#""kind": "two_tower", "user": "user", "item": "item", "dim": 6, "hidden": [9],
    "activation": "tanh", "categorical": ["genre"], "numeric": ["price", "age"], "item_columns": ["genre", "price"],
    "dropout": 0.05"#;
const DLRM: &str = r#""kind": "dlrm", "user": "user", "item": "item", "dim": 6, "hidden": [11, 7],
    "bottom": [5], "categorical": ["genre"], "numeric": ["age", "price"], "activation": "silu""#;

#[test]
fn parameters_are_named_as_the_family_says() {
    let train = r#"{"steps": 1, "batch_size": 4, "loss": "mse"}"#;
    let factors = plan(FACTORS, train);
    let expected = [
        "user.weight",
        "user_bias.weight",
        "item.weight",
        "item_bias.weight",
        "bias",
    ];
    assert_eq!(names(&factors), expected);
    assert_eq!(factors.parameters[0].shape, [400, 6]);
    assert_eq!(factors.parameters[3].shape, [900, 1]);
    let towers = plan(TOWERS, train);
    let expected = [
        "user.embedding.weight",
        "user.layers.0.weight",
        "user.layers.0.bias",
        "user.layers.1.weight",
        "user.layers.1.bias",
        "item.embedding.weight",
        "item.embeddings.0.weight",
        "item.layers.0.weight",
        "item.layers.0.bias",
        "item.layers.1.weight",
        "item.layers.1.bias",
    ];
    assert_eq!(names(&towers), expected);
    // An id's numbers, those of two genres, and two prices.
    assert_eq!(towers.parameters[7].shape, [9, 6 + 2 * 6 + 2]);
    assert_eq!(towers.parameters[6].shape, [7, 6]);
    let dlrm = plan(DLRM, train);
    let expected = [
        "bottom.0.weight",
        "bottom.0.bias",
        "bottom.1.weight",
        "bottom.1.bias",
        "embeddings.0.weight",
        "embeddings.1.weight",
        "embeddings.2.weight",
        "top.0.weight",
        "top.0.bias",
        "top.1.weight",
        "top.1.bias",
        "top.2.weight",
        "top.2.bias",
    ];
    assert_eq!(names(&dlrm), expected);
    // The bottom's numbers and the ten pairs of five vectors.
    assert_eq!(dlrm.parameters[7].shape, [11, 6 + 10]);
}

/// Ratings that follow from hidden factors of users and items, as (0 or 1) or numbers.
fn table(rows: usize, clicks: bool) -> Arc<Table> {
    let features = rows_of(COLUMNS, rows, 20, 6);
    let width = 7;
    let rating = |row: &[f32]| {
        let (user, item) = (row[0] / 20.0, row[2] / 45.0);
        let value = (user * 0.7).sin() * (item * 0.9).cos() + 0.3 * (user - item).sin() + 0.5;
        if clicks {
            f32::from(value > 0.5)
        } else {
            value
        }
    };
    let values: Vec<f32> = features.chunks_exact(width).map(rating).collect();
    let targets = Targets::Values { values, width: 1 };
    Arc::new(Table::new(features, width, targets).unwrap())
}

#[test]
fn every_kind_learns_and_no_bit_depends_on_threads_or_instructions() {
    for (model, loss, limit) in [
        (FACTORS, "mse", 0.02),
        (&TOWERS.replace("[9]", "[40]"), "bce", 0.5),
        (DLRM, "bce", 0.5),
    ] {
        let train = format!(
            r#"{{"epochs": 30, "batch_size": 64, "virtual_shards": 2, "loss": "{loss}",
                "optimizer": {{"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.001}}}}"#
        );
        let (plan, table) = (Arc::new(plan(model, &train)), table(1500, loss == "bce"));
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

/// What a rank touched of a large table isn't all that the ranks' sum touches.
#[test]
fn the_number_of_workers_changes_no_bit_of_large_tables() {
    let train = r#"{"epochs": 3, "batch_size": 16, "virtual_shards": 8, "loss": "mse",
        "clip": {"norm": 0.5}, "optimizer": {"name": "adamw", "learning_rate": 0.02}}"#;
    let (plan, table) = (Arc::new(plan(FACTORS, train)), table(150, false));
    let cpu = cpu(2, Level::detect());
    let (expected, watched) = run(&cpu, input(&plan, &table, None));
    for workers in [2, 4, 8] {
        let mut watch = Watch::default();
        let mut run = Run::with_workers(&cpu, input(&plan, &table, None), workers).unwrap();
        let given = finished(run.run(&mut watch).unwrap());
        assert_eq!(watch.losses, watched.losses, "{workers} workers");
        assert!(given == expected, "{workers} workers");
    }
}
