//! Blocks that join and enlarge images and sequences: their definitions in double precision, after
//! PyTorch's, and their gradients; and the networks that predict at each position of an image.

use std::sync::Arc;

use stoker_domain::spec::{Block, Measure, Upsampling};
use stoker_model::{Plan, Target};

use super::gradients::{check, check_plan, layers};
use super::images::transpose;
use super::{cpu, input, numbers, plan, run, targets};
use crate::cpu::simd::Level;
use crate::metric::MetricSource;
use crate::{Table, Targets};

type Array = (Vec<f64>, Vec<usize>);

/// Images along their channels, sequences along the numbers of a position, flat ones whole.
pub(super) fn concat(inputs: &[Array]) -> Array {
    let (_, shape) = &inputs[0];
    let mut shape = shape.clone();
    let along = if shape.len() == 2 { 1 } else { 0 };
    shape[along] = inputs.iter().map(|(_, shape)| shape[along]).sum();
    if along == 0 {
        let all = inputs.iter().flat_map(|(x, _)| x.iter().copied());
        return (all.collect(), shape);
    }
    let row = |at: usize| {
        let each = inputs.iter();
        each.flat_map(move |(x, shape)| x[at * shape[1]..][..shape[1]].iter().copied())
    };
    ((0..shape[0]).flat_map(row).collect(), shape)
}

/// Each number of the input spreads the kernel over the output.
pub(super) fn conv_transpose(
    x: &[f64],
    shape: &[usize],
    weight: &[f64],
    bias: Option<&[f64]>,
    block: &Block,
) -> Array {
    let (sizes, line) = match *block {
        Block::ConvTranspose1d {
            channels,
            kernel,
            stride,
            padding,
            output_padding,
            ..
        } => ([channels, kernel, stride, padding, output_padding], true),
        Block::ConvTranspose2d {
            channels,
            kernel,
            stride,
            padding,
            output_padding,
            ..
        } => ([channels, kernel, stride, padding, output_padding], false),
        ref other => panic!("{other:?} is no transposed convolution"),
    };
    let [channels, kernel, stride, padding, more] = sizes.map(|n| n as usize);
    let x = if line {
        transpose(x, shape[1])
    } else {
        x.to_vec()
    };
    let [inputs, height, width] = match *shape {
        [length, features] => [features, length, 1],
        [channels, height, width] => [channels, height, width],
        _ => panic!("{shape:?}"),
    };
    let (kernel_x, stride_x, padding_x, more_x) = match line {
        true => (1, 1, 0, 0),
        false => (kernel, stride, padding, more),
    };
    let rows = (height - 1) * stride + kernel + more - 2 * padding;
    let columns = (width - 1) * stride_x + kernel_x + more_x - 2 * padding_x;
    let mut y = vec![0.0; channels * rows * columns];
    for (index, x) in x.iter().enumerate() {
        let (i, iy, ix) = (
            index / width / height,
            index / width % height,
            index % width,
        );
        for tap in 0..channels * kernel * kernel_x {
            let (o, ky, kx) = (
                tap / kernel_x / kernel,
                tap / kernel_x % kernel,
                tap % kernel_x,
            );
            let (oy, ox) = (iy * stride + ky, ix * stride_x + kx);
            if (padding..rows + padding).contains(&oy)
                && (padding_x..columns + padding_x).contains(&ox)
            {
                let at = (o * rows + oy - padding) * columns + ox - padding_x;
                y[at] += x * weight[i * channels * kernel * kernel_x + tap];
            }
        }
    }
    for (o, y) in y.chunks_exact_mut(rows * columns).enumerate() {
        y.iter_mut()
            .for_each(|y| *y += bias.map_or(0.0, |bias| bias[o]));
    }
    assert_eq!(weight.len(), inputs * channels * kernel * kernel_x);
    match line {
        true => (transpose(&y, rows), vec![rows, channels]),
        false => (y, vec![channels, rows, columns]),
    }
}

