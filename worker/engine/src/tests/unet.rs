//! Networks that predict at each position of an image.

use std::sync::Arc;

use stoker_model::{Plan, Target};

use super::gradients::{check, check_plan, layers};
use super::{cpu, input, measure, numbers, plan, run, targets};
use crate::cpu::simd::Level;
use crate::{Table, Targets};

/// Two levels with a connection between them, for images of 2 channels; gives 3 at each position.
const SMALL: &str = r#"{"type": "conv2d", "channels": 5, "kernel": 3, "padding": 1},
    {"type": "activation", "function": "silu", "name": "skip"},
    {"type": "max_pool2d", "kernel": 2},
    {"type": "conv2d", "channels": 7, "kernel": 3, "padding": 1},
    {"type": "activation", "function": "tanh"},
    {"type": "conv_transpose2d", "channels": 5, "kernel": 2, "stride": 2, "name": "up"},
    {"type": "concat", "inputs": ["skip", "up"]},
    {"type": "conv2d", "channels": 3, "kernel": 3, "padding": 1}"#;

#[test]
fn a_class_or_numbers_at_each_pixel() {
    let model = layers("[2, 6, 10]", SMALL);
    let pixels = Target::Sequence {
        classes: 3,
        positions: 60,
    };
    for (room, rows) in [(1, 1), (5, 3)] {
        let kernels = check(&model, 120, pixels, room, rows);
        assert!(!kernels.contains("ToChannelsFirst"), "{kernels}");
        // Numbers come in PyTorch's order.
        let kernels = check(&model, 120, Target::Values(180), room, rows);
        assert!(kernels.contains("ToChannelsFirst"), "{kernels}");
        let train = format!(
            r#"{{"steps": 1, "batch_size": {room}, "loss": {{"name": "dice", "smooth": 0.5}}}}"#
        );
        let plan = Arc::unwrap_or_clone(plan(&model, &train, 120, pixels));
        check_plan(plan, &model, &numbers(rows * 120, 1), rows);
    }
}

const UNET: &str = r#"{"family": "unet", "input": [1, 16, 16], "depth": 2, "channels": 8}"#;
const PIXELS: Target = Target::Sequence {
    classes: 3,
    positions: 256,
};

fn unet(batch: usize, shards: usize, loss: &str, epochs: usize) -> Arc<Plan> {
    let train = format!(
        r#"{{"epochs": {epochs}, "batch_size": {batch}, "virtual_shards": {shards}, "loss": "{loss}",
            "optimizer": {{"name": "adamw", "learning_rate": 0.01}}}}"#
    );
    plan(UNET, &train, 256, PIXELS)
}

#[test]
fn a_unet_has_the_same_bits_on_all_threads_and_levels() {
    for (loss, shards) in [("cross_entropy", 1), ("dice", 4)] {
        let plan = unet(16, shards, loss, 1);
        assert!(plan.forward.iter().any(|kernel| kernel.groups > 1) || shards > 1);
        // 28 training rows: the second batch is padded.
        let targets = targets(35, PIXELS);
        let table = Arc::new(Table::new(numbers(35 * 256, 1), 256, targets).unwrap());
        let (expected, watched) = run(&cpu(1, Level::detect()), input(&plan, &table, None));
        for threads in 1..4 {
            for level in Level::available() {
                let (given, watch) = run(&cpu(threads, level), input(&plan, &table, None));
                let what = format!("{loss}, {shards} shards, {threads} threads, {level:?}");
                assert_eq!(watch.losses, watched.losses, "{what}");
                assert!(given == expected, "{what}");
            }
        }
    }
}

/// Images with a bright and a dark rectangle in noise; classes 1 and 2 are their insides.
fn rectangles(rows: usize) -> Table {
    let mut features: Vec<f32> = numbers(rows * 256, 1).iter().map(|n| 0.5 * n).collect();
    let mut classes = vec![0_u32; rows * 256];
    let at = numbers(rows * 4, 2);
    for row in 0..rows {
        for (class, by) in [(1, 1.0_f32), (2, -1.0)] {
            let corner = |index: usize| ((at[row * 4 + index] + 1.0) * 4.5) as usize;
            let first = (class - 1) * 2;
            let (top, left) = (corner(first), corner(first + 1));
            for pixel in (0..49).map(|n| (top + n / 7) * 16 + left + n % 7) {
                features[row * 256 + pixel] += by;
                classes[row * 256 + pixel] = class as u32;
            }
        }
    }
    Table::new(features, 256, Targets::Classes(classes)).unwrap()
}

#[test]
fn a_unet_learns_to_find_shapes() {
    let table = Arc::new(rectangles(80));
    for loss in ["cross_entropy", "dice"] {
        let plan = unet(8, 1, loss, 12);
        let mut input = input(&plan, &table, None);
        input.metrics = vec![measure("accuracy", &plan)];
        let (finished, _) = run(&cpu(2, Level::detect()), input);
        let accuracy = finished.metrics["test.accuracy"];
        assert!(accuracy > 0.9, "{loss}: {accuracy}");
    }
}
