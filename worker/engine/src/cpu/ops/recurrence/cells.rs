#![expect(
    unsafe_code,
    reason = "calls of functions compiled for a detected instruction set"
)]
//! The cells of recurrent layers at one position, sixteen units side by side.

use stoker_model::Recurrence;

use super::super::super::simd::simd;
use super::{GRAD_LANES, LANES};
use crate::math::{sigmoid, tanh};

/// Numbers of sixteen units.
type Lanes = [f32; LANES];

/// A block of units at one position, of all rows of a group.
pub(super) struct Step<'a> {
    pub(super) of: &'a Recurrence,
    pub(super) position: usize,
    /// The block's first unit.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// `[SUMS, LANES]`.
    pub(super) bias: &'a [f32],
    /// The states before: `[rows, units]`.
    pub(super) state: &'a [f32],
}

/// What a step forward writes.
pub(super) struct Buffers<'a> {
    /// `[rows, length, gates, units]`: what the inputs give to the gates, and then the gates.
    pub(super) x: &'a mut [f32],
    /// `[rows, length, units]`, as are the next two.
    pub(super) y: &'a mut [f32],
    pub(super) saved: &'a mut [f32],
    pub(super) previous: &'a mut [f32],
    /// An LSTM's cells: `[rows, units]`.
    pub(super) cells: &'a mut [f32],
    /// The new states: `[rows, units]`.
    pub(super) next: &'a mut [f32],
    /// The states before times the weights, `[rows, gates, LANES]`, and then the gates.
    pub(super) product: &'a mut [f32],
}

/// The same on the way back.
pub(super) struct Back<'a> {
    pub(super) of: &'a Recurrence,
    pub(super) position: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
    /// The gates' gradients after it times the weights: `[rows, GRAD_LANES]`.
    pub(super) product: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) saved: &'a [f32],
    pub(super) previous: &'a [f32],
}

/// What a step back writes.
pub(super) struct BackBuffers<'a> {
    /// The gates, and then their gradients.
    pub(super) x: &'a mut [f32],
    /// Those of a GRU's second product: `[rows, length, gates, units]`.
    pub(super) inner: &'a mut [f32],
    /// What the second product's gradients are at this position: `[rows, gates, units]`.
    pub(super) now: &'a mut [f32],
    /// What is handed to the position before besides the product: `[rows, units]`.
    pub(super) carry: &'a mut [f32],
    /// Sums for the biases: `[SUMS, units]`.
    pub(super) sums: &'a mut [f32],
}

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = f(lane);
    }
    out
}

/// The numbers of `count` units, and zeros.
#[inline(always)]
fn load<const WHOLE: bool>(values: &[f32], at: usize, count: usize) -> Lanes {
    let mut out = [0.0; LANES];
    if WHOLE {
        out.copy_from_slice(&values[at..at + LANES]);
    } else {
        out[..count].copy_from_slice(&values[at..at + count]);
    }
    out
}

#[inline(always)]
fn store<const WHOLE: bool>(values: &mut [f32], at: usize, count: usize, lanes: &Lanes) {
    if WHOLE {
        values[at..at + LANES].copy_from_slice(lanes);
    } else {
        values[at..at + count].copy_from_slice(&lanes[..count]);
    }
}

#[inline(always)]
fn add<const WHOLE: bool>(values: &mut [f32], at: usize, count: usize, more: &Lanes) {
    let sum = load::<WHOLE>(values, at, count);
    store::<WHOLE>(values, at, count, &lanes(|lane| sum[lane] + more[lane]));
}

