//! Blocks over images and convolutions over sequences: their definitions in double precision, and
//! their gradients.

use stoker_domain::spec::Block;
use stoker_model::Target;

use super::gradients::{check, layers};

/// Sizes of a convolution in PyTorch's terms, rows before columns.
struct Window {
    channels: usize,
    kernel: [usize; 2],
    stride: usize,
    /// Above and on the left.
    before: [usize; 2],
    /// Below and on the right.
    after: [usize; 2],
    dilation: usize,
    groups: usize,
}

fn window(block: &Block) -> Window {
    match *block {
        Block::Conv1d {
            channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            causal,
            ..
        } => {
            let [kernel, padding, dilation] = [kernel, padding, dilation].map(|n| n as usize);
            let before = if causal {
                (kernel - 1) * dilation
            } else {
                padding
            };
            Window {
                channels: channels as usize,
                kernel: [kernel, 1],
                stride: stride as usize,
                before: [before, 0],
                after: [padding, 0],
                dilation,
                groups: groups as usize,
            }
        }
        Block::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            ..
        } => Window {
            channels: channels as usize,
            kernel: [kernel as usize; 2],
            stride: stride as usize,
            before: [padding as usize; 2],
            after: [padding as usize; 2],
            dilation: dilation as usize,
            groups: groups as usize,
        },
        ref other => panic!("{other:?} is no convolution"),
    }
}

/// `[a, b]` to `[b, a]`.
pub(super) fn transpose(x: &[f64], columns: usize) -> Vec<f64> {
    let rows = x.len() / columns;
    let place = |index: usize| x[index % rows * columns + index / rows];
    (0..x.len()).map(place).collect()
}

/// A convolution over `[channels, height, width]`, or over `[length, features]`.
pub(super) fn conv(
    x: &[f64],
    shape: &[usize],
    weight: &[f64],
    bias: Option<&[f64]>,
    block: &Block,
) -> (Vec<f64>, Vec<usize>) {
    let window = window(block);
    match *shape {
        [channels, height, width] => {
            let (y, [rows, columns]) = conv2d(x, [channels, height, width], weight, bias, &window);
            (y, vec![window.channels, rows, columns])
        }
        [length, features] => {
            let x = transpose(x, features);
            let (y, [rows, _]) = conv2d(&x, [features, length, 1], weight, bias, &window);
            (transpose(&y, rows), vec![rows, window.channels])
        }
        _ => panic!("a convolution takes images or sequences"),
    }
}

fn conv2d(
    x: &[f64],
    [channels, height, width]: [usize; 3],
    weight: &[f64],
    bias: Option<&[f64]>,
    window: &Window,
) -> (Vec<f64>, [usize; 2]) {
    let Window {
        channels: out,
        kernel,
        stride,
        before,
        after,
        dilation,
        groups,
    } = *window;
    let count = |axis: usize| {
        let size = [height, width][axis] + before[axis] + after[axis];
        (size - (kernel[axis] - 1) * dilation - 1) / stride + 1
    };
    let sizes = [count(0), count(1)];
    let inputs = channels / groups;
    let mut y = Vec::new();
    for o in 0..out {
        let first = o / (out / groups) * inputs;
        for at in 0..sizes[0] * sizes[1] {
            let mut sum = bias.map_or(0.0, |bias| bias[o]);
            for tap in 0..inputs * kernel[0] * kernel[1] {
                let (c, ky, kx) = (
                    tap / (kernel[0] * kernel[1]),
                    tap / kernel[1] % kernel[0],
                    tap % kernel[1],
                );
                let iy = at / sizes[1] * stride + ky * dilation;
                let ix = at % sizes[1] * stride + kx * dilation;
                let inside = iy >= before[0]
                    && ix >= before[1]
                    && iy < height + before[0]
                    && ix < width + before[1];
                if inside {
                    let number = ((first + c) * height + iy - before[0]) * width + ix - before[1];
                    sum += weight[o * inputs * kernel[0] * kernel[1] + tap] * x[number];
                }
            }
            y.push(sum);
        }
    }
    (y, sizes)
}

