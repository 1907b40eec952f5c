//! Statistics of a column, in one pass that several threads can share.

use std::collections::HashSet;

use stoker_domain::dataset::{ColumnKind, Statistics};

/// Most different values that are counted.
const DISTINCT_MAX: usize = 65_536;
/// Most values outside the bit map that all columns of a file may hold for counting.
const OTHERS_MAX: usize = 4 << 20;
/// Largest magnitude up to which an `f64` tells every whole number from the next.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Memory for counting that the columns of a file share: a file with many columns of many values
/// loses the count of those that came late, not the process its memory.
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(OTHERS_MAX)
    }
}

/// Min, max, mean and deviation of values so far (merged as Chan, Golub and LeVeque 1979 do).
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    count: f64,
    min: f64,
    max: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Those of some values, none of them NaN.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (mut count, mut sum) = (0.0, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.clone() {
            count += 1.0;
            sum += value;
            min = value.min(min);
            max = value.max(max);
        }
        // A mean within the range: a sum's last bit must not carry it out.
        let mean = (sum / count).clamp(min, max);
        let squares = values.map(|value| (value - mean) * (value - mean)).sum();
        Self {
            count,
            min,
            max,
            mean,
            squares,
        }
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * (other.count / count);
        self.squares += other.squares + delta * delta * (self.count * other.count / count);
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Statistics of values so far, and the number of different whole values.
#[derive(Debug, Default)]
pub(crate) struct Running {
    moments: Moments,
    fractional: bool,
    distinct: Distinct,
}

impl Running {
    /// Adds values; NaN is none.
    pub(crate) fn add(&mut self, values: &[f64], budget: &mut Budget) {
        let there = values.iter().copied().filter(|value| !value.is_nan());
        if there.clone().next().is_none() {
            return;
        }
        self.moments.merge(&Moments::of(there.clone()));
        if self.fractional {
            return;
        }
        let is_whole = |value: f64| value.fract() == 0.0 && value.abs() <= WHOLE_MAX;
        if !there.clone().all(is_whole) {
            self.fractional = true;
            self.distinct.give_up(budget);
            return;
        }
        there.for_each(|value| self.distinct.add(value as i64, budget));
    }

    /// What the values are, and their statistics; `None` when there were no values.
    pub(crate) fn finish(&self) -> Option<(ColumnKind, Statistics)> {
        let kind = if self.fractional {
            ColumnKind::Float
        } else {
            ColumnKind::Integer
        };
        let Moments {
            count,
            min,
            max,
            mean,
            squares,
        } = self.moments;
        let statistics = Statistics {
            min,
            max,
            mean: mean.clamp(min, max),
            deviation: (squares / count).max(0.0).sqrt(),
            distinct: self.distinct.count(),
        };
        (count > 0.0).then_some((kind, statistics))
    }
}

/// Counts different whole numbers: a bit map for 0 to 65,535, which labels and pixels are, and a
/// set for all others.
#[derive(Debug, Default)]
struct Distinct {
    bits: Vec<u64>,
    in_bits: usize,
    others: HashSet<i64>,
    gave_up: bool,
}

impl Distinct {
    fn add(&mut self, value: i64, budget: &mut Budget) {
        if self.gave_up {
            return;
        }
        match usize::try_from(value) {
            Ok(index) if index < DISTINCT_MAX => {
                let (word, bit) = (index / 64, 1 << (index % 64));
                if self.bits.len() <= word {
                    self.bits.resize(word + 1, 0);
                }
                self.in_bits += usize::from(self.bits[word] & bit == 0);
                self.bits[word] |= bit;
            }
            _ => {
                if self.others.insert(value) {
                    match budget.0.checked_sub(1) {
                        Some(left) => budget.0 = left,
                        None => return self.give_up_unpaid(budget),
                    }
                }
            }
        }
        if self.in_bits + self.others.len() > DISTINCT_MAX {
            self.give_up(budget);
        }
    }

    /// As [`Self::give_up`], when the newest value was never paid for.
    fn give_up_unpaid(&mut self, budget: &mut Budget) {
        self.give_up(budget);
        budget.0 = budget.0.saturating_sub(1);
    }

    fn give_up(&mut self, budget: &mut Budget) {
        budget.0 += self.others.len();
        *self = Self {
            gave_up: true,
            ..Self::default()
        };
    }

    fn count(&self) -> Option<u64> {
        (!self.gave_up).then_some((self.in_bits + self.others.len()) as u64)
    }
}
