//! Which rows are held out, and in which order the others come. Pure functions of the seeds, so
//! that a step's rows follow from its number.

use stoker_domain::job::FailureKind;
use stoker_domain::spec::SplitSpec;

use crate::error::EngineError;
use crate::normalise::index_of;
use crate::philox::{Purpose, Stream};
use crate::table::{Table, TargetKind, TargetRows};

/// Row ids of the two sides, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) train: Vec<u64>,
    pub(crate) test: Vec<u64>,
}

/// The two sides of a table: those it comes with, or as the spec has it.
///
/// # Errors
/// As [`hold_out`].
pub(crate) fn split(spec: &SplitSpec, table: &Table) -> Result<Split, EngineError> {
    let rows = table.rows();
    let drawn;
    let is_test = match table.held_out() {
        Some(sides) => sides,
        None => {
            let classes = match spec.stratify && table.targets_per_row() == 1 {
                true => classes(table)?,
                false => None,
            };
            drawn = hold_out(spec, rows, classes.as_deref())?;
            &drawn
        }
    };
    let side = |test: bool| {
        let rows = (0..)
            .zip(is_test)
            .filter(move |(_, is_test)| **is_test == test);
        rows.map(|(row, _)| row).collect::<Vec<u64>>()
    };
    let split = Split {
        train: side(false),
        test: side(true),
    };
    if split.train.is_empty() {
        return Err(none_left(split.test.len(), rows));
    }
    Ok(split)
}

/// The class of each row, where rows have one.
fn classes(table: &Table) -> Result<Option<Vec<u32>>, EngineError> {
    if table.kind() != TargetKind::Classes {
        return Ok(None);
    }
    let mut all = Vec::with_capacity(table.rows());
    table.visit(0..table.rows() as u64, &mut |_, row| {
        if let TargetRows::Classes(classes) = row.targets {
            all.extend_from_slice(classes);
        }
        Ok(())
    })?;
    Ok(Some(all))
}

fn none_left(held_out: usize, rows: usize) -> EngineError {
    let message = format!("{held_out} of {rows} rows held out: none is left to train on");
    EngineError::new(FailureKind::Data, message)
}

/// Holds out rows, at random or the last ones: the share's count is rounded up. Stratified, each
/// class gives its share, and what rounding leaves comes from the classes with the largest
/// remainders. `classes` holds the class of each row, where rows have one. Says for each row
/// whether it is held out.
///
/// # Errors
/// `data` when no row would be left to train on, `user` when values are to be stratified.
pub fn hold_out(
    spec: &SplitSpec,
    rows: usize,
    classes: Option<&[u32]>,
) -> Result<Vec<bool>, EngineError> {
    let held_out = index_of(spec.count_held_out(rows as u64));
    if held_out >= rows {
        return Err(none_left(held_out, rows));
    }
    let order = if spec.shuffle {
        shuffled(Stream::new(spec.seed, Purpose::Split, 0, 0), rows)
    } else {
        (0..rows as u64).rev().collect()
    };
    let mut is_test = vec![false; rows];
    if spec.stratify {
        let Some(classes) = classes else {
            let message = "split.stratify needs one class per row";
            return Err(EngineError::new(FailureKind::User, message));
        };
        let mut open = shares(classes, held_out);
        for &row in &order {
            let left = &mut open[classes[row as usize] as usize];
            if *left > 0 {
                *left -= 1;
                is_test[row as usize] = true;
            }
        }
    } else {
        for &row in &order[..held_out] {
            is_test[row as usize] = true;
        }
    }
    Ok(is_test)
}

/// How many rows of each class to hold out.
fn shares(classes: &[u32], held_out: usize) -> Vec<usize> {
    let count = classes.iter().max().map_or(0, |&max| max as usize + 1);
    let mut sizes = vec![0_usize; count];
    for &class in classes {
        sizes[class as usize] += 1;
    }
    let exact = |size: usize| size * held_out;
    let mut shares: Vec<usize> = sizes
        .iter()
        .map(|&size| exact(size) / classes.len())
        .collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&class| {
        (
            std::cmp::Reverse(exact(sizes[class]) % classes.len()),
            class,
        )
    });
    let left = held_out - shares.iter().sum::<usize>();
    for &class in order.iter().take(left) {
        shares[class] += 1;
    }
    shares
}

