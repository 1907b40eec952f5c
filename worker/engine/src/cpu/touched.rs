//! Which rows of large embeddings' gradients a step touched.
//!
//! A step gives a gradient to a few of a large table's rows, and zeros to all others. So that its
//! cost doesn't grow with the table, zeros are neither written again, nor summed, nor checked: what
//! comes out are the bits of a gradient that is filled and summed in full.

use std::ops::Range;

use rayon::prelude::*;
use stoker_model::{Op, ParameterId, Plan};

use super::lanes;
use super::simd::Level;

/// Floats that one thread adds or checks at a time.
const CHUNK: usize = 1 << 14;

/// Floats of a table for each row that a step may touch, at least: lists take little beside it.
const SHARE: usize = 8;

/// The tables whose touched rows are known, and what lies between them in a gradient buffer.
pub(crate) struct Touched {
    tables: Vec<Table>,
    rest: Vec<Range<usize>>,
}

/// The gradient of one embedding. In each buffer of the tree it is zero but for the rows listed.
pub(crate) struct Table {
    parameter: ParameterId,
    /// Where it is in a gradient buffer.
    range: Range<usize>,
    units: usize,
    /// Row indices, some perhaps more than once, per buffer of the tree.
    rows: Vec<Vec<u32>>,
    /// Whether others wrote to the first buffer, so that any row may not be zero there.
    lost: bool,
}

impl Touched {
    /// Room for what the shards of a step can touch. Tables that have hardly more than that are left
    /// alone, as are those with a gradient of another operation too.
    pub(crate) fn new(plan: &Plan, slots: usize) -> Self {
        let writers = |id: ParameterId| {
            let written = plan.backward.iter().flat_map(|k| k.op.gradients());
            written.flatten().filter(|&other| other == id).count()
        };
        let mut tables: Vec<Table> = Vec::new();
        for kernel in &plan.backward {
            let Op::EmbeddingGrad {
                x,
                weight,
                vocabulary,
                units,
                ..
            } = kernel.op
            else {
                continue;
            };
            let most = plan.values[x.0].floats * plan.shards;
            if most > vocabulary.min(vocabulary * units / SHARE) || writers(weight) > 1 {
                continue;
            }
            let parameter = &plan.parameters[weight.0];
            let lists = (0..slots).map(|_| Vec::with_capacity(most));
            tables.push(Table {
                parameter: weight,
                range: parameter.offset..parameter.offset + parameter.floats,
                units,
                rows: lists.collect(),
                lost: false,
            });
        }
        tables.sort_by_key(|table| table.range.start);
        let mut rest = Vec::with_capacity(tables.len() + 1);
        let mut start = 0;
        for table in &tables {
            rest.push(start..table.range.start);
            start = table.range.end;
        }
        rest.push(start..plan.parameter_floats);
        Self { tables, rest }
    }

    /// The table of an embedding's weight, where its rows are kept.
    pub(crate) fn table(&mut self, weight: ParameterId) -> Option<&mut Table> {
        let mut tables = self.tables.iter_mut();
        tables.find(|table| table.parameter == weight)
    }

    /// Makes a buffer all zeros.
    pub(crate) fn clear(&mut self, slot: usize, gradients: &mut [f32]) {
        for range in &self.rest {
            gradients[range.clone()].fill(0.0);
        }
        for table in &mut self.tables {
            let own = &mut gradients[table.range.clone()];
            if table.known(slot).is_none() {
                own.fill(0.0);
                table.lost = false;
            }
            for row in table.rows[slot].drain(..) {
                own[row as usize * table.units..][..table.units].fill(0.0);
            }
        }
    }

    /// Adds the buffer of slot `left + 1` to that of slot `left`. The former's tables are zeros then.
    pub(crate) fn add(&mut self, level: Level, left: usize, sums: &mut [f32], other: &mut [f32]) {
        for range in &self.rest {
            (sums[range.clone()].par_chunks_mut(CHUNK))
                .zip(other[range.clone()].par_chunks(CHUNK))
                .for_each(|(sums, other)| lanes::add(level, sums, other));
        }
        for table in &mut self.tables {
            let (sums, other) = (
                &mut sums[table.range.clone()],
                &mut other[table.range.clone()],
            );
            let (kept, added) = table.rows.split_at_mut(left + 1);
            let (Some(kept), Some(added)) = (kept.last_mut(), added.first_mut()) else {
                continue;
            };
            for row in added.drain(..) {
                // A row that is listed again is zeros by then.
                let at = row as usize * table.units..(row as usize + 1) * table.units;
                lanes::add(level, &mut sums[at.clone()], &other[at.clone()]);
                other[at].fill(0.0);
                kept.push(row);
            }
        }
    }

    /// The first buffer was changed elsewhere: until it is written anew any row may not be zero.
    pub(crate) fn lose(&mut self) {
        self.tables.iter_mut().for_each(|table| table.lost = true);
    }

    /// Whether all numbers of the first buffer are finite.
    pub(crate) fn all_finite(&self, level: Level, gradients: &[f32]) -> bool {
        let rest = self.rest.iter().all(|range| {
            let chunks = gradients[range.clone()].par_chunks(CHUNK);
            chunks.all(|chunk| lanes::all_finite(level, chunk))
        });
        let table_is = |table: &Table| {
            let own = &gradients[table.range.clone()];
            let row = |&row: &u32| &own[row as usize * table.units..][..table.units];
            match table.known(0) {
                Some(rows) => rows.iter().all(|at| lanes::all_finite(level, row(at))),
                None => lanes::all_finite(level, own),
            }
        };
        rest && self.tables.iter().all(table_is)
    }
}

impl Table {
    /// The rows of a slot that aren't zero, where they are known.
    pub(crate) fn known(&self, slot: usize) -> Option<&[u32]> {
        (slot > 0 || !self.lost).then(|| self.rows[slot].as_slice())
    }

    /// Lists the rows of a slot, all others of which are zero now.
    pub(crate) fn list(&mut self, slot: usize, rows: impl Iterator<Item = usize>) {
        self.lost &= slot > 0;
        self.rows[slot].clear();
        self.rows[slot].extend(rows.map(|row| u32::try_from(row).unwrap_or(u32::MAX)));
    }
}
