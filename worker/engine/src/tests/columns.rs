//! Columns of ids and numbers, products of pairs of vectors, and gradients of large embeddings.

use std::sync::Arc;

use stoker_domain::spec::TrainSpec;
use stoker_model::{InputColumn, InputDescription, Plan, Target, compile};

use super::gradients::check_plan;
use super::{as_rows, cpu, numbers, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::philox::{Purpose, Stream};
use crate::{Session, Shard};

/// The products of all pairs of vectors, DLRM's order.
pub(super) fn interact(
    inputs: &[(Vec<f64>, Vec<usize>)],
    columns: usize,
) -> (Vec<f64>, Vec<usize>) {
    let vectors: Vec<&[f64]> = (inputs.iter())
        .flat_map(|(x, _)| x.chunks_exact(columns))
        .collect();
    let pairs = (0..vectors.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let product = |(i, j): (usize, usize)| -> f64 {
        vectors[i].iter().zip(vectors[j]).map(|(a, b)| a * b).sum()
    };
    let products: Vec<f64> = pairs.map(product).collect();
    let shape = vec![products.len()];
    (products, shape)
}

/// Columns of a name, a width, and for ids a vocabulary.
pub(super) type Kinds<'a> = &'a [(&'a str, usize, Option<usize>)];

pub(super) fn describe(kinds: Kinds<'_>, target: Target) -> InputDescription {
    let mut first = 0;
    let place = |&(name, width, vocabulary): &(&str, usize, Option<usize>)| {
        first += width;
        InputColumn {
            name: name.to_owned(),
            first: first - width,
            width,
            vocabulary,
        }
    };
    let columns: Vec<InputColumn> = kinds.iter().map(place).collect();
    let vocabularies: Option<Vec<usize>> = kinds.iter().map(|kind| kind.2).collect();
    InputDescription {
        width: first,
        shape: vec![first],
        vocabulary: vocabularies.and_then(|all| all.into_iter().max()),
        columns,
        target,
    }
}

/// Rows of ids below their vocabulary, at most `different` of them, and of numbers.
pub(super) fn rows_of(kinds: Kinds<'_>, rows: usize, different: usize, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Init, 3, 0);
    let width: usize = kinds.iter().map(|(_, width, _)| width).sum();
    let mut features = Vec::with_capacity(rows * width);
    let mut index = 0;
    for _ in 0..rows {
        for &(_, width, vocabulary) in kinds {
            for _ in 0..width {
                index += 1;
                features.push(match vocabulary {
                    Some(vocabulary) => {
                        let step = (vocabulary / different).max(1) as u64;
                        let below = vocabulary.min(different) as u64;
                        (stream.below(index, below) * step) as f32
                    }
                    None => (stream.word64(index) as f64 / 2_f64.powi(63) - 1.0) as f32,
                });
            }
        }
    }
    features
}

pub(super) fn compiled(model: &str, train: &str, input: &InputDescription) -> Plan {
    let train: TrainSpec = serde_json::from_str(train).unwrap();
    let plan = compile(&serde_json::from_str(model).unwrap(), &train, input);
    plan.unwrap_or_else(|errors| panic!("{errors:?}: {model}"))
}

fn train(room: usize, loss: &str) -> String {
    format!(r#"{{"steps": 1, "batch_size": {room}, "loss": "{loss}", "seed": 5}}"#)
}

fn check(
    blocks: &str,
    kinds: Kinds<'_>,
    outputs: usize,
    [room, rows]: [usize; 2],
    different: usize,
) -> String {
    let model = format!(r#"{{"layers": [{blocks}]}}"#);
    let input = describe(kinds, Target::Values(outputs));
    let plan = compiled(&model, &train(room, "mse"), &input);
    assert!(plan.input.columns.is_empty(), "a plan holds no columns");
    check_plan(plan, &model, &rows_of(kinds, rows, different, 5), rows)
}

const PAIR: Kinds<'_> = &[
    ("item", 1, Some(150)),
    ("age", 1, None),
    ("user", 1, Some(1000)),
];

/// Few ids, so that each comes often; small and large tables.
#[test]
fn factors_and_biases_under_repeated_ids() {
    let blocks = r#"
        {"name": "u", "type": "select", "columns": ["user"], "inputs": ["input"]},
        {"name": "i", "type": "select", "columns": ["item"], "inputs": ["input"]},
        {"name": "user", "type": "embedding", "units": 5, "inputs": ["u"]},
        {"name": "item", "type": "embedding", "units": 5, "inputs": ["i"]},
        {"name": "b", "type": "embedding", "units": 1, "inputs": ["i"]},
        {"name": "flat", "type": "flatten"},
        {"name": "dot", "type": "dot", "inputs": ["user", "item"]},
        {"name": "sum", "type": "add", "inputs": ["dot", "flat"]},
        {"name": "bias", "type": "bias", "value": 0.5}"#;
    for (room, rows) in [(1, 1), (7, 5), (131, 129), (300, 300)] {
        check(blocks, PAIR, 1, [room, rows], 3);
    }
}

#[test]
fn numbers_selected_of_rows_and_of_layers() {
    let blocks = r#"
        {"name": "s", "type": "select", "columns": ["c", "a"]},
        {"name": "l", "type": "linear", "units": 7},
        {"name": "m", "type": "select", "first": 2, "count": 3, "inputs": ["l"]},
        {"name": "n", "type": "select", "count": 3, "inputs": ["l"]},
        {"name": "t", "type": "activation", "function": "tanh", "inputs": ["m"]},
        {"name": "p", "type": "add", "inputs": ["n", "t"]},
        {"type": "linear", "units": 2}"#;
    let kinds: Kinds<'_> = &[("a", 2, None), ("b", 3, None), ("c", 1, None)];
    for (room, rows) in [(1, 1), (5, 3), (67, 67)] {
        check(blocks, kinds, 2, [room, rows], 1);
    }
}

#[test]
fn dots_of_trained_and_given_vectors() {
    let blocks = r#"
        {"name": "a", "type": "linear", "units": 19},
        {"name": "b", "type": "linear", "units": 19, "inputs": ["input"]},
        {"name": "d", "type": "dot", "inputs": ["a", "b"]},
        {"name": "e", "type": "dot", "inputs": ["a", "input"]},
        {"name": "f", "type": "dot", "inputs": ["b", "b"]},
        {"type": "add", "inputs": ["d", "e", "f"]}"#;
    for (room, rows) in [(1, 1), (7, 5)] {
        check(blocks, &[("x", 19, None)], 1, [room, rows], 1);
    }
}

#[test]
fn pairs_of_few_and_many_vectors() {
    // One input of many vectors, and several of which one has more than one.
    for (length, units) in [(2, 1), (5, 3), (17, 16), (37, 19)] {
        let blocks = format!(
            r#"{{"type": "embedding", "units": {units}}}, {{"type": "interact"}},
               {{"type": "linear", "units": 1}}"#
        );
        check(&blocks, &[("ids", length, Some(40))], 1, [5, 3], 40);
    }
    let blocks = r#"
        {"name": "x", "type": "select", "columns": ["x"]},
        {"name": "l", "type": "linear", "units": 6},
        {"name": "a", "type": "select", "columns": ["a"], "inputs": ["input"]},
        {"name": "ea", "type": "embedding", "units": 6},
        {"name": "b", "type": "select", "columns": ["b"], "inputs": ["input"]},
        {"name": "eb", "type": "embedding", "units": 6},
        {"name": "i", "type": "interact", "inputs": ["l", "ea", "eb"]},
        {"name": "c", "type": "concat", "inputs": ["l", "i"]},
        {"type": "linear", "units": 2}"#;
    let kinds: Kinds<'_> = &[("a", 1, Some(9)), ("b", 3, Some(300)), ("x", 4, None)];
    for (room, rows) in [(1, 1), (11, 7), (67, 67)] {
        let kernels = check(blocks, kinds, 2, [room, rows], 9);
        assert!(kernels.contains("InteractGrad"), "{kernels}");
    }
}

#[test]
fn many_pairs_are_cut_into_groups() {
    let blocks = r#"{"type": "embedding", "units": 32}, {"type": "interact"},
        {"type": "linear", "units": 1}"#;
    let model = format!(r#"{{"layers": [{blocks}]}}"#);
    let kinds: Kinds<'_> = &[("ids", 27, Some(50))];
    let plan = compiled(
        &model,
        &train(131, "mse"),
        &describe(kinds, Target::Values(1)),
    );
    let groups = |kind: &str| {
        let mut kernels = plan.forward.iter().chain(&plan.backward);
        let kernel = kernels.find(|k| format!("{:?}", k.op).starts_with(kind));
        kernel.unwrap().groups
    };
    assert!(groups("Interact {") > 1 && groups("InteractGrad") > 1);
    assert!(plan.quote().flops_per_step > 3 * 131 * 27 * 26 * 32);
    check_plan(plan, &model, &rows_of(kinds, 127, 50, 5), 127);
}

/// The gradients of a step of `shards` shards over `features`, in a session that made others before.
fn gradients(session: &mut CpuSession, plan: &Plan, features: &[f32], shards: usize) -> Vec<u32> {
    let width = plan.input.width;
    let all = features.len() / width;
    let targets = targets(all, plan.input.target);
    let crate::TargetRows::Values(values) = as_rows(&targets) else {
        unreachable!()
    };
    session.start_step();
    for shard in 0..shards {
        let (first, end) = (shard * plan.rows, (shard + 1) * plan.rows);
        let some = first.min(all)..end.min(all);
        session.train_shard(&Shard {
            features: &features[some.start * width..some.end * width],
            targets: crate::TargetRows::Values(&values[some]),
            lengths: &[],
            first_row: first as u32,
            step: 0,
        });
    }
    assert!(session.gradients_are_finite());
    session.gradients().iter().map(|g| g.to_bits()).collect()
}

/// Rows that an earlier step or shard touched leave no trace, whatever is known of them; nor do
/// threads or levels.
#[test]
fn large_tables_start_every_step_from_zeros() {
    let model = r#"{"layers": [{"type": "embedding", "units": 7}, {"type": "linear", "units": 1},
        {"type": "flatten"}, {"type": "linear", "units": 1}]}"#;
    for vocabulary in [20, 5000] {
        let kinds: Kinds<'_> = &[("ids", 2, Some(vocabulary))];
        let input = describe(kinds, Target::Values(1));
        for shards in [1, 4, 8] {
            let train = format!(
                r#"{{"steps": 1, "batch_size": 64, "virtual_shards": {shards}, "loss": "mse"}}"#
            );
            let plan = Arc::new(compiled(model, &train, &input));
            let open = |threads: usize, level: Level| {
                let cpu = cpu(threads, level);
                let mut session = CpuSession::new(cpu.pool().clone(), level, plan.clone()).unwrap();
                session.write(&initial_weights(&plan), &[]);
                session
            };
            let mut used = open(2, Level::detect());
            for (seed, rows) in [(1, 64), (2, 40), (3, 3), (4, 64)] {
                let features = rows_of(kinds, rows, 19, seed);
                let expected = {
                    let mut fresh = open(1, Level::Scalar);
                    gradients(&mut fresh, &plan, &features, shards)
                };
                let given = gradients(&mut used, &plan, &features, shards);
                assert!(
                    given == expected,
                    "{vocabulary} ids, {shards} shards, {rows} rows"
                );
                if seed == 2 {
                    used.lose_gradients();
                }
            }
        }
    }
}

/// A row of a large table that isn't finite is found.
#[test]
fn bad_rows_of_large_tables_are_seen() {
    let model = r#"{"layers": [{"type": "embedding", "units": 3}, {"type": "flatten"},
        {"type": "linear", "units": 1}]}"#;
    let kinds: Kinds<'_> = &[("ids", 1, Some(900))];
    let input = describe(kinds, Target::Values(1));
    let plan = Arc::new(compiled(model, &train(8, "mse"), &input));
    let cpu = cpu(1, Level::detect());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    session.write(&initial_weights(&plan), &[]);
    let mut values = numbers(8, 2);
    values[5] = 1e30;
    session.start_step();
    session.train_shard(&Shard {
        features: &rows_of(kinds, 8, 400, 1),
        targets: crate::TargetRows::Values(&values),
        lengths: &[],
        first_row: 0,
        step: 0,
    });
    assert!(session.gradients_are_finite());
    values[5] = f32::INFINITY;
    session.start_step();
    session.train_shard(&Shard {
        features: &rows_of(kinds, 8, 400, 1),
        targets: crate::TargetRows::Values(&values),
        lengths: &[],
        first_row: 0,
        step: 0,
    });
    assert!(!session.gradients_are_finite());
}
