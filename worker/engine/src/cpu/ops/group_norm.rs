//! Group normalisation: parts of a row's channels, over all positions that are there.

use stoker_model::Op;

use super::super::channels::{self, By};
use super::{Context, each_group};

/// y = normalised x; groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::GroupNorm {
        x,
        y,
        gain,
        bias,
        statistics,
        scratch,
        channels,
        parts,
        relu,
        epsilon,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let (rows, row_floats) = (plan.rows.div_ceil(groups), plan.values[x.0].row_floats);
    let (gain, bias) = (context.parameter(*gain), context.parameter(*bias));
    let positions = row_floats / channels;
    let ends = context.ends(*x);
    let values = [Some(*x), Some(*y), Some(*statistics), *scratch];
    let [x, y, statistics, scratch] = context.arena.optional(values);
    let buffers = [
        (x, rows * row_floats),
        (y, rows * row_floats),
        (statistics, rows * 2 * parts),
        (scratch, 4 * channels),
    ];
    each_group(groups, buffers, |group, [x, y, statistics, scratch]| {
        let (mean, rest) = scratch.split_at_mut(*channels);
        let (square, rest) = rest.split_at_mut(*channels);
        let (expanded, factor) = rest.split_at_mut(*channels);
        let each = x
            .chunks_exact(row_floats)
            .zip(y.chunks_exact_mut(row_floats));
        let each = each.zip(statistics.chunks_exact_mut(2 * parts));
        for (row, ((x, y), statistics)) in (group * rows..).zip(each) {
            let there = ends.map_or(positions, |ends| ends.of(row));
            let (y, rest) = y.split_at_mut(there * channels);
            rest.fill(0.0);
            let x = &x[..y.len()];
            channels::moments(level, mean, square, x);
            join_parts(statistics, [mean, square], there, *epsilon);
            expand(expanded, factor, statistics, gain);
            let by = By {
                mean: expanded,
                factor,
                bias,
            };
            channels::normalise(level, y, x, &[], by, *relu);
        }
    });
}

/// Joins the moments of each part's channels, in order, to its mean and 1 / deviation.
fn join_parts(
    statistics: &mut [f32],
    [means, squares]: [&[f32]; 2],
    positions: usize,
    epsilon: f32,
) {
    let size = means.len() / (statistics.len() / 2);
    let parts = means.chunks_exact(size).zip(squares.chunks_exact(size));
    for (statistics, (means, squares)) in statistics.chunks_exact_mut(2).zip(parts) {
        let share = 1.0 / size as f32;
        let mean = means.iter().sum::<f32>() * share;
        let between: f32 = means.iter().map(|m| (m - mean) * (m - mean)).sum();
        let within: f32 = squares.iter().sum();
        let variance = (within / positions as f32 + between) * share;
        statistics[0] = mean;
        statistics[1] = 1.0 / (variance + epsilon).sqrt();
    }
}

/// Each channel's mean, and gain / deviation.
fn expand(mean: &mut [f32], factor: &mut [f32], statistics: &[f32], gain: &[f32]) {
    let size = gain.len() / (statistics.len() / 2);
    let parts = mean
        .chunks_exact_mut(size)
        .zip(factor.chunks_exact_mut(size));
    let each = statistics.chunks_exact(2).zip(gain.chunks_exact(size));
    for ((mean, factor), (statistics, gain)) in parts.zip(each) {
        mean.fill(statistics[0]);
        for (factor, gain) in factor.iter_mut().zip(gain) {
            *factor = statistics[1] * gain;
        }
    }
}

/// d becomes dx; and the gradients of gain and bias. Groups cut the rows, and each keeps sums of
/// its own.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::GroupNormGrad {
        d,
        x,
        gain,
        bias,
        statistics,
        scratch,
        partials,
        channels,
        parts,
        relu,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let (rows, row_floats) = (plan.rows.div_ceil(groups), plan.values[x.0].row_floats);
    let (gains, biases) = (context.parameter(*gain), context.parameter(*bias));
    let positions = row_floats / channels;
    let ends = context.ends(*x);
    let values = [Some(*d), Some(*x), Some(*statistics), *scratch, *partials];
    let [d, x, statistics, scratch, partials] = context.arena.optional(values);
    let buffers = [
        (d, rows * row_floats),
        (x, rows * row_floats),
        (statistics, rows * 2 * parts),
        (scratch, 6 * channels),
        (&mut *partials, 2 * channels),
    ];
    each_group(
        groups,
        buffers,
        |group, [d, x, statistics, scratch, partial]| {
            partial.fill(0.0);
            let each = d
                .chunks_exact_mut(row_floats)
                .zip(x.chunks_exact(row_floats));
            let each = each.zip(statistics.chunks_exact(2 * parts));
            for (row, ((d, x), statistics)) in (group * rows..).zip(each) {
                let there = ends.map_or(positions, |ends| ends.of(row));
                let (d, rest) = d.split_at_mut(there * channels);
                rest.fill(0.0);
                let x = &x[..d.len()];
                let mut parts = scratch.chunks_exact_mut(*channels);
                let [mean, factor, sums, slopes, offset, slope] =
                    std::array::from_fn(|_| parts.next().unwrap_or_default());
                expand(mean, factor, statistics, gains);
                let by = By {
                    mean,
                    factor,
                    bias: biases,
                };
                sums.fill(0.0);
                slopes.fill(0.0);
                channels::grad_sums(level, sums, slopes, d, x, by, *relu);
                let (bias, gain) = partial.split_at_mut(*channels);
                take_off([offset, slope], [sums, slopes], statistics, gains, there);
                add_to(bias, gain, [sums, slopes], statistics);
                channels::grad_input_in_place(level, d, x, by, offset, slope, *relu);
            }
        },
    );
    let (sums, others) = partials.split_at_mut(2 * channels);
    for other in others.chunks_exact(2 * channels) {
        super::lanes::add(level, sums, other);
    }
    let (sums, slopes) = sums.split_at(*channels);
    super::gradient(context.gradients, plan, *bias).copy_from_slice(sums);
    super::gradient(context.gradients, plan, *gain).copy_from_slice(slopes);
}

/// What dx takes off in a row: the mean of d · gain over a part, and its slope by x.
fn take_off(
    [offset, slope]: [&mut [f32]; 2],
    [sums, slopes]: [&[f32]; 2],
    statistics: &[f32],
    gain: &[f32],
    positions: usize,
) {
    let size = gain.len() / (statistics.len() / 2);
    let count = (positions * size) as f32;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (part, statistics) in statistics.chunks_exact(2).enumerate() {
        let (range, scale) = (part * size..(part + 1) * size, statistics[1]);
        let gain = &gain[range.clone()];
        let mean = dot(&sums[range.clone()], gain) / count;
        let steepness = dot(&slopes[range.clone()], gain) / count;
        offset[range.clone()].fill(scale * mean);
        slope[range].fill(scale * scale * scale * steepness);
    }
}

/// Adds a row's gradients of bias and gain.
fn add_to(bias: &mut [f32], gain: &mut [f32], [sums, slopes]: [&[f32]; 2], statistics: &[f32]) {
    let size = bias.len() / (statistics.len() / 2);
    for (bias, sum) in bias.iter_mut().zip(sums) {
        *bias += sum;
    }
    let parts = gain.chunks_exact_mut(size).zip(slopes.chunks_exact(size));
    for ((gain, slopes), statistics) in parts.zip(statistics.chunks_exact(2)) {
        for (gain, slope) in gain.iter_mut().zip(slopes) {
            *gain += slope * statistics[1];
        }
    }
}
