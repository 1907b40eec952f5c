#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! Self-attention (Vaswani et al. 2017), a head at a time: heads are laid out for the products, so
//! that all that one needs is in the cache.

use std::ops::Range;

use stoker_model::{Attention, Op};

use super::super::lanes::{self, maximum_of, sum_of};
use super::super::product::{Matrix, multiply, multiply_apart};
use super::super::simd::{Level, simd};
use super::rotary::turn;
use super::{Context, RowEnds, each_group};
use crate::math::exp;

/// Queries of a causal row that are taken at a time: what comes after the last of them is left out.
/// A multiple of `LANES`, as sums over a row go by registers.
const QUERIES: usize = 32;
/// Numbers of a register.
const LANES: usize = 16;

/// Where a head's numbers are: the first of them at a position, and numbers from one position to
/// the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    first: usize,
    stride: usize,
}

/// Queries, keys and values of a head, and its output.
fn heads(attention: &Attention, head: usize) -> [Head; 4] {
    let shared = head / (attention.heads / attention.kv_heads);
    let keys = attention.heads + shared;
    let stride = attention.in_features();
    let at = |index: usize, stride: usize| Head {
        first: index * attention.head_floats,
        stride,
    };
    [
        at(head, stride),
        at(keys, stride),
        at(keys + attention.kv_heads, stride),
        at(head, attention.out_features()),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
fn scale(attention: &Attention) -> f32 {
    (1.0 / (attention.head_floats as f64).sqrt()) as f32
}

/// Buffers of one head.
struct Scratch<'a> {
    parts: [&'a mut [f32]; 7],
    square: &'a mut [f32],
}

fn cut<'a>(scratch: &'a mut [f32], attention: &Attention) -> Scratch<'a> {
    let (parts, square) = scratch.split_at_mut(7 * attention.head());
    let mut parts = parts.chunks_exact_mut(attention.head());
    Scratch {
        parts: std::array::from_fn(|_| parts.next().unwrap_or_default()),
        square: &mut square[..attention.length * attention.length],
    }
}

/// The attention over the positions of a row that are there.
fn cut_to(attention: &Attention, ends: Option<RowEnds<'_>>, row: usize) -> Attention {
    Attention {
        length: ends.map_or(attention.length, |ends| ends.of(row)),
        ..*attention
    }
}

/// The outputs of all heads; groups cut the rows. A row that ends early is as if it were as short:
/// after its end the output is zeros.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Attention {
        x,
        y,
        probabilities,
        attention,
        rotary,
        scratch,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let (input, output, square) = sizes(attention);
    let ends = context.ends(*x);
    let values = [Some(*x), Some(*y), Some(*probabilities), *rotary, *scratch];
    let [x, y, probabilities, angles, scratch] = context.arena.optional(values);
    let angles = &*angles;
    let buffers = [
        (x, rows * input),
        (y, rows * output),
        (probabilities, rows * attention.heads * square),
        (scratch, attention.scratch_floats()),
    ];
    each_group(groups, buffers, |group, [x, y, probabilities, scratch]| {
        let each = x.chunks_exact(input).zip(y.chunks_exact_mut(output));
        let each = each.zip(probabilities.chunks_exact_mut(attention.heads * square));
        for (row, ((x, y), probabilities)) in (group * rows..).zip(each) {
            let there = cut_to(attention, ends, row);
            let (y, rest) = y.split_at_mut(there.length * there.out_features());
            rest.fill(0.0);
            let product = Product {
                level,
                block: plan.k_block,
                attention: &there,
                angles,
            };
            let mut scratch = cut(scratch, &there);
            for (head, p) in probabilities.chunks_exact_mut(square).enumerate() {
                let p = &mut p[..there.length * there.length];
                forward_head(&product, heads(&there, head), x, [p, y], &mut scratch);
            }
        }
    });
}

/// Writes one head's probabilities and outputs.
fn forward_head(
    product: &Product<'_>,
    [queries, keys, values, outputs]: [Head; 4],
    x: &[f32],
    [p, y]: [&mut [f32]; 2],
    scratch: &mut Scratch<'_>,
) {
    let (level, attention) = (product.level, product.attention);
    let width = attention.head_floats;
    let [q, k, v, o, ..] = &mut scratch.parts;
    gather(level, q, x, queries, width, scale(attention));
    gather(level, o, x, keys, width, 1.0);
    gather(level, v, x, values, width, 1.0);
    product.turn([q, o], 1.0);
    lanes::transpose(level, k, o, width, 0);
    for (rows, seen) in product.blocks() {
        product.scores(p, (rows.clone(), seen), q, k);
    }
    softmax(level, p, attention.length, attention.causal);
    for (rows, seen) in product.blocks() {
        product.weighted(o, (rows, seen), p, v);
    }
    scatter(level, y, o, outputs, width, 1.0, false);
}

