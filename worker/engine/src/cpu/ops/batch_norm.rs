//! Batch normalisation: per channel, over the rows and positions that are there.
//!
//! Groups cut the rows. What they sum is joined in their order; padded rows give zeros and count
//! for nothing.

use stoker_model::Op;

use super::super::channels::{self, By};
use super::super::lanes::{self, Level};
use super::{Context, each_group};

/// Floats of a group's rows, and of those of them that are there.
#[derive(Clone, Copy)]
struct Cut {
    size: usize,
    row_floats: usize,
    rows: usize,
    there: usize,
}

impl Cut {
    const fn new(rows: usize, groups: usize, row_floats: usize, there: usize) -> Self {
        let rows = rows.div_ceil(groups);
        Self {
            size: rows * row_floats,
            row_floats,
            rows,
            there,
        }
    }

    /// Floats that are there in a group.
    fn seen(&self, group: usize) -> usize {
        let rows = self.there.saturating_sub(group * self.rows).min(self.rows);
        rows * self.row_floats
    }
}

/// y = normalised x; in training also what the running statistics need.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::BatchNorm {
        x,
        y,
        residual,
        bias,
        statistics,
        partials,
        channels,
        relu,
        ..
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let row_floats = plan.values[x.0].row_floats;
    let cut = Cut::new(plan.rows, groups, row_floats, context.rows);
    if context.train {
        let [x, partials] = context.arena.optional([Some(*x), *partials]);
        let buffers = [(x, cut.size), (&mut *partials, 2 * channels)];
        each_group(groups, buffers, |group, [x, moments]| {
            let (mean, square) = moments.split_at_mut(*channels);
            channels::moments(level, mean, square, &x[..cut.seen(group)]);
        });
    }
    find_statistics(op, groups, cut, context);
    let values = [Some(*x), Some(*y), *residual, Some(*statistics)];
    let bias = context.parameter(*bias);
    let [x, y, residual, statistics] = context.arena.optional(values);
    let by = by(statistics, bias);
    let buffers = [(x, cut.size), (y, cut.size), (residual, cut.size)];
    each_group(groups, buffers, |group, [x, y, residual]| {
        let (y, padding) = y.split_at_mut(cut.seen(group));
        channels::normalise(level, y, x, residual, by, *relu);
        padding.fill(0.0);
    });
}

/// What `statistics` holds after the mean: 1 / deviation, and gain / deviation.
fn by<'a>(statistics: &'a [f32], bias: &'a [f32]) -> By<'a> {
    let (mean, rest) = statistics.split_at(bias.len());
    By {
        mean,
        factor: &rest[bias.len()..],
        bias,
    }
}

/// Joins the groups' moments, or takes the running ones.
fn find_statistics(op: &Op, groups: usize, cut: Cut, context: &mut Context<'_>) {
    let Op::BatchNorm {
        gain,
        running,
        statistics,
        partials,
        channels,
        epsilon,
        ..
    } = op
    else {
        return;
    };
    let (plan, level, gain) = (context.plan(), context.level, context.parameter(*gain));
    let [running_mean, running_variance] = running.map(|id| context.parameter(id));
    let [statistics, partials] = context.arena.optional([Some(*statistics), *partials]);
    let (mean, rest) = statistics.split_at_mut(*channels);
    let (scale, factor) = rest.split_at_mut(*channels);
    if context.train {
        let (first, others) = partials.split_at_mut(2 * channels);
        let (means, squares) = first.split_at_mut(*channels);
        let mut count = cut.seen(0) / channels;
        for (group, other) in (1..groups).zip(others.chunks_exact(2 * channels)) {
            let more = cut.seen(group) / channels;
            if more > 0 {
                let other = other.split_at(*channels);
                channels::join_moments(level, means, squares, other, count, more);
            }
            count += more;
        }
        mean.copy_from_slice(means);
        let total = count as f32;
        for (scale, square) in scale.iter_mut().zip(&*squares) {
            *scale = square / total;
        }
        lanes::scale(level, means, total);
        let sums = [(&*means, count), (&*squares, count.saturating_sub(1))];
        for (id, (sums, count)) in running.iter().zip(sums) {
            let parameter = &plan.parameters[id.0];
            let slot = &mut context.gradients[parameter.offset..][..=parameter.floats];
            slot[..*channels].copy_from_slice(sums);
            slot[*channels] = count as f32;
        }
    } else {
        mean.copy_from_slice(running_mean);
        scale.copy_from_slice(running_variance);
    }
    for ((scale, factor), gain) in scale.iter_mut().zip(factor).zip(gain) {
        *scale = 1.0 / (*scale + epsilon).sqrt();
        *factor = *scale * gain;
    }
}

