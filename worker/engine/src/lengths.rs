//! How long the rows of a table are, and batches of rows of similar length.

use stoker_model::{Padding, Plan};

use crate::error::EngineError;
use crate::normalise::index_of;
use crate::order::shuffle;
use crate::philox::Stream;
use crate::table::{Table, TargetRows};

/// Batches whose rows are sorted by length among themselves. Fewer would waste more positions,
/// more would leave less to chance.
const WINDOW: usize = 32;

/// The lengths of all rows, in positions, and what batches are cut to.
#[derive(Clone)]
pub(crate) struct Lengths {
    rows: Vec<u32>,
    padding: Padding,
    /// Positions of each body of the plan, ascending.
    buckets: Vec<usize>,
    /// Whether there is a target at each position.
    per_position: bool,
    /// For sorting: the length of a row, where it is in its window, and the row.
    window: Vec<(u32, u32, u64)>,
    /// The order of batches, and rows on their way to it.
    batches: Vec<u64>,
    sorted: Vec<u64>,
}

impl Lengths {
    /// Measures the rows, where the plan has an end for them: up to the last position that isn't
    /// all padding, and at least 1.
    ///
    /// # Errors
    /// `platform` when the rows can't be read.
    pub(crate) fn new(plan: &Plan, table: &Table) -> Result<Option<Self>, EngineError> {
        let Some(padding) = plan.padding else {
            return Ok(None);
        };
        let mut rows = Vec::with_capacity(table.rows());
        table.visit(0..table.rows() as u64, &mut |_, row| {
            let positions = row.features.rchunks_exact(padding.columns);
            let all_padding = |position: &&[f32]| position.iter().all(|&x| x == padding.value);
            let left = padding.positions - positions.take_while(all_padding).count();
            rows.push(u32::try_from(left.max(1)).unwrap_or(u32::MAX));
            Ok(())
        })?;
        let shorter = plan.shorter.iter().filter_map(|plan| plan.padding);
        let buckets: Vec<usize> = shorter
            .chain([padding])
            .map(|padding| padding.positions)
            .collect();
        let batch = plan.rows * plan.shards;
        let room = if buckets.len() > 1 { table.rows() } else { 0 };
        Ok(Some(Self {
            rows,
            padding,
            buckets,
            per_position: plan.input.target.per_position(),
            window: Vec::with_capacity(room.min(WINDOW * batch)),
            batches: Vec::with_capacity(room / batch),
            sorted: Vec::with_capacity(room),
        }))
    }

    /// Positions of a row.
    pub(crate) fn of(&self, row: u64) -> u32 {
        self.rows[index_of(row)]
    }

    /// Numbers of a row that are there.
    pub(crate) fn floats(&self, row: u64) -> usize {
        self.of(row) as usize * self.padding.columns
    }

    /// Positions of the first bucket that holds all rows of a batch.
    pub(crate) fn bucket(&self, batch: &[u64]) -> usize {
        let longest = batch.iter().map(|&row| self.of(row) as usize).max();
        let mut buckets = self.buckets.iter().copied();
        let holds = buckets.find(|&positions| longest.unwrap_or(1) <= positions);
        holds.unwrap_or(self.padding.positions)
    }

    /// Numbers and targets of a row that is cut to so many positions.
    pub(crate) const fn cut(&self, positions: usize, targets: usize) -> (usize, usize) {
        let targets = if self.per_position {
            positions
        } else {
            targets
        };
        (positions * self.padding.columns, targets)
    }

    /// Sorts rows by their length; those of one length keep their order.
    pub(crate) fn sort(&self, order: &mut [u64]) {
        if self.buckets.len() > 1 {
            order.sort_by_key(|&row| self.of(row));
        }
    }

    /// Brings the rows of an epoch, in random order, to an order in which those of a batch have
    /// similar lengths. The rows of a last batch that isn't full stay where they are, so that
    /// `drop_last` leaves out any, and not the longest; the rest is sorted in windows, and its
    /// batches are shuffled.
    ///
    /// `stream` shuffles the batches.
    pub(crate) fn arrange(&mut self, stream: Stream, batch: usize, order: &mut [u64]) {
        let count = order.len() / batch;
        if self.buckets.len() == 1 || count == 0 {
            return;
        }
        let order = &mut order[..count * batch];
        self.sorted.clear();
        for rows in order.chunks(WINDOW * batch) {
            self.window.clear();
            let keyed = (0..)
                .zip(rows)
                .map(|(at, &row)| (self.rows[index_of(row)], at, row));
            self.window.extend(keyed);
            self.window.sort_unstable();
            self.sorted.extend(self.window.iter().map(|&(.., row)| row));
        }
        self.batches.clear();
        self.batches.extend(0..count as u64);
        shuffle(stream, &mut self.batches);
        for (to, &from) in order.chunks_exact_mut(batch).zip(&self.batches) {
            to.copy_from_slice(&self.sorted[index_of(from) * batch..][..batch]);
        }
    }
}

/// The predictions at positions that are there, one after the other.
#[derive(Default)]
pub(crate) struct There {
    scores: Vec<f32>,
    classes: Vec<u32>,
}

impl There {
    /// Those of a shard, with `outputs` scores each; all where no row ends early.
    pub(crate) fn of<'a>(
        &'a mut self,
        (scores, outputs): (&'a [f32], usize),
        targets: TargetRows<'a>,
        lengths: &[u32],
    ) -> (&'a [f32], TargetRows<'a>) {
        let positions = match targets {
            TargetRows::Classes(classes) => classes.len().checked_div(lengths.len()),
            TargetRows::Values(_) => None,
        };
        let (Some(positions @ 2..), TargetRows::Classes(classes)) = (positions, targets) else {
            return (scores, targets);
        };
        self.scores.clear();
        self.classes.clear();
        let rows = (scores.chunks_exact(positions * outputs)).zip(classes.chunks_exact(positions));
        for ((scores, classes), &length) in rows.zip(lengths) {
            let there = positions.min(length as usize);
            self.scores.extend_from_slice(&scores[..there * outputs]);
            self.classes.extend_from_slice(&classes[..there]);
        }
        (&self.scores, TargetRows::Classes(&self.classes))
    }
}

#[cfg(test)]
mod tests;
