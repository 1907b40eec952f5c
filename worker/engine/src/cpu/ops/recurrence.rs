//! The recurrence of LSTMs and GRUs.
//!
//! Groups cut the rows, and each runs its whole loop over the positions alone: threads never wait
//! for each other. At a position the states of a group's rows are multiplied by the weights of a
//! block of units, all gates of a unit side by side, and the cells go over the products while these
//! are in the first-level cache.

mod cells;

use stoker_domain::spec::Cell;
use stoker_model::{Op, ParameterId, Plan, Recurrence};

use super::super::lanes;
use super::super::product::{Matrix, multiply};
use super::{Context, each_group};
use cells::{Back, BackBuffers, Buffers, Step};

/// Units side by side on the way forward, and on the way back.
const LANES: usize = Recurrence::LANES;
const GRAD_LANES: usize = Recurrence::GRAD_LANES;

/// The states of all positions, from zeros on; groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Recurrence {
        x,
        y,
        weight,
        biases,
        saved,
        previous,
        recurrence: of,
        packed,
        scratch,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let weight = context.parameter(*weight);
    let biases = biases.map(|bias| context.parameter(bias));
    let some = [Some(*x), Some(*y), Some(*saved), Some(*previous)];
    let [x, y, saved, previous] = some;
    let [x, y, saved, previous, packed, scratch] =
        (context.arena).optional([x, y, saved, previous, *packed, *scratch]);
    let (packed, bias) = packed.split_at_mut(packed.len() - blocks(of) * LANES * Recurrence::SUMS);
    pack(of, groups, packed, weight);
    pack_biases(of, bias, biases);
    let (packed, bias) = (&*packed, &*bias);
    let size = rows * of.length * of.units;
    let buffers = [
        (x, size * of.gates()),
        (y, size),
        (saved, size),
        (previous, size),
        (scratch, of.scratch_floats(rows)),
    ];
    each_group(groups, buffers, |_, [x, y, saved, previous, scratch]| {
        let rows = y.len() / (of.length * of.units);
        let states = rows * of.units;
        let [mut state, mut next, cells, product] =
            cut(scratch, [states, states, states, rows * of.gates() * LANES]);
        state.fill(0.0);
        cells.fill(0.0);
        for position in 0..of.length {
            for block in 0..blocks(of) {
                let size = of.units * of.gates() * LANES;
                let weight = &packed[block * size..][..size];
                let weight = Matrix::new(weight, of.units, of.gates() * LANES);
                let before = Matrix::new(state, rows, of.units);
                match position {
                    0 => product.fill(0.0),
                    _ => multiply(level, plan.k_block, product, false, before, weight),
                }
                let sums = LANES * Recurrence::SUMS;
                let step = Step {
                    of,
                    position,
                    first: block * LANES,
                    rows,
                    bias: &bias[block * sums..][..sums],
                    product,
                    state,
                };
                let mut buffers = Buffers {
                    x: &mut *x,
                    y: &mut *y,
                    saved: &mut *saved,
                    previous: &mut *previous,
                    cells: &mut *cells,
                    next: &mut *next,
                };
                match of.cell {
                    Cell::Lstm => cells::lstm(level, &step, &mut buffers),
                    Cell::Gru => cells::gru(level, &step, &mut buffers),
                }
            }
            std::mem::swap(&mut state, &mut next);
        }
    });
}

/// The gates' gradients, from the last position to the first; groups cut the rows, and each keeps
/// sums of its own for the biases.
pub(super) fn grad(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::RecurrenceGrad {
        dy,
        x,
        weight,
        biases,
        saved,
        previous,
        inner,
        recurrence: of,
        packed,
        scratch,
        partials,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let weight = context.parameter(*weight);
    let some = [Some(*dy), Some(*x), Some(*saved), Some(*previous)];
    let [dy, x, saved, previous] = some;
    let [dy, x, saved, previous, inner, packed, scratch, partials] =
        (context.arena).optional([dy, x, saved, previous, *inner, *packed, *scratch, *partials]);
    pack_grad(of, groups, packed, weight);
    let packed = &*packed;
    let (size, sums) = (rows * of.length * of.units, Recurrence::SUMS * of.units);
    let buffers = [
        (dy, size),
        (x, size * of.gates()),
        (saved, size),
        (previous, size),
        (inner, size * of.gates()),
        (scratch, of.scratch_grad_floats(rows)),
        (&mut *partials, sums),
    ];
    each_group(groups, buffers, |_, pieces| {
        let [dy, x, saved, previous, inner, scratch, sums] = pieces;
        let rows = dy.len() / (of.length * of.units);
        let gates = rows * of.in_features();
        let [mut after, mut now, carry, product] =
            cut(scratch, [gates, gates, rows * of.units, rows * GRAD_LANES]);
        carry.fill(0.0);
        sums.fill(0.0);
        for position in (0..of.length).rev() {
            for (block, first) in (0..of.units).step_by(GRAD_LANES).enumerate() {
                let size = of.in_features() * GRAD_LANES;
                let weight = &packed[block * size..][..size];
                let weight = Matrix::new(weight, of.in_features(), GRAD_LANES);
                let later = Matrix::new(after, rows, of.in_features());
                match position + 1 {
                    last if last == of.length => product.fill(0.0),
                    _ => multiply(level, plan.k_block, product, false, later, weight),
                }
                let step = Back {
                    of,
                    position,
                    first,
                    rows,
                    product,
                    dy,
                    saved,
                    previous,
                };
                let mut buffers = BackBuffers {
                    x: &mut *x,
                    inner: &mut *inner,
                    now: &mut *now,
                    carry: &mut *carry,
                    sums: &mut *sums,
                };
                match of.cell {
                    Cell::Lstm => cells::lstm_grad(level, &step, &mut buffers),
                    Cell::Gru => cells::gru_grad(level, &step, &mut buffers),
                }
            }
            std::mem::swap(&mut after, &mut now);
        }
    });
    let (total, others) = partials.split_at_mut(sums);
    for partial in others.chunks_exact(sums) {
        lanes::add(level, total, partial);
    }
    bias_gradients(of, plan, context.gradients, *biases, total);
}

const fn blocks(of: &Recurrence) -> usize {
    of.units.div_ceil(LANES)
}

/// The first of `sizes` floats each.
fn cut<const N: usize>(mut scratch: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (head, tail) = std::mem::take(&mut scratch).split_at_mut(size);
        scratch = tail;
        head
    })
}

