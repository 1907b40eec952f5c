#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Samples of normal distributions, and their divergence from standard normal ones.

use stoker_model::Op;

use super::super::lanes;
use super::super::simd::simd;
use super::{Context, each_group};
use crate::init::normal_of;
use crate::math::exp;
use crate::philox::{Purpose, Stream};

/// y = mean + spread in training, mean in evaluation; groups cut the rows. A number's sample depends
/// on the seed, the step, its row in the global batch and its place there.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let &Op::Sample {
        mean,
        log_variance,
        y,
        spread,
        divergence,
        site,
        ..
    } = op
    else {
        return;
    };
    let (plan, level, train) = (context.plan(), context.level, context.train);
    let columns = plan.values[mean.0].row_floats;
    let stream = Stream::new(plan.train.seed, Purpose::Sample, site, context.step);
    let (rows, first_row) = (plan.rows.div_ceil(groups), context.first_row);
    let views = context
        .arena
        .views([mean, log_variance, y, spread, divergence]);
    let [mean, log_variance, y, spread, divergence] = views;
    let size = rows * columns;
    let sizes = [
        (mean, size),
        (log_variance, size),
        (y, size),
        (spread, size),
        (divergence, rows),
    ];
    each_group(
        groups,
        sizes,
        |group, [mean, log_variance, y, spread, divergence]| {
            divergences(level, divergence, mean, log_variance, columns);
            y.copy_from_slice(mean);
            if !train {
                return;
            }
            let first = first_row + u32::try_from(group * rows).unwrap_or(u32::MAX);
            for (row, spread) in (first..).zip(spread.chunks_exact_mut(columns)) {
                normals(spread, stream, row);
            }
            scale_by_deviation(level, spread, log_variance);
            lanes::add(level, y, spread);
        },
    );
}

/// Standard normal numbers, two of each block of the stream.
fn normals(out: &mut [f32], stream: Stream, row: u32) {
    for (index, out) in (0_u32..).zip(out.chunks_mut(2)) {
        let words = stream.block(index, row).map(u64::from);
        for (out, pair) in out
            .iter_mut()
            .zip([[words[1], words[0]], [words[3], words[2]]])
        {
            *out = normal_of(pair[0], pair[1]);
        }
    }
}

/// dmean and dlog_variance; groups cut the rows. Padding, whose divergence isn't in the loss, gets
/// zeros.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let &Op::SampleGrad {
        dy,
        mean,
        log_variance,
        spread,
        d_mean,
        d_log_variance,
        beta,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let columns = plan.values[mean.0].row_floats;
    let (size, there) = (plan.rows.div_ceil(groups) * columns, context.rows * columns);
    let views = [dy, mean, log_variance, spread, d_mean, d_log_variance];
    let sizes = context.arena.views(views).map(|view| (view, size));
    each_group(
        groups,
        sizes,
        |group, [dy, mean, log_variance, spread, d_mean, d_log]| {
            let there = there.saturating_sub(group * size).min(dy.len());
            let (real, padding) = d_mean.split_at_mut(there);
            padding.fill(0.0);
            mean_grad(level, real, dy, mean, beta);
            let (real, padding) = d_log.split_at_mut(there);
            padding.fill(0.0);
            log_variance_grad(level, real, dy, spread, log_variance, beta);
        },
    );
}

simd! {
    /// Σ (e^log_variance + mean² - 1 - log_variance) / 2 of each row.
    fn divergences(out: &mut [f32], mean: &[f32], log_variance: &[f32], columns: usize) {
        let rows = mean.chunks_exact(columns).zip(log_variance.chunks_exact(columns));
        for (out, (mean, log_variance)) in out.iter_mut().zip(rows) {
            let sum = lanes::sum_of(mean, log_variance, |mean, l| mean.mul_add(mean, exp(l) - 1.0 - l));
            *out = 0.5 * sum;
        }
    }

    /// spread = spread e^(log_variance / 2).
    fn scale_by_deviation(spread: &mut [f32], log_variance: &[f32]) {
        for (spread, &l) in spread.iter_mut().zip(log_variance) {
            *spread *= exp(0.5 * l);
        }
    }

    fn mean_grad(d: &mut [f32], dy: &[f32], mean: &[f32], beta: f32) {
        for ((d, &dy), &mean) in d.iter_mut().zip(dy).zip(mean) {
            *d = beta.mul_add(mean, dy);
        }
    }

    fn log_variance_grad(d: &mut [f32], dy: &[f32], spread: &[f32], log_variance: &[f32], beta: f32) {
        for (((d, &dy), &spread), &l) in d.iter_mut().zip(dy).zip(spread).zip(log_variance) {
            *d = 0.5 * beta.mul_add(exp(l) - 1.0, dy * spread);
        }
    }
}