/// The maximum or the mean of windows of `[kernel, stride, padding]`.
pub(super) fn pool(
    x: &[f64],
    shape: &[usize],
    [kernel, stride, padding]: [usize; 3],
    mean: bool,
) -> (Vec<f64>, Vec<usize>) {
    if let &[length, features] = shape {
        let x = transpose(x, features);
        let sizes = [[kernel, 1], [stride, 1], [padding, 0]];
        let (y, [rows, _]) = pool2d(&x, [features, length, 1], sizes, mean);
        return (transpose(&y, rows), vec![rows, features]);
    }
    let &[channels, height, width] = shape else {
        panic!("a pooling takes images or sequences")
    };
    let sizes = [kernel, stride, padding].map(|size| [size; 2]);
    let (y, [rows, columns]) = pool2d(x, [channels, height, width], sizes, mean);
    (y, vec![channels, rows, columns])
}

/// The same, with the sizes of rows before those of columns.
fn pool2d(
    x: &[f64],
    [channels, height, width]: [usize; 3],
    [kernel, stride, padding]: [[usize; 2]; 3],
    mean: bool,
) -> (Vec<f64>, [usize; 2]) {
    let count =
        |size: usize, side: usize| (size + 2 * padding[side] - kernel[side]) / stride[side] + 1;
    let (rows, columns) = (count(height, 0), count(width, 1));
    let mut y = Vec::new();
    for at in 0..channels * rows * columns {
        let (c, oy, ox) = (at / columns / rows, at / columns % rows, at % columns);
        let mut seen = Vec::new();
        for tap in 0..kernel[0] * kernel[1] {
            let iy = oy * stride[0] + tap / kernel[1];
            let ix = ox * stride[1] + tap % kernel[1];
            let inside = |at: usize, side: usize, size: usize| {
                (padding[side]..size + padding[side]).contains(&at)
            };
            if inside(iy, 0, height) && inside(ix, 1, width) {
                seen.push(x[(c * height + iy - padding[0]) * width + ix - padding[1]]);
            }
        }
        y.push(match mean {
            true => seen.iter().sum::<f64>() / (kernel[0] * kernel[1]) as f64,
            false => seen.into_iter().fold(f64::NEG_INFINITY, f64::max),
        });
    }
    (y, [rows, columns])
}

/// The mean over all positions.
pub(super) fn mean(x: &[f64], shape: &[usize]) -> (Vec<f64>, Vec<usize>) {
    let (x, columns) = match *shape {
        [channels, ..] if shape.len() == 3 => (x.to_vec(), channels),
        [_, features] => (transpose(x, features), features),
        _ => panic!("a mean takes images or sequences"),
    };
    let positions = x.len() / columns;
    let each = x.chunks_exact(positions);
    let y = each
        .map(|x| x.iter().sum::<f64>() / positions as f64)
        .collect();
    (y, vec![columns])
}

#[test]
fn dilation_and_groups() {
    // Dense, in two parts, depthwise, depthwise with two outputs each.
    for (first, second, groups) in [(5, 4, 1), (6, 4, 2), (6, 6, 6), (3, 6, 3)] {
        for (kernel, stride, padding, dilation) in [(3, 1, 2, 2), (3, 2, 1, 1), (2, 3, 3, 5)] {
            let blocks = format!(
                r#"{{"type": "conv2d", "channels": {first}, "kernel": 1}},
                   {{"type": "conv2d", "channels": {second}, "kernel": {kernel}, "groups": {groups},
                     "stride": {stride}, "padding": {padding}, "dilation": {dilation}}},
                   {{"type": "activation", "function": "silu"}}, {{"type": "flatten"}},
                   {{"type": "linear", "units": 3}}"#
            );
            for (room, rows) in [(1, 1), (5, 3)] {
                check(
                    &layers("[2, 7, 11]", &blocks),
                    154,
                    Target::Classes(3),
                    room,
                    rows,
                );
            }
        }
    }
}