/// PyTorch's `Upsample` with `align_corners = False`.
pub(super) fn upsample(x: &[f64], shape: &[usize], factor: usize, mode: Upsampling) -> Array {
    if let &[length, features] = shape {
        let x = transpose(x, features);
        let each = x.chunks_exact(length).flat_map(|x| {
            let at = move |out| between(out, factor, length);
            (0..length * factor).map(move |out| mix(mode, at(out), |index| x[index]))
        });
        let y: Vec<f64> = each.collect();
        return (
            transpose(&y, length * factor),
            vec![length * factor, features],
        );
    }
    let &[channels, height, width] = shape else {
        panic!("{shape:?}")
    };
    let mut y = Vec::new();
    for c in 0..channels {
        for oy in 0..height * factor {
            for ox in 0..width * factor {
                let row = |iy: usize| {
                    let at = between(ox, factor, width);
                    mix(mode, at, |ix| x[(c * height + iy) * width + ix])
                };
                y.push(mix(mode, between(oy, factor, height), row));
            }
        }
    }
    (y, vec![channels, height * factor, width * factor])
}

/// The source of an output along a side of `size`: where it is nearest, and where it is between.
fn between(out: usize, factor: usize, size: usize) -> (usize, f64, usize) {
    let source = ((out as f64 + 0.5) / factor as f64 - 0.5).max(0.0);
    (out / factor, source, size)
}

fn mix(
    mode: Upsampling,
    (near, source, size): (usize, f64, usize),
    x: impl Fn(usize) -> f64,
) -> f64 {
    if mode == Upsampling::Nearest {
        return x(near);
    }
    let first = source.floor() as usize;
    let share = source - first as f64;
    (1.0 - share) * x(first) + share * x((first + 1).min(size - 1))
}

/// The maximum over all positions.
pub(super) fn maximum(x: &[f64], shape: &[usize]) -> Array {
    let (x, columns) = match *shape {
        [channels, _, _] => (x.to_vec(), channels),
        [_, features] => (transpose(x, features), features),
        _ => panic!("a maximum takes images or sequences"),
    };
    let each = x.chunks_exact(x.len() / columns);
    let largest = each.map(|x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    (largest.collect(), vec![columns])
}

#[test]
fn images_and_sequences_side_by_side() {
    let image = r#"{"type": "conv2d", "channels": 5, "kernel": 3, "padding": 1, "name": "a"},
        {"type": "activation", "function": "tanh", "name": "b"},
        {"type": "conv2d", "channels": 17, "kernel": 1, "inputs": ["input"], "name": "c"},
        {"type": "concat", "inputs": ["c", "input", "b", "a"]},
        {"type": "activation", "function": "silu"}, {"type": "flatten"},
        {"type": "linear", "units": 3}"#;
    let sequence = r#"{"type": "linear", "units": 7, "name": "a"},
        {"type": "conv1d", "channels": 33, "kernel": 3, "padding": 1, "name": "b"},
        {"type": "concat", "inputs": ["a", "b"]},
        {"type": "linear", "units": 5}, {"type": "global_avg_pool"},
        {"type": "linear", "units": 3}"#;
    for (shape, width, blocks) in [("[2, 5, 7]", 70, image), ("[11, 3]", 33, sequence)] {
        for (room, rows) in [(1, 1), (7, 5)] {
            let kernels = check(
                &layers(shape, blocks),
                width,
                Target::Classes(3),
                room,
                rows,
            );
            assert!(
                kernels.contains("Join") && kernels.contains("Cut"),
                "{kernels}"
            );
        }
    }
}

#[test]
fn flat_inputs_side_by_side_keep_pytorchs_order() {
    // Flattened images of as many positions, of others, and plain features.
    for (first, second, permuted) in [(3, 3, false), (3, 2, true)] {
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 5, "kernel": {first}, "name": "a"}},
               {{"type": "flatten", "name": "flat_a"}},
               {{"type": "conv2d", "channels": 3, "kernel": {second}, "inputs": ["input"]}},
               {{"type": "flatten", "name": "flat_b"}},
               {{"type": "concat", "inputs": ["flat_b", "flat_a"]}},
               {{"type": "linear", "units": 3}}"#
        );
        let model = layers("[2, 5, 7]", &blocks);
        let kernels = check(&model, 70, Target::Classes(3), 3, 2);
        assert_eq!(kernels.contains("ToChannelsFirst"), permuted, "{kernels}");
    }
    let blocks = r#"{"type": "linear", "units": 11, "name": "a"},
        {"type": "linear", "units": 5}, {"type": "activation", "function": "gelu", "name": "b"},
        {"type": "concat", "inputs": ["a", "b", "a", "input"]}"#;
    check(&layers("[4]", blocks), 4, Target::Values(31), 3, 2);
}