/// Asks for numbers that the next position needs: rows lie too far apart for the hardware to see
/// which come next.
#[inline(always)]
fn prefetch(values: &[f32], at: Option<usize>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(number) = at.and_then(|at| values.get(at)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the number is there, and the instruction is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(number).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// f of each. (An array's own `map` is compiled without the instruction set.)
#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

impl Step<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        LANES.min(self.of.units - self.first)
    }

    /// Where a row's gates are in x.
    #[inline(always)]
    fn gates_at(&self, row: usize) -> usize {
        (row * self.of.length + self.position) * self.of.in_features() + self.first
    }

    /// Adds to a gate's products what the inputs give to it, and its bias.
    #[inline(always)]
    fn add_inputs<const WHOLE: bool>(&self, gates: &mut [Lanes], x: &[f32], row: usize) {
        let (bias, _) = self.bias.as_chunks::<LANES>();
        for (gate, (sums, bias)) in gates.iter_mut().zip(bias).enumerate() {
            let at = self.gates_at(row) + gate * self.of.units;
            prefetch(x, Some(at + self.of.in_features()));
            let (x, product) = (load::<WHOLE>(x, at, self.count()), *sums);
            *sums = lanes(|l| product[l] + (x[l] + bias[l]));
        }
    }

    /// Keeps the gates, and the new state where it will be read.
    #[inline(always)]
    fn keep<const WHOLE: bool>(&self, to: &mut Buffers<'_>, row: usize) {
        let (units, count) = (self.of.units, self.count());
        let (gates, _) = to.product.as_chunks::<LANES>();
        let gates = &gates[row * self.of.gates()..][..self.of.gates()];
        for (gate, lanes) in gates.iter().enumerate() {
            store::<WHOLE>(to.x, self.gates_at(row) + gate * units, count, lanes);
        }
        let at = (row * self.of.length + self.position) * units + self.first;
        let state = load::<WHOLE>(to.next, row * units + self.first, count);
        store::<WHOLE>(to.y, at, count, &state);
        if self.position == 0 {
            store::<WHOLE>(to.previous, at, count, &[0.0; LANES]);
        }
        if self.position + 1 < self.of.length {
            store::<WHOLE>(to.previous, at + units, count, &state);
        }
    }

    #[inline(always)]
    fn lstm<const WHOLE: bool>(&self, to: &mut Buffers<'_>) {
        let (units, count) = (self.of.units, self.count());
        for row in 0..self.rows {
            let gates = &mut to.product[row * 4 * LANES..][..4 * LANES];
            let (gates, _) = gates.as_chunks_mut::<LANES>();
            self.add_inputs::<WHOLE>(gates, to.x, row);
            let [input, forget, new, output] = gates else {
                return;
            };
            each(input, sigmoid);
            each(forget, sigmoid);
            each(new, tanh);
            each(output, sigmoid);
            let at = row * units + self.first;
            let before = load::<WHOLE>(to.cells, at, count);
            let cell = lanes(|l| forget[l].mul_add(before[l], input[l] * new[l]));
            let mut size = cell;
            each(&mut size, tanh);
            let state = lanes(|l| output[l] * size[l]);
            store::<WHOLE>(to.cells, at, count, &cell);
            store::<WHOLE>(to.next, at, count, &state);
            let at = (row * self.of.length + self.position) * units + self.first;
            store::<WHOLE>(to.saved, at, count, &cell);
            self.keep::<WHOLE>(to, row);
        }
    }

    #[inline(always)]
    fn gru<const WHOLE: bool>(&self, to: &mut Buffers<'_>) {
        let (units, count) = (self.of.units, self.count());
        let (bias, _) = self.bias.as_chunks::<LANES>();
        let &[_, _, outer, inner] = bias else {
            return;
        };
        for row in 0..self.rows {
            let gates = &mut to.product[row * 3 * LANES..][..3 * LANES];
            let (gates, _) = gates.as_chunks_mut::<LANES>();
            self.add_inputs::<WHOLE>(&mut gates[..2], to.x, row);
            let [reset, update, new] = gates else {
                return;
            };
            each(reset, sigmoid);
            each(update, sigmoid);
            // The reset gate stands before the product of the new state.
            let behind = lanes(|l| new[l] + inner[l]);
            let x = load::<WHOLE>(to.x, self.gates_at(row) + 2 * units, count);
            let mut opened = lanes(|l| reset[l].mul_add(behind[l], x[l] + outer[l]));
            each(&mut opened, tanh);
            let at = row * units + self.first;
            let before = load::<WHOLE>(self.state, at, count);
            let state = lanes(|l| update[l].mul_add(before[l] - opened[l], opened[l]));
            *new = opened;
            store::<WHOLE>(to.next, at, count, &state);
            let at = (row * self.of.length + self.position) * units + self.first;
            store::<WHOLE>(to.saved, at, count, &behind);
            self.keep::<WHOLE>(to, row);
        }
    }
}

