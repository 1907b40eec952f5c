//! The losses: the sum over a shard's rows, and its gradient by the scores.

use rayon::prelude::*;
use stoker_domain::spec::Loss;

use super::lanes;
use super::simd::Level;
use crate::math;
use crate::table::TargetRows;

/// Rows that one thread takes at a time.
const ROWS: usize = 64;

/// What a loss writes. `N` predictions make up a shard.
pub(crate) struct Written<'a> {
    /// Gradients by the scores: `[N, outputs]`.
    pub(crate) d: &'a mut [f32],
    /// The loss of each prediction: `[N]`.
    pub(crate) losses: &'a mut [f64],
    /// What each counts in the mean: `[N]`.
    pub(crate) weights: &'a mut [f64],
    /// For Dice: two numbers per class and row.
    pub(crate) shares: &'a mut [f32],
}

/// What is predicted.
#[derive(Clone, Copy)]
pub(crate) struct There<'a> {
    pub(crate) targets: TargetRows<'a>,
    /// Predictions of each row that count; those after them are padding. Empty where all do.
    pub(crate) lengths: &'a [u32],
}

impl There<'_> {
    /// Predictions of a row that count, of `positions`.
    fn of(self, row: usize, positions: usize) -> usize {
        let length = self.lengths.get(row).map(|&length| length as usize);
        length.map_or(positions, |length| length.min(positions))
    }
}

/// Writes each prediction's loss, weight and gradient. Predictions beyond the targets or a row's end are
/// padding: no loss, no weight, no gradient.
///
/// `scores` is `[N, outputs]`, with `positions` predictions to a row.
pub(crate) fn grad(
    level: Level,
    loss: &Loss,
    [outputs, positions]: [usize; 2],
    scores: &[f32],
    there: There<'_>,
    written: Written<'_>,
) {
    let targets = there.targets;
    let Written {
        d,
        losses,
        weights,
        shares,
    } = written;
    if let (Loss::Dice { smooth }, TargetRows::Classes(classes)) = (loss, targets) {
        let size = positions * outputs;
        let rows = (scores.par_chunks(size))
            .zip(d.par_chunks_mut(size))
            .zip(losses.par_chunks_mut(positions))
            .zip(weights.par_chunks_mut(positions))
            .zip(shares.par_chunks_mut(2 * outputs));
        rows.enumerate()
            .for_each(|(row, ((((scores, d), losses), weights), shares))| {
                losses.fill(0.0);
                weights.fill(0.0);
                let classes = classes.get(row * positions..(row + 1) * positions);
                (losses[0], weights[0]) = match classes {
                    Some(classes) => {
                        let count = there.of(row, positions);
                        let (d, rest) = d.split_at_mut(count * outputs);
                        rest.fill(0.0);
                        let (scores, classes) = (&scores[..d.len()], &classes[..count]);
                        (dice(level, *smooth, scores, classes, d, shares), 1.0)
                    }
                    None => (no_loss(d), 0.0),
                };
            });
        return;
    }
    let size = ROWS * outputs;
    let blocks = (scores.par_chunks(size))
        .zip(d.par_chunks_mut(size))
        .zip(losses.par_chunks_mut(ROWS))
        .zip(weights.par_chunks_mut(ROWS));
    let of = |row: usize, scores: &[f32], d: &mut [f32]| match targets {
        TargetRows::Classes(classes) => classes
            .get(row)
            .filter(|_| row % positions < there.of(row / positions, positions))
            .map(|&class| of_class(level, loss, scores, class as usize, d)),
        TargetRows::Values(values) => {
            let width = match loss {
                Loss::Quantile { levels } => outputs / levels.len(),
                _ => outputs,
            };
            let values = values.get(row * width..(row + 1) * width);
            values.map(|values| (of_values(level, loss, scores, values, d), 1.0))
        }
    };
    blocks
        .enumerate()
        .for_each(|(block, (((scores, d), losses), weights))| {
            let rows = (scores.chunks_exact(outputs)).zip(d.chunks_exact_mut(outputs));
            let out = losses.iter_mut().zip(weights);
            for (row, ((scores, d), (loss, weight))) in (block * ROWS..).zip(rows.zip(out)) {
                (*loss, *weight) = of(row, scores, d).unwrap_or_else(|| (no_loss(d), 0.0));
            }
        });
}

fn no_loss(d: &mut [f32]) -> f64 {
    d.fill(0.0);
    0.0
}

/// The cross-entropy of one prediction, and its weight: that of its class.
fn of_class(level: Level, loss: &Loss, scores: &[f32], class: usize, d: &mut [f32]) -> (f64, f64) {
    let (total, max) = lanes::softmax(level, d, scores);
    let log_total = math::ln(f64::from(total)) + f64::from(max);
    let nothing = (0.0, &Vec::new());
    let (smoothing, weights) = match loss {
        Loss::CrossEntropy {
            label_smoothing,
            class_weights,
        } => (*label_smoothing, class_weights),
        _ => nothing,
    };
    if smoothing == 0.0 {
        d[class] -= 1.0;
        let loss = log_total - f64::from(scores[class]);
        let Some(&weight) = weights.get(class) else {
            return (loss, 1.0);
        };
        lanes::scale(level, d, weight);
        return (loss * f64::from(weight), f64::from(weight));
    }
    // The target is a share of `rest` for the class, and `spread` for all, each times its weight.
    let weight_of = |class: usize| weights.get(class).copied().unwrap_or(1.0);
    let (rest, spread) = (1.0 - smoothing, smoothing / scores.len() as f32);
    let own = rest * weight_of(class);
    let (mut all, mut loss) = (own, f64::from(own) * (log_total - f64::from(scores[class])));
    for (class, &score) in scores.iter().enumerate() {
        let share = spread * weight_of(class);
        all += share;
        loss += f64::from(share) * (log_total - f64::from(score));
    }
    for (class, d) in d.iter_mut().enumerate() {
        *d = all * *d - spread * weight_of(class);
    }
    d[class] -= own;
    (loss, f64::from(weight_of(class)))
}

