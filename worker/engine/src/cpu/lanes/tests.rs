//! Every kernel gives the same bits at every level that the host has.

use super::super::simd::Level;
use super::*;
use crate::philox::Purpose;

const ACTIVATIONS: [Activation; 5] = [
    Activation::Relu,
    Activation::Gelu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

fn numbers(count: usize, site: u16) -> Vec<f32> {
    let stream = Stream::new(3, Purpose::Init, site, 0);
    (0..count as u64)
        .map(|i| ((stream.word64(i) as f64 / 2_f64.powi(63) - 1.0) * 8.0) as f32)
        .collect()
}

/// Runs `kernel` at every level on the same numbers, and compares the bits it leaves in its two
/// outputs and returns.
fn same_at_every_level(name: &str, kernel: impl Fn(Level, &mut [f32], &mut [f32], &[f32]) -> f32) {
    for count in [1, 7, 16, 17, 61, 257] {
        let x = numbers(count, 1);
        let run = |level| {
            let (mut a, mut b) = (numbers(count, 2), numbers(count, 3));
            b.iter_mut().for_each(|b| *b = b.abs());
            let value = kernel(level, &mut a, &mut b, &x);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            (bits(a), bits(b), value.to_bits())
        };
        let expected = run(Level::Scalar);
        for level in Level::available() {
            assert_eq!(run(level), expected, "{name}, {count} numbers, {level:?}");
        }
    }
}

#[test]
fn element_wise_kernels() {
    for function in ACTIVATIONS {
        let name = format!("{function:?}");
        same_at_every_level(&name, |level, a, b, x| {
            activate(level, a, function);
            copy_activate(level, b, x, function);
            0.0
        });
        same_at_every_level(&name, |level, a, b, x| {
            activation_grad(level, a, x, function);
            add(level, b, x);
            0.0
        });
    }
    same_at_every_level("add", |level, a, b, x| {
        add(level, a, x);
        add_bias(level, b, x);
        add_rows(level, b, a);
        f32::from(u8::from(all_finite(level, a)))
    });
    same_at_every_level("pool", |level, a, b, x| {
        maximum(level, a, x);
        claim(level, b, &mut a.to_vec(), x, a);
        0.0
    });
}

#[test]
fn reductions_and_randomness() {
    same_at_every_level("softmax", |level, a, b, x| {
        let (total, max) = softmax(level, a, x);
        scale(level, b, 0.3);
        approach(level, b, x, 0.1);
        total + max + dot(level, a, x)
    });
    same_at_every_level("dropout", |level, a, b, x| {
        let stream = Stream::new(5, Purpose::Dropout, 1, 2);
        dropout(level, a, x, stream, 9, 0.3);
        dropout_grad(level, b, stream, 9, 0.3);
        0.0
    });
}

#[test]
fn optimisers() {
    let mean = Mean {
        weight: 7.0,
        share: 0.9,
        limit: 0.5,
    };
    let sgd_step = SgdStep {
        mean,
        learning_rate: 0.1,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.01,
    };
    let adam_step = AdamStep {
        mean,
        beta1: 0.9,
        rest1: 0.1,
        beta2: 0.999,
        rest2: 0.001,
        epsilon: 1e-8,
        step_size: 0.01,
        root_correction2: 0.1,
        keep: 0.999,
    };
    same_at_every_level("sgd", |level, a, b, x| {
        sgd_momentum(level, a, x, b, &sgd_step);
        sgd(level, b, x, &sgd_step);
        0.0
    });
    same_at_every_level("adamw", |level, a, b, x| {
        let mut first = x.to_vec();
        adamw(level, a, x, &mut first, b, &adam_step);
        first.iter().sum()
    });
}

#[test]
fn transposes_in_parts() {
    let (rows, columns) = (37, 71);
    let a = numbers(rows * columns, 1);
    let mut out = vec![0.0; rows * columns];
    for (part, out) in out.chunks_mut(35 * rows).enumerate() {
        transpose(Level::detect(), out, &a, columns, part * 35);
    }
    for row in 0..rows {
        for column in 0..columns {
            assert_eq!(out[column * rows + row], a[row * columns + column]);
        }
    }
}

#[test]
fn a_mask_keeps_its_share_and_its_mean() {
    let stream = Stream::new(11, Purpose::Dropout, 0, 0);
    let (x, mut y) = (vec![1.0; 10_000], vec![0.0; 10_000]);
    dropout(Level::detect(), &mut y, &x, stream, 0, 0.25);
    let dropped = y.iter().filter(|&&y| y == 0.0).count();
    assert!(
        (2_300..2_700).contains(&dropped),
        "{dropped} of 10,000 dropped at rate 0.25"
    );
    assert!(y.iter().all(|&y| y == 0.0 || y == 1.0 / 0.75));
    let mut d = x;
    dropout_grad(Level::detect(), &mut d, stream, 0, 0.25);
    assert_eq!(d, y, "the gradient has the mask of the way forward");
}