/// Where sixteen units of one row are.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    /// The first of them, and how many there are.
    first: usize,
    count: usize,
}

impl Back<'_> {
    /// Where the units' numbers are in a value of `[rows, length, units]`.
    #[inline(always)]
    fn state_at(&self, at: At) -> usize {
        (at.row * self.of.length + self.position) * self.of.units + at.first
    }

    /// The gradient by the state: of the output, and of the position after it.
    #[inline(always)]
    fn by_state<const WHOLE: bool>(&self, at: At) -> Lanes {
        let here = self.state_at(at);
        prefetch(self.dy, here.checked_sub(self.of.units));
        prefetch(self.saved, here.checked_sub(2 * self.of.units));
        let dy = load::<WHOLE>(self.dy, here, at.count);
        let from = at.row * GRAD_LANES + at.first - self.first;
        let product = load::<true>(self.product, from, LANES);
        lanes(|l| dy[l] + product[l])
    }

    #[inline(always)]
    fn gates<const WHOLE: bool, const N: usize>(&self, x: &[f32], at: At) -> [Lanes; N] {
        let from = self.gates_at(at);
        let mut gates = [[0.0; LANES]; N];
        for (gate, lanes) in gates.iter_mut().enumerate() {
            let from = from + gate * self.of.units;
            prefetch(x, from.checked_sub(self.of.in_features()));
            *lanes = load::<WHOLE>(x, from, at.count);
        }
        gates
    }

    #[inline(always)]
    fn gates_at(&self, at: At) -> usize {
        (at.row * self.of.length + self.position) * self.of.in_features() + at.first
    }

    #[inline(always)]
    fn put<const WHOLE: bool>(&self, x: &mut [f32], from: usize, at: At, gates: &[Lanes]) {
        for (gate, lanes) in gates.iter().enumerate() {
            store::<WHOLE>(x, from + gate * self.of.units, at.count, lanes);
        }
    }

    #[inline(always)]
    fn sum<const WHOLE: bool>(&self, sums: &mut [f32], at: At, gates: &[Lanes]) {
        for (gate, lanes) in gates.iter().enumerate() {
            add::<WHOLE>(sums, gate * self.of.units + at.first, at.count, lanes);
        }
    }

    #[inline(always)]
    fn lstm<const WHOLE: bool>(&self, to: &mut BackBuffers<'_>, at: At) {
        let units = self.of.units;
        let [input, forget, new, output] = self.gates::<WHOLE, 4>(to.x, at);
        let cell = load::<WHOLE>(self.saved, self.state_at(at), at.count);
        let before = match self.position {
            0 => [0.0; LANES],
            _ => load::<WHOLE>(self.saved, self.state_at(at) - units, at.count),
        };
        let mut size = cell;
        each(&mut size, tanh);
        let d = self.by_state::<WHOLE>(at);
        let carried = at.row * units + at.first;
        let after = load::<WHOLE>(to.carry, carried, at.count);
        let dcell = lanes(|l| (d[l] * output[l]).mul_add(1.0 - size[l] * size[l], after[l]));
        let gates = [
            lanes(|l| dcell[l] * new[l] * (input[l] * (1.0 - input[l]))),
            lanes(|l| dcell[l] * before[l] * (forget[l] * (1.0 - forget[l]))),
            lanes(|l| dcell[l] * input[l] * (1.0 - new[l] * new[l])),
            lanes(|l| d[l] * size[l] * (output[l] * (1.0 - output[l]))),
        ];
        let carry = lanes(|l| dcell[l] * forget[l]);
        store::<WHOLE>(to.carry, carried, at.count, &carry);
        self.put::<WHOLE>(to.x, self.gates_at(at), at, &gates);
        let now = at.row * self.of.in_features() + at.first;
        self.put::<WHOLE>(to.now, now, at, &gates);
        self.sum::<WHOLE>(to.sums, at, &gates);
    }

    #[inline(always)]
    fn gru<const WHOLE: bool>(&self, to: &mut BackBuffers<'_>, at: At) {
        let units = self.of.units;
        let [reset, update, new] = self.gates::<WHOLE, 3>(to.x, at);
        let inner = load::<WHOLE>(self.saved, self.state_at(at), at.count);
        let before = load::<WHOLE>(self.previous, self.state_at(at), at.count);
        let carried = at.row * units + at.first;
        let after = load::<WHOLE>(to.carry, carried, at.count);
        let d = self.by_state::<WHOLE>(at);
        let d = lanes(|l| d[l] + after[l]);
        let dupdate = lanes(|l| d[l] * (before[l] - new[l]) * (update[l] * (1.0 - update[l])));
        let dnew = lanes(|l| d[l] * (1.0 - update[l]) * (1.0 - new[l] * new[l]));
        let dreset = lanes(|l| dnew[l] * inner[l] * (reset[l] * (1.0 - reset[l])));
        let dinner = lanes(|l| dnew[l] * reset[l]);
        store::<WHOLE>(to.carry, carried, at.count, &lanes(|l| d[l] * update[l]));
        self.put::<WHOLE>(to.x, self.gates_at(at), at, &[dreset, dupdate, dnew]);
        let hidden = [dreset, dupdate, dinner];
        self.put::<WHOLE>(to.inner, self.gates_at(at), at, &hidden);
        let now = at.row * self.of.in_features() + at.first;
        self.put::<WHOLE>(to.now, now, at, &hidden);
        self.sum::<WHOLE>(to.sums, at, &[dreset, dupdate, dnew, dinner]);
    }
}

