//! Recurrent layers: their definitions in double precision after PyTorch's, their gradients, and
//! their bits.

use std::sync::Arc;

use stoker_domain::spec::TrainSpec;
use stoker_model::{InputDescription, Plan, Target, compile};

use super::gradients::{check_plan, layers};
use super::reference::linear;
use super::{cpu, input, numbers, run, targets};
use crate::Table;
use crate::cpu::simd::Level;

/// W of the inputs, W of the states, and their biases, as PyTorch lists them.
type Weights<'a> = [&'a [f64]; 4];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What the inputs and the states give to the gates at each position, by `step`, which takes both
/// and the state and returns the new one.
fn recur(
    x: &[f64],
    [input, hidden, input_bias, hidden_bias]: Weights<'_>,
    units: usize,
    mut step: impl FnMut(&[f64], &[f64], &[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let gates = input_bias.len();
    let (mut state, mut out) = (vec![0.0; units], Vec::new());
    for x in x.chunks_exact(input.len() / gates) {
        let by_input = linear(x, input, Some(input_bias), gates);
        let by_state = linear(&state, hidden, Some(hidden_bias), gates);
        state = step(&by_input, &by_state, &state);
        out.extend_from_slice(&state);
    }
    out
}

/// PyTorch's `LSTM`, one layer of it.
pub(super) fn lstm(x: &[f64], weights: Weights<'_>, units: usize) -> Vec<f64> {
    let mut cells = vec![0.0; units];
    recur(x, weights, units, |a, b, _| {
        let gate = |gate: usize, unit: usize| a[gate * units + unit] + b[gate * units + unit];
        let state = |unit: usize| {
            let (input, forget) = (sigmoid(gate(0, unit)), sigmoid(gate(1, unit)));
            cells[unit] = forget * cells[unit] + input * gate(2, unit).tanh();
            sigmoid(gate(3, unit)) * cells[unit].tanh()
        };
        (0..units).map(state).collect()
    })
}

/// PyTorch's `GRU`, one layer of it.
pub(super) fn gru(x: &[f64], weights: Weights<'_>, units: usize) -> Vec<f64> {
    recur(x, weights, units, |a, b, before| {
        let gate =
            |gate: usize, unit: usize| sigmoid(a[gate * units + unit] + b[gate * units + unit]);
        let state = |unit: usize| {
            let new = (a[2 * units + unit] + gate(0, unit) * b[2 * units + unit]).tanh();
            let update = gate(1, unit);
            (1.0 - update) * new + update * before[unit]
        };
        (0..units).map(state).collect()
    })
}

fn plan(model: &str, train: &str, shape: [usize; 2], target: Target) -> Plan {
    let train: TrainSpec = serde_json::from_str(train).unwrap();
    let input = InputDescription {
        width: shape[0] * shape[1],
        shape: shape.to_vec(),
        vocabulary: None,
        target,
    };
    compile(&serde_json::from_str(model).unwrap(), &train, &input).unwrap()
}

fn check(model: &str, shape: [usize; 2], target: Target, [room, rows]: [usize; 2]) -> Plan {
    let train =
        format!(r#"{{"steps": 1, "batch_size": {room}, "loss": "cross_entropy", "seed": 5}}"#);
    let plan = plan(model, &train, shape, target);
    check_plan(
        plan.clone(),
        model,
        &numbers(rows * shape[0] * shape[1], 1),
        rows,
    );
    plan
}

#[test]
fn recurrent_layers_of_odd_sizes() {
    for cell in ["lstm", "gru"] {
        for ([length, inputs, units], [room, rows]) in [
            ([1, 1, 1], [1, 1]),
            ([5, 3, 7], [3, 2]),
            ([7, 2, 16], [5, 5]),
            ([3, 5, 33], [1, 1]),
            ([4, 4, 53], [7, 6]),
        ] {
            let classes = 3;
            let last = format!(
                r#"{{"type": "{cell}", "units": {units}}}, {{"type": "last_position"}},
                   {{"type": "linear", "units": {classes}}}"#
            );
            let model = layers(&format!("[{length}, {inputs}]"), &last);
            check(
                &model,
                [length, inputs],
                Target::Classes(classes),
                [room, rows],
            );
            // Two layers, and a class at each position.
            let each = format!(
                r#"{{"type": "{cell}", "units": {units}, "layers": 2, "dropout": 0.3}},
                   {{"type": "linear", "units": {classes}}}"#
            );
            let model = layers(&format!("[{length}, {inputs}]"), &each);
            let target = match length {
                1 => continue,
                positions => Target::Sequence { classes, positions },
            };
            check(&model, [length, inputs], target, [room, rows]);
        }
    }
}

/// More than one block of terms, and states that others read too.
#[test]
fn wide_states_with_other_readers() {
    for cell in ["lstm", "gru"] {
        let blocks = format!(
            r#"{{"name": "a", "type": "{cell}", "units": 180}}, {{"name": "b", "type": "linear", "units": 180}},
               {{"name": "c", "type": "{cell}", "units": 180}},
               {{"type": "add", "inputs": ["a", "b", "c"]}}, {{"type": "linear", "units": 3}}"#
        );
        let (classes, positions) = (3, 4);
        let target = Target::Sequence { classes, positions };
        check(&layers("[4, 2]", &blocks), [4, 2], target, [3, 3]);
    }
}

#[test]
fn groups_of_rows() {
    for cell in ["lstm", "gru"] {
        let blocks = format!(
            r#"{{"type": "{cell}", "units": 40}}, {{"type": "last_position"}}, {{"type": "linear", "units": 3}}"#
        );
        let model = layers("[11, 5]", &blocks);
        // The last group is cut short, and the last rows are padding.
        let plan = check(&model, [11, 5], Target::Classes(3), [67, 61]);
        let grouped = |kind: &str| {
            let mut kernels = plan.forward.iter().chain(&plan.backward);
            kernels.any(|k| k.groups > 1 && format!("{:?}", k.op).starts_with(kind))
        };
        assert!(grouped("Recurrence {") && grouped("RecurrenceGrad"));
    }
}

#[test]
fn no_bit_depends_on_threads_or_instructions() {
    for cell in ["lstm", "gru"] {
        let blocks = format!(
            r#"{{"type": "{cell}", "units": 41, "layers": 2}}, {{"type": "last_position"}},
               {{"type": "linear", "units": 5}}"#
        );
        let train = r#"{"epochs": 2, "batch_size": 64, "virtual_shards": 2, "loss": "cross_entropy",
            "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#;
        let plan = plan(
            &layers("[9, 3]", &blocks),
            train,
            [9, 3],
            Target::Classes(5),
        );
        let table = Table::new(numbers(150 * 27, 1), 27, targets(150, Target::Classes(5)));
        let (plan, table) = (Arc::new(plan), Arc::new(table.unwrap()));
        let (expected, _) = run(&cpu(1, Level::Scalar), input(&plan, &table, None));
        for threads in 1..4 {
            for level in Level::available() {
                let (other, _) = run(&cpu(threads, level), input(&plan, &table, None));
                assert_eq!(
                    other.weights, expected.weights,
                    "{threads} threads, {level:?}"
                );
            }
        }
    }
}