#[test]
fn what_is_joined_twice_gets_both_gradients() {
    let blocks = r#"{"type": "linear", "units": 5, "name": "a"},
        {"type": "concat", "inputs": ["a", "a"]},
        {"type": "activation", "function": "tanh"}, {"type": "linear", "units": 2}"#;
    check(&layers("[3]", blocks), 3, Target::Classes(2), 3, 2);
}

#[test]
fn transposed_convolutions_of_all_geometries() {
    for (kernel, stride, padding, more, bias) in [
        (2, 2, 0, 0, true),
        (2, 2, 0, 0, false),
        (3, 3, 0, 0, true),
        (2, 2, 0, 1, true),
        (1, 1, 0, 0, true),
        (3, 2, 1, 1, true),
        (5, 3, 2, 2, false),
        (3, 1, 0, 0, true),
        (4, 2, 1, 0, true),
        (2, 3, 0, 2, true),
    ] {
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 7, "kernel": 2}},
               {{"type": "conv_transpose2d", "channels": 5, "kernel": {kernel}, "stride": {stride},
                 "padding": {padding}, "output_padding": {more}, "bias": {bias}}},
               {{"type": "activation", "function": "gelu"}},
               {{"type": "conv2d", "channels": 2, "kernel": 3}}, {{"type": "flatten"}},
               {{"type": "linear", "units": 3}}"#
        );
        for (room, rows) in [(1, 1), (5, 3)] {
            let model = layers("[3, 5, 7]", &blocks);
            check(&model, 105, Target::Classes(3), room, rows);
        }
    }
    // On the rows themselves, where no gradient of the input is of use, and as the scores.
    let blocks = r#"{"type": "conv_transpose2d", "channels": 2, "kernel": 2, "stride": 2}"#;
    check(&layers("[1, 3, 5]", blocks), 15, Target::Values(120), 3, 2);
}

#[test]
fn transposed_convolutions_in_tiles_and_groups() {
    for kernel in [2, 3] {
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 31, "kernel": 3, "padding": 1}},
               {{"type": "activation", "function": "tanh"}},
               {{"type": "conv_transpose2d", "channels": 67, "kernel": {kernel}, "stride": 2}},
               {{"type": "conv2d", "channels": 1, "kernel": 5, "stride": 5}},
               {{"type": "flatten"}}, {{"type": "linear", "units": 2}}"#
        );
        let model = layers("[2, 17, 19]", &blocks);
        let kernels = check(&model, 646, Target::Classes(2), 3, 3);
        let cut = kernels
            .lines()
            .find(|line| line.starts_with("ConvTranspose"));
        let whole = "images: 1, rows: 17";
        assert!(cut.is_some_and(|line| !line.contains(whole)), "{kernels}");
    }
}