/// Numbers of one row: in, out, and of one head's probabilities.
const fn sizes(attention: &Attention) -> (usize, usize, usize) {
    (
        attention.length * attention.in_features(),
        attention.length * attention.out_features(),
        attention.length * attention.length,
    )
}

/// Products between the matrices of a head.
struct Product<'a> {
    level: Level,
    block: usize,
    attention: &'a Attention,
    /// Empty where positions don't turn queries and keys.
    angles: &'a [f32],
}

impl Product<'_> {
    /// The queries in blocks, each with how many keys it sees at most.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let Attention { length, causal, .. } = *self.attention;
        let step = if causal { QUERIES } else { length };
        (0..length).step_by(step).map(move |first| {
            let end = length.min(first + step);
            (first..end, end)
        })
    }

    /// Some rows of `scores`, as far as they are seen: of queries by keys, which are given as
    /// `[width, length]`.
    fn scores(
        &self,
        scores: &mut [f32],
        (rows, seen): (Range<usize>, usize),
        queries: &[f32],
        keys: &[f32],
    ) {
        let Attention {
            length,
            head_floats,
            ..
        } = *self.attention;
        let out = (&mut scores[rows.start * length..rows.end * length], length);
        let queries = self.tall(queries).rows_from(rows.start, rows.len());
        let keys = Matrix::new(keys, head_floats, length).columns_from(0, seen);
        multiply_apart(self.level, self.block, out, false, queries, keys);
    }

    /// Some rows of `out`: sums of what is seen, weighted by `weights`.
    fn weighted(
        &self,
        out: &mut [f32],
        (rows, seen): (Range<usize>, usize),
        weights: &[f32],
        values: &[f32],
    ) {
        let width = self.attention.head_floats;
        let weights = self.square(weights).rows_from(rows.start, rows.len());
        let weights = weights.columns_from(0, seen);
        let values = self.tall(values).rows_from(0, seen);
        let out = &mut out[rows.start * width..rows.end * width];
        multiply(self.level, self.block, out, false, weights, values);
    }

    /// Some rows of `out`, one per key: sums over the queries that see it, weighted by `weights`.
    fn gathered(&self, out: &mut [f32], rows: Range<usize>, weights: &[f32], values: &[f32]) {
        let Attention {
            length,
            head_floats,
            causal,
            ..
        } = *self.attention;
        let out = &mut out[rows.start * head_floats..rows.end * head_floats];
        let mut first = if causal { rows.start } else { 0 };
        let mut accumulate = false;
        // In the blocks that the sums over all queries have.
        while first < length {
            let count = (self.block - first % self.block).min(length - first);
            let weights = self.square(weights).rows_from(first, count);
            let weights = weights.columns_from(rows.start, rows.len()).transposed();
            let values = self.tall(values).rows_from(first, count);
            multiply(self.level, self.block, out, accumulate, weights, values);
            (first, accumulate) = (first + count, true);
        }
    }

    /// Turns queries and keys, or with -1 their gradients back.
    fn turn(&self, heads: [&mut [f32]; 2], direction: f32) {
        if self.angles.is_empty() {
            return;
        }
        for head in heads {
            let pairs = self.attention.head_floats / 2;
            turn(self.level, head, self.angles, pairs, direction);
        }
    }

    fn tall<'a>(&self, head: &'a [f32]) -> Matrix<'a> {
        Matrix::new(head, self.attention.length, self.attention.head_floats)
    }

    fn square<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.attention.length, self.attention.length)
    }
}

/// The gradients of queries, keys and values; groups cut the rows.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::AttentionGrad {
        dy,
        x,
        dx,
        probabilities,
        attention,
        rotary,
        scratch,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let (input, output, square) = sizes(attention);
    let ends = context.ends(*x);
    let values = [
        Some(*dy),
        Some(*x),
        Some(*dx),
        Some(*probabilities),
        *rotary,
        *scratch,
    ];
    let [dy, x, dx, probabilities, angles, scratch] = context.arena.optional(values);
    let buffers = [
        (dy, rows * output),
        (x, rows * input),
        (dx, rows * input),
        (probabilities, rows * attention.heads * square),
        (scratch, attention.scratch_floats()),
    ];
    let angles = &*angles;
    each_group(
        groups,
        buffers,
        |group, [dy, x, dx, probabilities, scratch]| {
            let each = dy.chunks_exact(output).zip(x.chunks_exact(input));
            let each = each.zip(dx.chunks_exact_mut(input));
            let each = each.zip(probabilities.chunks_exact(attention.heads * square));
            for (row, (((dy, x), dx), probabilities)) in (group * rows..).zip(each) {
                let there = cut_to(attention, ends, row);
                let product = Product {
                    level,
                    block: plan.k_block,
                    attention: &there,
                    angles,
                };
                let mut scratch = cut(scratch, &there);
                dx.fill(0.0);
                for (head, p) in probabilities.chunks_exact(square).enumerate() {
                    let p = &p[..there.length * there.length];
                    let heads = heads(&there, head);
                    grad_head(&product, heads, [dy, x, p], dx, &mut scratch);
                }
            }
        },
    );
}

