#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Element-wise kernels, and sums over rows. All slices of one call have the lengths that the
//! names say; a shorter one ends the work early, never out of bounds.

#[cfg(target_arch = "x86_64")]
pub(crate) mod square;

use stoker_domain::spec::Activation;

pub(crate) use super::simd::Level;
use super::simd::simd;
use crate::math::{erf, exp, sigmoid, tanh};
use crate::philox::{LANES, Stream};

/// 1 / √2 and 1 / √(2π).
const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const ROOT_TWO_PI: f32 = 0.398_942_3;

/// The sum over 16 fixed lanes, then over the lanes in order.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0_f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    lanes.iter().sum()
}

/// The sum of f over pairs, in the same order.
#[inline(always)]
pub(crate) fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0_f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(a, b);
    }
    lanes.iter().sum()
}

/// The largest number. NaN counts for nothing.
#[inline(always)]
pub(crate) fn maximum_of(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    // Halves against each other, since no order of comparisons changes the largest.
    let mut half = lanes.len() / 2;
    while half > 0 {
        for index in 0..half {
            let (one, other) = (lanes[index], lanes[index + half]);
            lanes[index] = if other > one { other } else { one };
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn map(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

#[inline(always)]
fn scale_by(d: &mut [f32], saved: &[f32], f: impl Fn(f32) -> f32) {
    for (d, &s) in d.iter_mut().zip(saved) {
        *d *= f(s);
    }
}

/// exp of every number less `shift`, in place.
#[inline(always)]
fn exp_all(values: &mut [f32], shift: f32) {
    for value in values {
        *value = exp(*value - shift);
    }
}

/// Rows `first..` of the transpose of `a`, which has `columns` columns: as many as `out` holds.
pub(crate) fn transpose(level: Level, out: &mut [f32], a: &[f32], columns: usize, first: usize) {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512 {
        use square::SIZE;
        let rows = a.len() / columns;
        let (whole, squares) = (rows - rows % SIZE, out.len() / rows / SIZE);
        for block in 0..squares {
            let out = &mut out[block * SIZE * rows..][..SIZE * rows];
            for row in (0..whole).step_by(SIZE) {
                let a = &a[row * columns + first + block * SIZE..];
                // SAFETY: the level exists only where its instructions were detected.
                unsafe { square::transpose(&mut out[row..], rows, a, columns) };
            }
            transpose_rest(level, out, a, columns, first + block * SIZE, whole);
        }
        let done = squares * SIZE;
        return transpose_rest(level, &mut out[done * rows..], a, columns, first + done, 0);
    }
    transpose_rest(level, out, a, columns, first, 0);
}

simd! {
    /// a += b.
    fn add(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }

    /// The part of a transpose that isn't whole squares: `out` is its rows `first..`, and rows of
    /// `a` before `from` are left out.
    fn transpose_rest(out: &mut [f32], a: &[f32], columns: usize, first: usize, from: usize) {
        const BLOCK: usize = 16;
        let rows = a.len() / columns;
        for (block, out) in out.chunks_mut(BLOCK * rows).enumerate() {
            let first = first + block * BLOCK;
            let count = out.len() / rows;
            for (row, a) in a.chunks_exact(columns).enumerate().skip(from) {
                for (index, &number) in a[first..first + count].iter().enumerate() {
                    out[index * rows + row] = number;
                }
            }
        }
    }

    /// Adds `bias` to every row of `y`.
    fn add_bias(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }

    /// a = a · factor.
    fn scale(a: &mut [f32], factor: f32) {
        for a in a {
            *a *= factor;
        }
    }

    /// Adds every row of `d` to `sums`, in order.
    fn add_rows(sums: &mut [f32], d: &[f32]) {
        for row in d.chunks_exact(sums.len()) {
            for (sum, d) in sums.iter_mut().zip(row) {
                *sum += d;
            }
        }
    }

    /// y = f(y).
    fn activate(y: &mut [f32], function: Activation) {
        #[inline(always)]
        fn each(y: &mut [f32], f: impl Fn(f32) -> f32) {
            for y in y {
                *y = f(*y);
            }
        }
        match function {
            Activation::Relu => each(y, |x| if x > 0.0 || x.is_nan() { x } else { 0.0 }),
            Activation::Gelu => each(y, |x| 0.5 * x * (1.0 + erf(x * ROOT_HALF).0)),
            Activation::Silu => each(y, |x| x * sigmoid(x)),
            Activation::Tanh => each(y, tanh),
            Activation::Sigmoid => each(y, sigmoid),
        }
    }

    /// d = d f', with f' of the saved output (relu, tanh, sigmoid) or input (gelu, silu).
    fn activation_grad(d: &mut [f32], saved: &[f32], function: Activation) {
        match function {
            Activation::Relu => {
                for (d, &y) in d.iter_mut().zip(saved) {
                    *d = if y > 0.0 { *d } else { 0.0 };
                }
            }
            Activation::Gelu => scale_by(d, saved, |x| {
                let (erf, gauss) = erf(x * ROOT_HALF);
                0.5 * (1.0 + erf) + x * gauss * ROOT_TWO_PI
            }),
            Activation::Silu => scale_by(d, saved, |x| {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }),
            Activation::Tanh => scale_by(d, saved, |y| 1.0 - y * y),
            Activation::Sigmoid => scale_by(d, saved, |y| y * (1.0 - y)),
        }
    }

    /// p = softmax(scores). Returns the sum of the exponentials, and the maximum that was taken off
    /// before them.
    fn softmax(p: &mut [f32], scores: &[f32]) -> (f32, f32) {
        let mut max = f32::NEG_INFINITY;
        for &score in scores {
            max = if score > max { score } else { max };
        }
        p.copy_from_slice(scores);
        exp_all(p, max);
        let total = sum(p);
        let share = 1.0 / total;
        for p in p.iter_mut() {
            *p *= share;
        }
        (total, max)
    }

    /// Σ a b.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum_of(a, b, |a, b| a * b)
    }

    /// a goes `share` of the way to b.
    fn approach(a: &mut [f32], b: &[f32], share: f32) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = (b - *a).mul_add(share, *a);
        }
    }

    /// y = x, with each number dropped or scaled. The mask's words of a row are those of the
    /// stream's blocks in sixteens: word by word, lane by lane.
    fn dropout(y: &mut [f32], x: &[f32], stream: Stream, row: u32, rate: f32) {
        let (threshold, scale) = dropout_constants(rate);
        let mut first = 0_u32;
        for (y, x) in y.chunks_mut(4 * LANES).zip(x.chunks(4 * LANES)) {
            let words = stream.blocks(first, row);
            for ((y, x), words) in y.chunks_mut(LANES).zip(x.chunks(LANES)).zip(&words) {
                for ((y, &x), &word) in y.iter_mut().zip(x).zip(words) {
                    *y = if word >= threshold { x * scale } else { 0.0 };
                }
            }
            first = first.wrapping_add(16);
        }
    }

    /// The same on a gradient, in place.
    fn dropout_grad(d: &mut [f32], stream: Stream, row: u32, rate: f32) {
        let (threshold, scale) = dropout_constants(rate);
        let mut first = 0_u32;
        for d in d.chunks_mut(4 * LANES) {
            let words = stream.blocks(first, row);
            for (d, words) in d.chunks_mut(LANES).zip(&words) {
                for (d, &word) in d.iter_mut().zip(words) {
                    *d = if word >= threshold { *d * scale } else { 0.0 };
                }
            }
            first = first.wrapping_add(16);
        }
    }

    /// The sum of the squares, in eight fixed lanes.
    fn sum_of_squares(values: &[f32]) -> f64 {
        let mut lanes = [0_f64; 8];
        let (chunks, rest) = values.as_chunks::<8>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                let value = f64::from(value);
                *lane += value * value;
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            let value = f64::from(value);
            *lane += value * value;
        }
        lanes.iter().sum()
    }

    /// Whether every number is finite.
    fn all_finite(values: &[f32]) -> bool {
        const EXPONENT: u32 = 0x7F80_0000;
        let mut bad = 0_u32;
        for value in values {
            bad |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
        }
        bad == 0
    }

    /// One SGD step on weights, summed gradients and momentum, by PyTorch's definition.
    fn sgd_momentum(weights: &mut [f32], gradients: &[f32], momentum: &mut [f32], by: &SgdStep) {
        for ((w, &g), m) in weights.iter_mut().zip(gradients).zip(momentum) {
            let g = by.weight_decay.mul_add(*w, by.mean.of(g));
            *m = by.momentum.mul_add(*m, g);
            let direction = if by.nesterov { by.momentum.mul_add(*m, g) } else { *m };
            *w = (-by.learning_rate).mul_add(direction, *w);
        }
    }

    /// The same without momentum.
    fn sgd(weights: &mut [f32], gradients: &[f32], by: &SgdStep) {
        for (w, &g) in weights.iter_mut().zip(gradients) {
            let g = by.weight_decay.mul_add(*w, by.mean.of(g));
            *w = (-by.learning_rate).mul_add(g, *w);
        }
    }

    /// One AdamW step on weights, summed gradients and the two moments (Loshchilov & Hutter 2019,
    /// with PyTorch's placing of epsilon).
    fn adamw(weights: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], by: &AdamStep) {
        for (((w, &g), m), v) in weights.iter_mut().zip(gradients).zip(first).zip(second) {
            let g = by.mean.of(g);
            *m = by.beta1.mul_add(*m, by.rest1 * g);
            *v = by.beta2.mul_add(*v, by.rest2 * (g * g));
            let size = v.sqrt() / by.root_correction2 + by.epsilon;
            *w = (-by.step_size).mul_add(*m / size, *w * by.keep);
        }
    }

    /// y = f(x), for the activations that stand alone.
    fn copy_activate(y: &mut [f32], x: &[f32], function: Activation) {
        match function {
            Activation::Relu => map(y, x, |x| if x > 0.0 || x.is_nan() { x } else { 0.0 }),
            Activation::Gelu => map(y, x, |x| 0.5 * x * (1.0 + erf(x * ROOT_HALF).0)),
            Activation::Silu => map(y, x, |x| x * sigmoid(x)),
            Activation::Tanh => map(y, x, tanh),
            Activation::Sigmoid => map(y, x, sigmoid),
        }
    }

    /// y = the larger of y and x.
    fn maximum(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x > *y { x } else { *y };
        }
    }

    /// Gives what is `left` of a window's gradient to `dx` where x is the window's maximum y.
    fn claim(dx: &mut [f32], left: &mut [f32], x: &[f32], y: &[f32]) {
        for (((dx, left), &x), &y) in dx.iter_mut().zip(left).zip(x).zip(y) {
            let hit = x == y;
            *dx += if hit { *left } else { 0.0 };
            *left = if hit { 0.0 } else { *left };
        }
    }
}

