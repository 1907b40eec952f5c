//! The built-in step `normalise`: statistics of the training rows, and scaling by them.

use serde::{Deserialize, Serialize};
use stoker_model::{Normalise, Per, Scale, Span};

use crate::error::EngineError;
use crate::table::{Table, TargetRows};

/// What was taken from the training rows: x becomes (x - offset) * factor. One entry per feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    pub(crate) offset: Vec<f32>,
    pub(crate) factor: Vec<f32>,
}

/// What the `normalise` steps of a job took from the training rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Fitted {
    /// Of each step on features, in order.
    pub(crate) features: Vec<Statistics>,
    /// Of the step on the target.
    pub(crate) target: Option<Statistics>,
}

/// Minimum, maximum and sums of one group of numbers.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: f64,
    min: f64,
    max: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    const NONE: Self = Self {
        count: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        mean: 0.0,
        squares: 0.0,
    };

    /// Takes in a number (Welford 1962).
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        self.min = self.min.min(x);
        self.max = self.max.max(x);
        let off = x - self.mean;
        self.mean += off / self.count;
        self.squares += off * (x - self.mean);
    }

    /// Offset and factor. Numbers that never change are only moved, and those that are never there
    /// left alone.
    #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
    fn scaling(&self, scale: Scale) -> (f32, f32) {
        if self.count == 0.0 {
            return (0.0, 1.0);
        }
        let (offset, span) = match scale {
            Scale::Standard => (self.mean, (self.squares / self.count).sqrt()),
            Scale::MinMax => (self.min, self.max - self.min),
        };
        let factor = if span > 0.0 { 1.0 / span } else { 1.0 };
        (offset as f32, factor as f32)
    }
}

/// Takes the statistics of `rows`, of each of which `floats` numbers are there. What is in `ids` is
/// left as it is.
pub(crate) fn fit(
    config: Normalise,
    table: &Table,
    (rows, ids): (&[u64], &[Span]),
    floats: impl Fn(u64) -> usize,
) -> Result<Statistics, EngineError> {
    let width = table.width();
    let mut is_id = vec![false; width];
    for span in ids {
        is_id[span.first..][..span.count].fill(true);
    }
    let groups = match config.per {
        Per::Feature => width,
        Per::All => 1,
    };
    let mut moments = vec![Moments::NONE; groups];
    table.visit(rows.iter().copied(), &mut |id, row| {
        for (index, &x) in row.features[..floats(id)].iter().enumerate() {
            if !is_id[index] {
                moments[index % groups].add(f64::from(x));
            }
        }
        Ok(())
    })?;
    let scalings = moments.iter().map(|moments| moments.scaling(config.mode));
    let scalings = (scalings.cycle().zip(&is_id)).map(|(scaling, is_id)| match is_id {
        true => (0.0, 1.0),
        false => scaling,
    });
    let (offset, factor): (Vec<f32>, Vec<f32>) = scalings.unzip();
    Ok(Statistics { offset, factor })
}

/// Takes the statistics of the targets of `rows`.
pub(crate) fn fit_target(
    config: Normalise,
    table: &Table,
    rows: &[u64],
) -> Result<Statistics, EngineError> {
    let width = table.targets_per_row();
    let groups = match config.per {
        Per::Feature => width,
        Per::All => 1,
    };
    let mut moments = vec![Moments::NONE; groups];
    table.visit(rows.iter().copied(), &mut |_, row| {
        if let TargetRows::Values(values) = row.targets {
            for (index, &x) in values.iter().enumerate() {
                moments[index % groups].add(f64::from(x));
            }
        }
        Ok(())
    })?;
    let scalings = moments.iter().map(|moments| moments.scaling(config.mode));
    let (offset, factor): (Vec<f32>, Vec<f32>) = scalings.cycle().take(width).unzip();
    Ok(Statistics { offset, factor })
}

/// A row id as an index; ids come from a table in memory.
pub(crate) fn index_of(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}

impl Statistics {
    /// Scales numbers back, each of which has `each` of them in `scaled`: the quantiles of one, or
    /// itself.
    pub(crate) fn undo(&self, scaled: &[f32], each: usize, into: &mut Vec<f32>) {
        into.clear();
        let scalings = self.offset.iter().zip(&self.factor).cycle();
        let numbers = scaled.chunks_exact(each.max(1)).zip(scalings);
        into.extend(numbers.flat_map(|(numbers, (offset, factor))| {
            numbers.iter().map(move |x| x / factor + offset)
        }));
    }

    /// Scales rows of features.
    pub(crate) fn apply(&self, features: &mut [f32]) {
        for row in features.chunks_exact_mut(self.offset.len()) {
            for ((x, offset), factor) in row.iter_mut().zip(&self.offset).zip(&self.factor) {
                *x = (*x - offset) * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Targets;

    fn normalised(mode: Scale, per: Per) -> Vec<f32> {
        let features = vec![0.0, 10.0, 5.0, 2.0, 30.0, 5.0, 100.0, 100.0, 100.0];
        let table = Table::new(features, 3, Targets::Classes(vec![0; 3])).unwrap();
        let statistics = fit(
            Normalise {
                mode,
                per,
                ..Normalise::default()
            },
            &table,
            (&[0, 1], &[]),
            |_| 3,
        )
        .unwrap();
        let mut rows = [table.row(0), table.row(1)].concat();
        statistics.apply(&mut rows);
        rows
    }

    #[test]
    fn scales_by_the_training_rows_alone() {
        assert_eq!(
            normalised(Scale::MinMax, Per::Feature),
            [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
        );
        assert_eq!(
            normalised(Scale::Standard, Per::Feature),
            [-1.0, -1.0, 0.0, 1.0, 1.0, 0.0]
        );
        let all = normalised(Scale::MinMax, Per::All);
        assert_eq!((all[0], all[4]), (0.0, 1.0));
        let table = Table::new(vec![7.0, 1.0, 9.0, 3.0], 2, Targets::Classes(vec![0; 2])).unwrap();
        let id = Span { first: 0, count: 1 };
        let config = Normalise {
            mode: Scale::MinMax,
            per: Per::All,
            ..Normalise::default()
        };
        let Statistics { offset, factor } = fit(config, &table, (&[0, 1], &[id]), |_| 2).unwrap();
        assert_eq!((offset, factor), (vec![0.0, 1.0], vec![1.0, 0.5]));
        let mean: f32 = normalised(Scale::Standard, Per::All).iter().sum();
        assert!(mean.abs() < 1e-5);
    }
}
