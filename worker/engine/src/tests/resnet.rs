//! Residual networks: bits, names, and what a checkpoint holds of running statistics.

use std::sync::Arc;

use stoker_model::Target;

use super::{Watch, cpu, input, numbers, plan, run, targets};
use crate::Table;
use crate::cpu::session::CpuSession;
use crate::cpu::simd::Level;
use crate::feed::Feed;

const RESNET: &str =
    r#"{"family": "resnet", "input": [2, 6, 5], "depths": [1, 1], "channels": [4, 6]}"#;

#[test]
fn bits_of_a_residual_network() {
    let model =
        r#"{"family": "resnet", "input": [3, 6, 6], "depths": [1, 1], "channels": [32, 33]}"#;
    let table = Table::new(numbers(55 * 108, 1), 108, targets(55, Target::Classes(5)));
    let table = Arc::new(table.unwrap());
    for shards in [1, 4] {
        // 44 training rows: a last batch with shards that are half full and empty.
        let train = format!(
            r#"{{"epochs": 2, "batch_size": 32, "virtual_shards": {shards}, "loss": "cross_entropy",
                "clip": {{"norm": 0.5}}, "ema": {{"decay": 0.9}}}}"#
        );
        let plan = plan(model, &train, 108, Target::Classes(5));
        assert!(format!("{:?}", plan.forward).contains("patches: 18 "));
        let (expected, watched) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
        for threads in 1..4 {
            for level in Level::available() {
                let (given, watch): (_, Watch) =
                    run(&cpu(threads, level), input(&plan, &table, None));
                assert_eq!(watch.losses, watched.losses, "{threads} threads, {level:?}");
                assert!(
                    given == expected,
                    "{threads} threads, {level:?}, {shards} shards"
                );
            }
        }
    }
}

#[test]
fn files_have_the_names_of_torchvision() {
    let train = r#"{"steps": 3, "batch_size": 7, "loss": "cross_entropy"}"#;
    let plan = plan(RESNET, train, 60, Target::Classes(3));
    let table = Table::new(numbers(20 * 60, 1), 60, targets(20, Target::Classes(3)));
    let table = Arc::new(table.unwrap());
    let (given, _) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
    let file = safetensors::SafeTensors::deserialize(&given.weights).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let mut expected = vec!["conv1.weight", "fc.weight", "fc.bias"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let mut normed = |conv: &str, norm: &str| {
        let kinds = [
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ];
        expected.extend(kinds.map(|kind| format!("{norm}.{kind}")));
        if !conv.is_empty() {
            expected.push(format!("{conv}.weight"));
        }
    };
    normed("", "bn1");
    for block in ["layer1.0", "layer2.0"] {
        for index in 1..3 {
            normed(
                &format!("{block}.conv{index}"),
                &format!("{block}.bn{index}"),
            );
        }
    }
    normed("layer2.0.downsample.0", "layer2.0.downsample.1");
    expected.sort_unstable();
    assert_eq!(names, expected);
    let counter = file.tensor("bn1.num_batches_tracked").unwrap();
    assert!(counter.shape().is_empty() && counter.dtype() == safetensors::Dtype::I64);
    assert_eq!(counter.data(), 3_i64.to_le_bytes());
    let mean = file.tensor("layer2.0.downsample.1.running_mean").unwrap();
    assert!(mean.shape() == [6] && mean.data().iter().any(|&byte| byte != 0));
    assert_eq!(
        file.tensor("layer2.0.conv1.weight").unwrap().shape(),
        [6, 4, 3, 3]
    );
}

#[test]
fn running_statistics_are_resumed_at_any_step() {
    let train = r#"{"epochs": 4, "batch_size": 10, "virtual_shards": 2, "loss": "cross_entropy",
        "ema": {"decay": 0.5}, "monitor": {"metric": "test.loss"}, "keep_best": true,
        "optimizer": {"name": "adamw", "learning_rate": 0.02}, "checkpoint": {"every_steps": 1}}"#;
    let plan = plan(RESNET, train, 60, Target::Classes(3));
    let table = Table::new(numbers(30 * 60, 1), 60, targets(30, Target::Classes(3)));
    let (table, cpu) = (Arc::new(table.unwrap()), cpu(2, Level::detect()));
    let (expected, watched) = run(&cpu, input(&plan, &table, None));
    assert!(expected.metrics.contains_key("best.step"));
    for (step, bytes) in &watched.checkpoints {
        let (given, watch) = run(&cpu, input(&plan, &table, Some(bytes)));
        assert_eq!(
            watch.losses,
            watched.losses[*step as usize..],
            "after step {step}"
        );
        assert!(given == expected, "after step {step}");
        let later = watched.checkpoints.iter().filter(|(s, _)| s > step);
        assert!(
            watch.checkpoints.iter().eq(later),
            "checkpoints after step {step}"
        );
    }
    let (_, last) = watched.checkpoints.last().unwrap();
    let file = safetensors::SafeTensors::deserialize(last).unwrap();
    for (name, there) in [
        ("bn1.running_var", true),
        ("best.bn1.running_var", true),
        ("optimizer.2.bn1.running_var", false),
        ("optimizer.2.bn1.weight", true),
    ] {
        assert_eq!(file.tensor(name).is_ok(), there, "{name}");
    }
    // The optimiser and the average hold nothing for them.
    let session = CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
    let (quote, shape) = (plan.quote(), (plan.rows, plan.shards));
    let feed = Feed::new(table, 0, shape, Vec::new(), (&[0], &[]), None, None).unwrap();
    let allocated = session.allocated_bytes() + feed.allocated_bytes();
    assert_eq!(
        allocated + 4 * plan.parameter_floats as u64,
        quote.peak_bytes
    );
    assert_eq!(quote.optimizer_bytes, 3 * 4 * plan.trained_floats() as u64);
    assert!(plan.trained_floats() < plan.parameter_floats);
}

#[test]
fn bottlenecks_and_large_stems_are_trained() {
    let model = r#"{"family": "resnet", "input": [3, 19, 23], "depths": [1, 2], "channels": [4, 5],
        "stem": "large", "block": "bottleneck"}"#;
    let train = r#"{"epochs": 30, "batch_size": 16, "loss": "cross_entropy",
        "optimizer": {"name": "adamw", "learning_rate": 0.01}}"#;
    let width = 3 * 19 * 23;
    let plan = plan(model, train, width, Target::Classes(3));
    let of = |name: &str| {
        &plan
            .parameters
            .iter()
            .find(|p| p.name == name)
            .unwrap()
            .shape
    };
    assert_eq!(*of("conv1.weight"), [4, 3, 7, 7]);
    assert_eq!(*of("layer1.0.downsample.0.weight"), [16, 4, 1, 1]);
    assert_eq!(*of("layer2.0.conv2.weight"), [5, 5, 3, 3]);
    assert_eq!(*of("layer2.1.conv3.weight"), [20, 5, 1, 1]);
    let table = Table::new(
        numbers(40 * width, 1),
        width,
        targets(40, Target::Classes(3)),
    );
    let table = Arc::new(table.unwrap());
    let (_, watch) = run(&cpu(2, Level::detect()), input(&plan, &table, None));
    let loss = |bits: &u64| f64::from_bits(*bits);
    let (first, last) = (loss(&watch.losses[0]), loss(watch.losses.last().unwrap()));
    assert!(last < 0.5 * first, "{first} to {last}");
}