/// Adds one head's gradients to `dx`.
fn grad_head(
    product: &Product<'_>,
    [queries, keys, values, outputs]: [Head; 4],
    [dy, x, p]: [&[f32]; 3],
    dx: &mut [f32],
    scratch: &mut Scratch<'_>,
) {
    let (level, attention) = (product.level, product.attention);
    let (width, scale) = (attention.head_floats, scale(attention));
    let [q, k, v, d, dq, dk, dv] = &mut scratch.parts;
    gather(level, q, x, queries, width, scale);
    gather(level, k, x, keys, width, 1.0);
    gather(level, dv, x, values, width, 1.0);
    gather(level, d, dy, outputs, width, 1.0);
    product.turn([q, k], 1.0);
    lanes::transpose(level, v, dv, width, 0);
    let ds = &mut *scratch.square;
    for (rows, seen) in product.blocks() {
        product.scores(ds, (rows.clone(), seen), d, v);
        let range = rows.start * attention.length..rows.end * attention.length;
        let (ds, p) = (&mut ds[range.clone()], &p[range]);
        softmax_grad(level, ds, p, attention.length, seen);
    }
    for (rows, seen) in product.blocks() {
        product.gathered(dv, rows.clone(), p, d);
        product.gathered(dk, rows.clone(), ds, q);
        product.weighted(dq, (rows, seen), ds, k);
    }
    product.turn([dq, dk], -1.0);
    scatter(level, dx, dq, queries, width, scale, true);
    scatter(level, dx, dk, keys, width, 1.0, true);
    scatter(level, dx, dv, values, width, 1.0, true);
}

simd! {
    /// A head's numbers at all positions, one after the other and scaled.
    fn gather(out: &mut [f32], x: &[f32], head: Head, width: usize, scale: f32) {
        let positions = x.chunks_exact(head.stride);
        for (out, x) in out.chunks_exact_mut(width).zip(positions) {
            for (out, &x) in out.iter_mut().zip(&x[head.first..head.first + width]) {
                *out = x * scale;
            }
        }
    }

    /// The way back: sets or adds a head's numbers, scaled.
    fn scatter(x: &mut [f32], values: &[f32], head: Head, width: usize, scale: f32, add: bool) {
        let positions = x.chunks_exact_mut(head.stride);
        for (x, values) in positions.zip(values.chunks_exact(width)) {
            let x = &mut x[head.first..head.first + width];
            for (x, &value) in x.iter_mut().zip(values) {
                *x = if add { *x + value * scale } else { value * scale };
            }
        }
    }

    /// Each row's softmax, in place; a causal row ends at its own position.
    fn softmax(scores: &mut [f32], length: usize, causal: bool) {
        for (row, scores) in scores.chunks_exact_mut(length).enumerate() {
            let seen = if causal { row + 1 } else { length };
            // In whole registers, where the row has them; the last may reach beyond what is seen.
            let (scores, rest) = scores.split_at_mut(seen.next_multiple_of(LANES).min(length));
            rest.fill(0.0);
            scores[seen..].fill(f32::NEG_INFINITY);
            let max = maximum_of(scores);
            for score in scores.iter_mut() {
                *score = exp(*score - max);
            }
            scores[seen..].fill(0.0);
            let share = 1.0 / sum_of(scores, scores, |x, _| x);
            for score in scores.iter_mut() {
                *score *= share;
            }
        }
    }

    /// d = p (d - the sum over the row of p d), of what is seen. A probability of 0 gives 0.
    fn softmax_grad(d: &mut [f32], p: &[f32], length: usize, seen: usize) {
        for (d, p) in d.chunks_exact_mut(length).zip(p.chunks_exact(length)) {
            let (d, p) = (&mut d[..seen], &p[..seen]);
            let mean = sum_of(d, p, |d, p| d * p);
            for (d, &p) in d.iter_mut().zip(p) {
                *d = p * (*d - mean);
            }
        }
    }
}