/// 0 to `count`, shuffled (Fisher and Yates).
fn shuffled(stream: Stream, count: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count as u64).collect();
    shuffle(stream, &mut order);
    order
}

/// Shuffles in place.
pub(crate) fn shuffle(stream: Stream, order: &mut [u64]) {
    for last in (1..order.len()).rev() {
        #[expect(clippy::cast_possible_truncation, reason = "below a slice's length")]
        let other = stream.below(last as u64, last as u64 + 1) as usize;
        order.swap(last, other);
    }
}

/// Windows of an epoch: rows that are shuffled among themselves and are in memory together, where
/// not all rows are. A table that fits in one is shuffled as a whole. A larger one is cut into
/// blocks of neighbouring rows, which are read at once; the blocks are shuffled, and then the rows
/// of the blocks that fall into the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Rows of a window: whole batches.
    rows: usize,
    /// Rows of a block.
    block: usize,
}

/// Blocks in a window, at least: as many places of the data set are mixed in it.
const BLOCKS: usize = 256;
/// Most bytes of a block, unless one row has more.
const BLOCK_BYTES: usize = 128 << 10;

impl Windows {
    /// Windows of about `bytes` for rows of `row_bytes` in batches of `batch` rows.
    pub(crate) fn new(bytes: usize, row_bytes: usize, batch: usize) -> Self {
        let batches = bytes / (row_bytes * batch).max(1);
        let rows = batches.max(1) * batch;
        let block = (rows / BLOCKS).min(BLOCK_BYTES / row_bytes.max(1));
        Self {
            rows,
            block: block.max(1),
        }
    }

    /// The windows of an order of rows.
    pub(crate) fn cut<'a>(&self, order: &'a mut [u64]) -> std::slice::ChunksMut<'a, u64> {
        order.chunks_mut(self.rows)
    }

    /// Which window the row at a place of the order is in.
    pub(crate) const fn index(&self, place: usize) -> usize {
        place / self.rows
    }

    /// The rows of a window; none behind the last.
    pub(crate) fn rows<'a>(&self, order: &'a [u64], window: usize) -> &'a [u64] {
        order.chunks(self.rows).nth(window).unwrap_or_default()
    }
}

/// What is shuffled in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffled {
    /// The rows of a window.
    Rows(usize),
    /// The batches of a window.
    Batches(usize),
    /// The blocks of the table.
    Blocks,
}

impl Shuffled {
    /// A stream of its own for each. Windows past the 32,766th share theirs with earlier ones.
    pub(crate) fn stream(self, seed: u64, epoch: u64) -> Stream {
        let site = |window: usize, of: u16| match window {
            0 => of,
            _ => 1 + 2 * u16::try_from(window % 0x7FFE).unwrap_or(0) + of,
        };
        let site = match self {
            Self::Rows(window) => site(window, 0),
            Self::Batches(window) => site(window, 1),
            Self::Blocks => u16::MAX,
        };
        Stream::new(seed, Purpose::Shuffle, site, epoch)
    }
}