/// The loss of a row of numbers: their mean, but for the divergence, which is a sum.
fn of_values(level: Level, loss: &Loss, scores: &[f32], values: &[f32], d: &mut [f32]) -> f64 {
    let each = |d: &mut [f32], f: &dyn Fn(f32, f32) -> (f64, f32)| -> f64 {
        let count = scores.len() as f32;
        let mut sum = 0.0;
        for ((d, &score), &value) in d.iter_mut().zip(scores).zip(values) {
            let (loss, slope) = f(score, value);
            *d = slope / count;
            sum += loss;
        }
        sum / f64::from(count)
    };
    match loss {
        Loss::Mae => each(d, &|score, value| {
            let error = score - value;
            (f64::from(error.abs()), sign(error))
        }),
        Loss::Huber { delta } => each(d, &|score, value| huber(score - value, *delta)),
        Loss::Bce => each(d, &|score, value| {
            // ln(1 + e^score) - value · score, where the exponential is at most 1.
            let tail = math::ln(1.0 + f64::from(math::exp(-score.abs())));
            let loss = f64::from(score.max(0.0)) - f64::from(score) * f64::from(value) + tail;
            // max() takes a number over NaN.
            let loss = if score.is_nan() { f64::NAN } else { loss };
            (loss, math::sigmoid(score) - value)
        }),
        Loss::Quantile { levels } => quantile(levels, scores, values, d),
        Loss::Kl => divergence(level, scores, values, d),
        _ => each(d, &|score, value| {
            let error = score - value;
            (f64::from(error) * f64::from(error), 2.0 * error)
        }),
    }
}

/// 1, 0 or -1; NaN for NaN.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn huber(error: f32, delta: f32) -> (f64, f32) {
    let (size, limit) = (f64::from(error.abs()), f64::from(delta));
    if error.abs() <= delta {
        (0.5 * size * size, error)
    } else {
        (limit * (size - 0.5 * limit), delta * sign(error))
    }
}

/// The mean over predictions of max(q e, (q - 1) e), with e = value - prediction.
fn quantile(levels: &[f32], scores: &[f32], values: &[f32], d: &mut [f32]) -> f64 {
    let count = scores.len() as f32;
    let mut sum = 0.0;
    let rows = (scores.chunks_exact(levels.len())).zip(d.chunks_exact_mut(levels.len()));
    for ((scores, d), &value) in rows.zip(values) {
        for ((d, &score), &level) in d.iter_mut().zip(scores).zip(levels) {
            let error = value - score;
            let slope = match error {
                e if e > 0.0 => level,
                e if e < 0.0 => level - 1.0,
                e => e * 0.0,
            };
            sum += f64::from(slope) * f64::from(error);
            *d = -slope / count;
        }
    }
    sum / f64::from(count)
}

/// Σ t (ln t - ln softmax(scores)).
fn divergence(level: Level, scores: &[f32], values: &[f32], d: &mut [f32]) -> f64 {
    let (total, max) = lanes::softmax(level, d, scores);
    let log_total = math::ln(f64::from(total)) + f64::from(max);
    let (mut mass, mut loss) = (0.0, 0.0);
    for (&score, &value) in scores.iter().zip(values) {
        mass += value;
        if value > 0.0 {
            let value = f64::from(value);
            loss += value * (math::ln(value) + log_total - f64::from(score));
        }
    }
    for (d, &value) in d.iter_mut().zip(values) {
        *d = mass * *d - value;
    }
    loss
}

/// 1 - the mean over classes of (2 Σ p t + smooth) / (Σ p + Σ t + smooth), with p the softmax of
/// the scores, `[positions, classes]`, and t 1 for a position's class.
fn dice(
    level: Level,
    smooth: f32,
    scores: &[f32],
    classes: &[u32],
    d: &mut [f32],
    shares: &mut [f32],
) -> f64 {
    let count = shares.len() / 2;
    // The slopes by p of a class: where t is 0, and what is added to it where t is 1.
    let (others, hits) = shares.split_at_mut(count);
    others.fill(0.0);
    hits.fill(0.0);
    let positions = || scores.chunks_exact(count).zip(classes);
    for ((scores, &class), d) in positions().zip(d.chunks_exact_mut(count)) {
        lanes::softmax(level, d, scores);
        let class = class as usize;
        lanes::add(level, others, d);
        others[class] += 1.0;
        hits[class] += d[class];
    }
    let mut sum = 0.0;
    for (other, hit) in others.iter_mut().zip(hits.iter_mut()) {
        let (above, below) = (2.0 * *hit + smooth, *other + smooth);
        sum += f64::from(above) / f64::from(below);
        *other = above / (below * below) / count as f32;
        *hit = -2.0 / below / count as f32;
    }
    for ((_, &class), p) in positions().zip(d.chunks_exact_mut(count)) {
        let class = class as usize;
        let mean = lanes::dot(level, p, others) + p[class] * hits[class];
        let own = p[class] * hits[class];
        for (p, &other) in p.iter_mut().zip(&*others) {
            *p *= other - mean;
        }
        p[class] += own;
    }
    1.0 - sum / count as f64
}