/// W, `[gates, units, units]`, as `[blocks, units, gates, LANES]`; zeros where a block has no unit.
fn pack(of: &Recurrence, groups: usize, packed: &mut [f32], weight: &[f32]) {
    let (units, gates) = (of.units, of.gates());
    let size = units * gates * LANES;
    let some = blocks(of).div_ceil(groups);
    each_group(groups, [(packed, some * size)], |group, [packed]| {
        for (block, packed) in packed.chunks_exact_mut(size).enumerate() {
            let first = (group * some + block) * LANES;
            let count = LANES.min(units - first);
            if count < LANES {
                packed.fill(0.0);
            }
            for gate in 0..gates {
                for lane in 0..count {
                    let from = &weight[(gate * units + first + lane) * units..][..units];
                    let to = packed[gate * LANES + lane..].iter_mut();
                    for (to, &from) in to.step_by(gates * LANES).zip(from) {
                        *to = from;
                    }
                }
            }
        }
    });
}

/// The biases as `[blocks, SUMS, LANES]`: both together, but for the GRU's new state, which has one
/// inside and one outside of the reset gate.
fn pack_biases(of: &Recurrence, packed: &mut [f32], [input, hidden]: [&[f32]; 2]) {
    packed.fill(0.0);
    for (block, packed) in packed
        .chunks_exact_mut(LANES * Recurrence::SUMS)
        .enumerate()
    {
        let first = block * LANES;
        for lane in 0..LANES.min(of.units - first) {
            let at = |gate: usize| gate * of.units + first + lane;
            for gate in 0..Recurrence::SUMS {
                packed[gate * LANES + lane] = match (of.cell, gate) {
                    (Cell::Gru, 2) => input[at(2)],
                    (Cell::Gru, 3) => hidden[at(2)],
                    _ => input[at(gate)] + hidden[at(gate)],
                };
            }
        }
    }
}

/// W, `[gates units, units]`, as `[blocks, gates units, GRAD_LANES]`; zeros where a block has no
/// unit.
fn pack_grad(of: &Recurrence, groups: usize, packed: &mut [f32], weight: &[f32]) {
    let size = of.in_features() * GRAD_LANES;
    let some = of.units.div_ceil(GRAD_LANES).div_ceil(groups);
    each_group(groups, [(packed, some * size)], |group, [packed]| {
        for (block, packed) in packed.chunks_exact_mut(size).enumerate() {
            let first = (group * some + block) * GRAD_LANES;
            let count = GRAD_LANES.min(of.units - first);
            let rows = weight.chunks_exact(of.units);
            for (packed, row) in packed.chunks_exact_mut(GRAD_LANES).zip(rows) {
                packed[..count].copy_from_slice(&row[first..first + count]);
                packed[count..].fill(0.0);
            }
        }
    });
}

/// Gives the biases the sums of their gates' gradients.
fn bias_gradients(
    of: &Recurrence,
    plan: &Plan,
    gradients: &mut [f32],
    biases: [ParameterId; 2],
    sums: &[f32],
) {
    for (index, bias) in biases.into_iter().enumerate() {
        let gradient = super::gradient(gradients, plan, bias);
        let (gates, last) = gradient.split_at_mut((of.gates() - 1) * of.units);
        gates.copy_from_slice(&sums[..gates.len()]);
        // A GRU's hidden bias is behind the reset gate.
        let skip = if of.cell == Cell::Gru { index } else { 0 };
        last.copy_from_slice(&sums[gates.len() + skip * of.units..][..of.units]);
    }
}