/// The training rows in the order of an epoch, which counts from 0.
pub(crate) fn shuffle_epoch(
    seed: u64,
    epoch: u64,
    train: &[u64],
    windows: &Windows,
    order: &mut Vec<u64>,
) {
    order.clear();
    if train.len() <= windows.rows {
        order.extend_from_slice(train);
    } else {
        let mut blocks: Vec<u64> = (0..train.len().div_ceil(windows.block) as u64).collect();
        shuffle(Shuffled::Blocks.stream(seed, epoch), &mut blocks);
        for block in blocks {
            let rest = &train[index_of(block) * windows.block..];
            order.extend_from_slice(&rest[..windows.block.min(rest.len())]);
        }
    }
    for (index, window) in windows.cut(order).enumerate() {
        shuffle(Shuffled::Rows(index).stream(seed, epoch), window);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::table::Targets;

    fn spec(test: f64, stratify: bool) -> SplitSpec {
        SplitSpec {
            test,
            shuffle: true,
            seed: 4,
            stratify,
        }
    }

    fn sides(spec: &SplitSpec, targets: Targets) -> Result<Split, EngineError> {
        let rows = match &targets {
            Targets::Classes(classes) => classes.len(),
            _ => 0,
        };
        split(spec, &Table::new(vec![0.0; rows], 1, targets)?)
    }

    #[test]
    fn sides_are_disjoint_and_complete() {
        let targets = Targets::Classes((0..101).map(|i| i % 3).collect());
        for stratify in [false, true] {
            let split = sides(&spec(0.25, stratify), targets.clone()).unwrap();
            assert_eq!(split.test.len(), 26);
            let mut all = [split.train, split.test].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..101));
        }
    }

    #[test]
    fn without_shuffling_the_last_rows_are_held_out() {
        let last = SplitSpec {
            shuffle: false,
            ..spec(0.25, false)
        };
        let split = sides(&last, Targets::Classes(vec![0; 10])).unwrap();
        assert_eq!(split.test, [7, 8, 9]);
        assert_eq!(split.train, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn stratified_sides_keep_the_classes_shares() {
        let classes: Vec<u32> = (0..1000)
            .map(|i| u32::from(i % 10 == 0) + u32::from(i % 50 == 0))
            .collect();
        let split = sides(&spec(0.3, true), Targets::Classes(classes.clone())).unwrap();
        for (class, expected) in [(0, 270), (1, 24), (2, 6)] {
            let rows = split
                .test
                .iter()
                .filter(|&&row| classes[row as usize] == class);
            assert_eq!(rows.count(), expected, "class {class}");
        }
    }

    #[test]
    fn nothing_left_to_train_on_is_an_error() {
        let error = sides(&spec(0.9, false), Targets::Classes(vec![0])).unwrap_err();
        assert_eq!(error.kind, FailureKind::Data);
    }

    #[test]
    fn epochs_are_permutations_that_differ() {
        let train: Vec<u64> = (10..60).collect();
        let mut orders = Vec::new();
        for epoch in 0..3 {
            let mut order = Vec::new();
            shuffle_epoch(1, epoch, &train, &Windows::new(1 << 20, 4, 8), &mut order);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, train);
            orders.push(order);
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    }

    #[test]
    fn epochs_in_windows_mix_far_rows_and_leave_none_out() {
        let train: Vec<u64> = (0..100_003).map(|row| 2 * row).collect();
        let windows = Windows::new(8_000, 4, 10);
        assert_eq!(
            windows,
            Windows {
                rows: 2_000,
                block: 7
            }
        );
        let (mut order, mut next) = (Vec::new(), Vec::new());
        shuffle_epoch(1, 0, &train, &windows, &mut order);
        shuffle_epoch(1, 1, &train, &windows, &mut next);
        assert_ne!(order, next);
        let place = |row: &u64| row / (2 * 7);
        for window in order.chunks_exact(2_000) {
            let blocks: HashSet<u64> = window.iter().map(place).collect();
            assert!(blocks.len() <= 2_000 / 7 + 3, "a window holds whole blocks");
            let (low, high) = (blocks.iter().min(), blocks.iter().max());
            let span = high.unwrap() - low.unwrap();
            assert!(span > 12_000, "{span} of 14,286 blocks apart");
            let near = window
                .windows(2)
                .filter(|pair| place(&pair[0]) == place(&pair[1]));
            assert!(near.count() < 40, "rows of a block are apart");
        }
        order.sort_unstable();
        assert_eq!(order, train);
    }
}