/// dx, and the gradients of gain and bias.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::BatchNormGrad {
        d,
        x,
        dx,
        y,
        gain,
        bias,
        statistics,
        partials,
        channels,
        relu,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let cut = Cut::new(plan.rows, groups, plan.values[x.0].row_floats, context.rows);
    let other = dx.filter(|dx| dx != d);
    let values = [Some(*d), Some(*x), other, *y, Some(*statistics), *partials];
    let biases = context.parameter(*bias);
    let [d, x, other, y, statistics, partials] = context.arena.optional(values);
    let by = by(statistics, biases);
    let (by_output, relu) = (!y.is_empty(), *relu);
    let buffers = [
        (&mut *d, cut.size),
        (&mut *x, cut.size),
        (y, cut.size),
        (&mut *partials, 2 * channels),
    ];
    each_group(groups, buffers, |group, [d, x, y, partial]| {
        partial.fill(0.0);
        let (sums, slopes) = partial.split_at_mut(*channels);
        let (d, x) = (&mut d[..cut.seen(group)], &x[..cut.seen(group)]);
        if by_output {
            channels::grad_sums_by_output(level, sums, slopes, d, y, x, by.mean);
        } else {
            channels::grad_sums(level, sums, slopes, d, x, by, relu);
        }
    });
    let (sums, others) = partials.split_at_mut(2 * channels);
    for other in others.chunks_exact(2 * channels) {
        lanes::add(level, sums, other);
    }
    let (sums, slopes) = sums.split_at_mut(*channels);
    let scale = &statistics[*channels..][..*channels];
    for (slope, scale) in slopes.iter_mut().zip(scale) {
        *slope *= scale;
    }
    super::gradient(context.gradients, plan, *bias).copy_from_slice(sums);
    super::gradient(context.gradients, plan, *gain).copy_from_slice(slopes);
    // What dx takes off: the mean of d, and its slope by x.
    let share = 1.0 / (context.rows * cut.row_floats / channels) as f32;
    let numbers = sums.iter_mut().zip(slopes.iter_mut());
    for ((offset, slope), (factor, scale)) in numbers.zip(by.factor.iter().zip(scale)) {
        *offset *= factor * share;
        *slope *= factor * share * scale;
    }
    if dx.is_some() {
        let (buffers, by_x) = ([d, x, other], [&*sums, &*slopes]);
        grad_input((groups, cut), buffers, by, by_x, level, relu);
    }
}

/// dx of the rows that are there, and zeros after them; in place of d where `dx` is empty.
fn grad_input(
    (groups, cut): (usize, Cut),
    [d, x, dx]: [&mut [f32]; 3],
    by: By<'_>,
    [offset, slope]: [&[f32]; 2],
    level: Level,
    relu: bool,
) {
    let in_place = dx.is_empty();
    let buffers = [(d, cut.size), (x, cut.size), (dx, cut.size)];
    each_group(groups, buffers, |group, [d, x, dx]| {
        let seen = cut.seen(group);
        let x = &x[..seen];
        let padding = if in_place {
            let (d, padding) = d.split_at_mut(seen);
            channels::grad_input_in_place(level, d, x, by, offset, slope, relu);
            padding
        } else {
            let (dx, padding) = dx.split_at_mut(seen);
            channels::grad_input(level, dx, &d[..seen], x, by, offset, slope);
            padding
        };
        padding.fill(0.0);
    });
}