simd! {
    /// A step of an LSTM.
    fn lstm(step: &Step<'_>, to: &mut Buffers<'_>) {
        match step.count() {
            LANES => step.lstm::<true>(to),
            _ => step.lstm::<false>(to),
        }
    }

    /// A step of a GRU.
    fn gru(step: &Step<'_>, to: &mut Buffers<'_>) {
        match step.count() {
            LANES => step.gru::<true>(to),
            _ => step.gru::<false>(to),
        }
    }

    /// A step back of an LSTM.
    fn lstm_grad(step: &Back<'_>, to: &mut BackBuffers<'_>) {
        let end = step.of.units.min(step.first + GRAD_LANES);
        for first in (step.first..end).step_by(LANES) {
            let count = LANES.min(end - first);
            for row in 0..step.rows {
                match count {
                    LANES => step.lstm::<true>(to, At { row, first, count }),
                    _ => step.lstm::<false>(to, At { row, first, count }),
                }
            }
        }
    }

    /// A step back of a GRU.
    fn gru_grad(step: &Back<'_>, to: &mut BackBuffers<'_>) {
        let end = step.of.units.min(step.first + GRAD_LANES);
        for first in (step.first..end).step_by(LANES) {
            let count = LANES.min(end - first);
            for row in 0..step.rows {
                match count {
                    LANES => step.gru::<true>(to, At { row, first, count }),
                    _ => step.gru::<false>(to, At { row, first, count }),
                }
            }
        }
    }
}
