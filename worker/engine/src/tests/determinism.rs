//! Threads, instruction sets and the number of workers change no bit; the number of virtual
//! shards does, for it is part of the result's identity.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::{as_rows, cpu, input, numbers, plan, run, targets};
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::init::initial_weights;
use crate::{Session, Shard, Table, TargetRows};

const MODEL: &str = r#"{"family": "cnn", "input": [3, 12, 12], "channels": [16, 24], "dense": [96],
    "activation": "gelu", "dropout": 0.2}"#;
const WIDTH: usize = 3 * 144;

fn train(shards: usize) -> String {
    format!(
        r#"{{"epochs": 2, "batch_size": 64, "virtual_shards": {shards}, "loss": "cross_entropy",
            "optimizer": {{"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}}}}"#
    )
}

fn table(rows: usize) -> Arc<Table> {
    let targets = targets(rows, Target::Classes(7));
    Arc::new(Table::new(numbers(rows * WIDTH, 1), WIDTH, targets).unwrap())
}

#[test]
fn threads_and_levels_change_no_bit() {
    // 160 training rows: the last batch of an epoch has 32 rows, and shards without any.
    let table = table(200);
    for shards in [1, 8] {
        let plan = plan(MODEL, &train(shards), WIDTH, Target::Classes(7));
        assert!(
            shards > 1 || has_groups(&plan),
            "threads must have something to share"
        );
        let (expected, watched) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
        assert_eq!(watched.losses.len(), 6);
        for threads in 1..4 {
            for level in Level::available() {
                let (given, watch) = run(&cpu(threads, level), input(&plan, &table, None));
                assert_eq!(watch.losses, watched.losses, "{threads} threads, {level:?}");
                assert!(
                    given == expected,
                    "{threads} threads, {level:?}, {shards} shards"
                );
            }
        }
    }
}

fn has_groups(plan: &Plan) -> bool {
    let grouped = |kind: &str| {
        let mut kernels = plan.forward.iter().chain(&plan.backward);
        kernels.any(|kernel| kernel.groups > 1 && format!("{:?}", kernel.op).starts_with(kind))
    };
    grouped("Conv2d {") && grouped("Conv2dGradWeight") && grouped("ActivationBiasGrad")
}

/// Gradients of some shards of one batch, summed by one worker.
fn sum(plan: &Arc<Plan>, rows: usize, shards: std::ops::Range<usize>) -> Vec<u32> {
    let (features, targets) = (numbers(rows * WIDTH, 1), targets(rows, Target::Classes(7)));
    let TargetRows::Classes(classes) = as_rows(&targets) else {
        unreachable!()
    };
    let cpu = cpu(2, Level::detect());
    let mut session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    session.write(&initial_weights(plan), &[]);
    session.start_step();
    for shard in shards {
        let of = |all: usize| (shard * plan.rows).min(all)..((shard + 1) * plan.rows).min(all);
        let some = of(rows);
        session.train_shard(&Shard {
            features: &features[some.start * WIDTH..some.end * WIDTH],
            targets: TargetRows::Classes(&classes[some]),
            lengths: &[],
            first_row: (shard * plan.rows) as u32,
            step: 0,
        });
    }
    session.gradients().iter().map(|g| g.to_bits()).collect()
}

#[test]
fn workers_that_own_subtrees_sum_to_the_same_bits() {
    let plan = plan(MODEL, &train(8), WIDTH, Target::Classes(7));
    // Full, and with shards that are half full and empty.
    for rows in [64, 44] {
        let all = sum(&plan, rows, 0..8);
        let add = |left: Vec<u32>, right: Vec<u32>| -> Vec<u32> {
            let pairs = left.into_iter().zip(right);
            pairs
                .map(|(a, b)| (f32::from_bits(a) + f32::from_bits(b)).to_bits())
                .collect()
        };
        let halves = add(sum(&plan, rows, 0..4), sum(&plan, rows, 4..8));
        assert!(halves == all, "two workers, {rows} rows");
        let quarter = |first: usize| sum(&plan, rows, first..first + 2);
        let four = add(add(quarter(0), quarter(2)), add(quarter(4), quarter(6)));
        assert!(four == all, "four workers, {rows} rows");
        let in_line = (1..8).fold(sum(&plan, rows, 0..1), |left, shard| {
            add(left, sum(&plan, rows, shard..shard + 1))
        });
        assert!(
            in_line != all,
            "the order of the sum must be seen in these numbers"
        );
    }
}

#[test]
fn seeds_and_shards_are_part_of_the_result() {
    let table = table(100);
    let of = |train: &str| {
        let plan = plan(MODEL, train, WIDTH, Target::Classes(7));
        let (finished, _) = run(&cpu(2, Level::detect()), input(&plan, &table, None));
        (plan.hash(), finished.weights)
    };
    let one = of(&train(1));
    assert!(one == of(&train(1)), "run to run");
    let seeded = train(1).replace("\"epochs\"", "\"seed\": 1, \"epochs\"");
    for other in [of(&train(2)), of(&seeded)] {
        assert!(other.0 != one.0 && other.1 != one.1);
    }
}

#[test]
fn a_run_allocates_what_the_quote_says() {
    for shards in [1, 8] {
        let plan = plan(MODEL, &train(shards), WIDTH, Target::Classes(7));
        let cpu = cpu(1, Level::detect());
        let session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
        assert_eq!(session.allocated_bytes(), plan.quote().peak_bytes);
    }
}