#[test]
fn transposed_convolutions_along_sequences() {
    for (kernel, rest) in [
        (2, r#""stride": 2"#),
        (3, r#""stride": 2, "padding": 1, "output_padding": 1"#),
        (5, r#""bias": false"#),
    ] {
        let blocks = format!(
            r#"{{"type": "linear", "units": 6}},
               {{"type": "conv_transpose1d", "channels": 5, "kernel": {kernel}, {rest}}},
               {{"type": "activation", "function": "gelu"}}, {{"type": "global_max_pool"}},
               {{"type": "linear", "units": 3}}"#
        );
        for (room, rows) in [(1, 1), (7, 5)] {
            check(
                &layers("[13, 2]", &blocks),
                26,
                Target::Values(3),
                room,
                rows,
            );
        }
    }
}

#[test]
fn enlarged_images_and_sequences() {
    for mode in ["nearest", "bilinear"] {
        for factor in [1, 2, 3] {
            let blocks = format!(
                r#"{{"type": "conv2d", "channels": 19, "kernel": 2}},
                   {{"type": "upsample", "factor": {factor}, "mode": "{mode}"}},
                   {{"type": "activation", "function": "silu"}},
                   {{"type": "conv2d", "channels": 2, "kernel": 3}}, {{"type": "flatten"}},
                   {{"type": "linear", "units": 3}}"#
            );
            for (room, rows) in [(1, 1), (5, 3)] {
                let model = layers("[3, 4, 6]", &blocks);
                check(&model, 72, Target::Classes(3), room, rows);
            }
            let blocks = format!(
                r#"{{"type": "linear", "units": 5}},
                   {{"type": "upsample", "factor": {factor}, "mode": "{mode}"}},
                   {{"type": "conv1d", "channels": 3, "kernel": 2}},
                   {{"type": "flatten"}}, {{"type": "linear", "units": 3}}"#
            );
            check(&layers("[7, 2]", &blocks), 14, Target::Classes(3), 3, 2);
        }
    }
}

#[test]
fn an_enlarged_line_lies_between_its_numbers() {
    let (y, _) = upsample(&[1.0, 3.0], &[1, 1, 2], 4, Upsampling::Bilinear);
    assert_eq!(y[..8], [1.0, 1.0, 1.25, 1.75, 2.25, 2.75, 3.0, 3.0]);
    let (y, _) = upsample(&[1.0, 3.0], &[2, 1], 2, Upsampling::Nearest);
    assert_eq!(y, [1.0, 1.0, 3.0, 3.0]);
}

#[test]
fn maxima_of_all_positions() {
    let blocks = r#"{"type": "conv2d", "channels": 67, "kernel": 2},
        {"type": "global_max_pool"}, {"type": "linear", "units": 3}"#;
    for (room, rows) in [(1, 1), (5, 3)] {
        let kernels = check(
            &layers("[3, 4, 9]", blocks),
            108,
            Target::Classes(3),
            room,
            rows,
        );
        assert!(kernels.contains("MaxPoolGrad"), "{kernels}");
    }
}

#[test]
fn pools_along_sequences() {
    for pool in ["max_pool1d", "avg_pool1d"] {
        for (kernel, stride, padding) in [(2, 2, 1), (3, 2, 0), (5, 1, 2)] {
            let blocks = format!(
                r#"{{"type": "linear", "units": 67}},
                   {{"type": "{pool}", "kernel": {kernel}, "stride": {stride}, "padding": {padding}}},
                   {{"type": "activation", "function": "sigmoid"}}, {{"type": "flatten"}},
                   {{"type": "linear", "units": 3}}"#
            );
            for (room, rows) in [(1, 1), (3, 2)] {
                check(
                    &layers("[13, 2]", &blocks),
                    26,
                    Target::Classes(3),
                    room,
                    rows,
                );
            }
        }
    }
}

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
        input.metrics = vec![MetricSource::builtin(Measure::Accuracy)];
        let (finished, _) = run(&cpu(2, Level::detect()), input);
        let accuracy = finished.metrics["test.accuracy"];
        assert!(accuracy > 0.9, "{loss}: {accuracy}");
    }
}