/// Words from this one on keep a number; and what keeps the mean.
#[inline(always)]
fn dropout_constants(rate: f32) -> (u32, f32) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below 2^32"
    )]
    let threshold = (f64::from(rate) * 4_294_967_296.0) as u32;
    (threshold, 1.0 / (1.0 - rate))
}

/// What makes a summed gradient the one that a step takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    /// What the sum is divided by.
    pub(crate) weight: f32,
    /// Share that is left of it, 1 for all.
    pub(crate) share: f32,
    /// Largest size, infinite for none.
    pub(crate) limit: f32,
}

impl Mean {
    #[inline(always)]
    fn of(self, sum: f32) -> f32 {
        (sum / self.weight * self.share).clamp(-self.limit, self.limit)
    }
}

/// The scalars of an SGD step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SgdStep {
    pub(crate) mean: Mean,
    pub(crate) learning_rate: f32,
    pub(crate) momentum: f32,
    pub(crate) nesterov: bool,
    pub(crate) weight_decay: f32,
}

/// The scalars of an AdamW step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    pub(crate) mean: Mean,
    pub(crate) beta1: f32,
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest2: f32,
    pub(crate) epsilon: f32,
    /// Learning rate over the first moment's bias correction.
    pub(crate) step_size: f32,
    /// Root of the second moment's bias correction.
    pub(crate) root_correction2: f32,
    /// Share of a weight that decay leaves.
    pub(crate) keep: f32,
}

#[cfg(test)]
mod tests;