#[test]
fn parts_are_cut_into_tiles_and_groups() {
    for (groups, height, width) in [(1, 11, 13), (2, 11, 13), (16, 21, 23)] {
        let blocks = format!(
            r#"{{"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1}},
               {{"type": "activation", "function": "tanh"}},
               {{"type": "conv2d", "channels": 16, "kernel": 7, "padding": 6, "dilation": 2,
                 "groups": {groups}}},
               {{"type": "flatten"}}, {{"type": "linear", "units": 2}}"#
        );
        let model = layers(&format!("[2, {height}, {width}]"), &blocks);
        let kernels = check(&model, 2 * height * width, Target::Classes(2), 3, 3);
        assert!(kernels.contains("partials: Some"), "{kernels}");
    }
}

#[test]
fn convolutions_along_sequences() {
    for (kernel, rest) in [
        (3, r#""padding": 1"#),
        (2, r#""causal": true, "dilation": 4"#),
        (
            5,
            r#""causal": true, "stride": 2, "dilation": 3, "groups": 3"#,
        ),
        (
            3,
            r#""padding": 5, "stride": 3, "groups": 6, "bias": false"#,
        ),
        (1, r#""groups": 2"#),
    ] {
        let blocks = format!(
            r#"{{"type": "linear", "units": 6}},
               {{"type": "conv1d", "channels": 6, "kernel": {kernel}, {rest}}},
               {{"type": "activation", "function": "gelu"}}, {{"type": "global_avg_pool"}},
               {{"type": "linear", "units": 3}}"#
        );
        for (room, rows) in [(1, 1), (7, 5)] {
            let model = layers("[17, 2]", &blocks);
            check(&model, 34, Target::Values(3), room, rows);
        }
    }
}

#[test]
fn long_sequences_are_cut_into_tiles() {
    let blocks = r#"{"type": "conv1d", "channels": 29, "kernel": 3, "padding": 1},
        {"type": "conv1d", "channels": 31, "kernel": 7, "causal": true},
        {"type": "global_avg_pool"}, {"type": "linear", "units": 2}"#;
    let model = layers("[601, 3]", blocks);
    let kernels = check(&model, 1803, Target::Classes(2), 5, 4);
    assert!(
        kernels.contains("tile: Tile { images: 1, rows: 161 }"),
        "{kernels}"
    );
}

#[test]
fn a_causal_convolution_sees_what_came_before() {
    let block: Block = serde_json::from_str(
        r#"{"type": "conv1d", "channels": 1, "kernel": 3, "dilation": 2, "causal": true}"#,
    )
    .unwrap();
    let x = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
    let (y, shape) = conv(&x, &[7, 1], &[3.0, 2.0, 1.0], None, &block);
    assert_eq!(shape, [7, 1]);
    assert_eq!(
        y,
        [1.0, 10.0, 102.0, 1020.0, 10203.0, 102_030.0, 1_020_300.0]
    );
}

#[test]
fn pools_with_padding_and_means() {
    for pool in ["max_pool2d", "avg_pool2d"] {
        for (kernel, stride, padding) in [(2, 2, 1), (3, 2, 1), (5, 1, 2), (3, 3, 0)] {
            let pool = format!(
                r#"{{"type": "{pool}", "kernel": {kernel}, "stride": {stride}, "padding": {padding}}}"#
            );
            let blocks = format!(
                r#"{pool}, {{"type": "conv2d", "channels": 67, "kernel": 1}}, {pool},
                   {{"type": "activation", "function": "sigmoid"}}, {{"type": "global_avg_pool"}},
                   {{"type": "linear", "units": 3}}"#
            );
            for (room, rows) in [(1, 1), (3, 2)] {
                let model = layers("[3, 13, 9]", &blocks);
                check(&model, 351, Target::Classes(3), room, rows);
            }
        }
    }
}
