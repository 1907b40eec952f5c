#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Normalisation over the last dimension: by mean and variance, or by the mean square.

use stoker_model::Op;

use super::super::lanes::sum_of;
use super::super::simd::simd;
use super::{Context, each_group};

/// y = normalised x; groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Norm {
        x,
        y,
        gain,
        bias,
        statistics,
        columns,
        epsilon,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let size = plan.rows.div_ceil(groups) * plan.values[x.0].row_floats;
    let gain = context.parameter(*gain);
    let bias = bias.map_or(&[][..], |bias| context.parameter(bias));
    let [x, y, statistics] = context.arena.views([*x, *y, *statistics]);
    let buffers = [(x, size), (y, size), (statistics, size / columns * 2)];
    each_group(groups, buffers, |_, [x, y, statistics]| {
        normalise(level, y, x, statistics, gain, bias, *epsilon);
    });
}

/// dx, and the gradients of gain and bias; groups cut the rows, and each keeps sums of its own.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::NormGrad {
        dy,
        x,
        dx,
        gain,
        bias,
        statistics,
        columns,
        partials,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let size = plan.rows.div_ceil(groups) * plan.values[x.0].row_floats;
    let gains = context.parameter(*gain);
    let values = [Some(*dy), Some(*x), Some(*dx), Some(*statistics), *partials];
    let [dy, x, dx, statistics, partials] = context.arena.optional(values);
    let range = |id: stoker_model::ParameterId| {
        let parameter = &plan.parameters[id.0];
        parameter.offset..parameter.offset + parameter.floats
    };
    let end = context.gradients.len();
    let ranges = [range(*gain), bias.map_or(end..end, range)];
    let Ok([dgain, dbias]) = context.gradients.get_disjoint_mut(ranges) else {
        unreachable!("a plan keeps parameters apart")
    };
    if groups == 1 {
        dgain.fill(0.0);
        dbias.fill(0.0);
        return normalise_grad(level, dx, dy, x, statistics, gains, dgain, dbias);
    }
    let sums = 2 * columns;
    let buffers = [
        (dy, size),
        (x, size),
        (dx, size),
        (statistics, size / columns * 2),
        (&mut *partials, sums),
    ];
    let centred = bias.is_some();
    each_group(groups, buffers, |_, [dy, x, dx, statistics, sums]| {
        sums.fill(0.0);
        let (dgain, dbias) = sums.split_at_mut(*columns);
        let dbias = if centred { dbias } else { &mut [] };
        normalise_grad(level, dx, dy, x, statistics, gains, dgain, dbias);
    });
    dgain.fill(0.0);
    dbias.fill(0.0);
    for partial in partials.chunks_exact(sums) {
        let (left, right) = partial.split_at(*columns);
        super::lanes::add(level, dgain, left);
        super::lanes::add(level, dbias, right);
    }
}

simd! {
    /// Normalises rows of `gain.len()` numbers. An empty `bias` means: by the mean square.
    /// `statistics` gets each row's mean and 1 / deviation.
    fn normalise(y: &mut [f32], x: &[f32], statistics: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
        let columns = gain.len();
        let count = columns as f32;
        let rows = x.chunks_exact(columns).zip(y.chunks_exact_mut(columns));
        for ((x, y), statistics) in rows.zip(statistics.chunks_exact_mut(2)) {
            let mean = if bias.is_empty() { 0.0 } else { sum_of(x, x, |x, _| x) / count };
            let square = sum_of(x, x, |x, _| (x - mean) * (x - mean)) / count;
            let scale = 1.0 / (square + epsilon).sqrt();
            statistics[0] = mean;
            statistics[1] = scale;
            for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
                *y = (x - mean) * scale * gain;
            }
            for (y, &bias) in y.iter_mut().zip(bias) {
                *y += bias;
            }
        }
    }

    /// dx of the same, and sums for gain and bias. An empty `dbias` means: by the mean square.
    #[expect(clippy::too_many_arguments, reason = "each is a buffer of its own")]
    fn normalise_grad(dx: &mut [f32], dy: &[f32], x: &[f32], statistics: &[f32], gain: &[f32], dgain: &mut [f32], dbias: &mut [f32]) {
        let columns = gain.len();
        let count = columns as f32;
        let rows = x.chunks_exact(columns).zip(dy.chunks_exact(columns)).zip(dx.chunks_exact_mut(columns));
        for (((x, dy), dx), statistics) in rows.zip(statistics.chunks_exact(2)) {
            let (mean, scale) = (statistics[0], statistics[1]);
            for ((dx, &dy), &gain) in dx.iter_mut().zip(dy).zip(gain) {
                *dx = dy * gain;
            }
            let slope = sum_of(dx, x, |d, x| d * ((x - mean) * scale)) / count;
            let offset = if dbias.is_empty() { 0.0 } else { sum_of(dx, x, |d, _| d) / count };
            for ((dgain, &x), &dy) in dgain.iter_mut().zip(x).zip(dy) {
                *dgain += dy * ((x - mean) * scale);
            }
            for (dbias, &dy) in dbias.iter_mut().zip(dy) {
                *dbias += dy;
            }
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - offset - (x - mean) * scale * slope);
            }
        }
    }
}
