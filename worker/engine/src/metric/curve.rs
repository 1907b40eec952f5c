//! Measures of how well scores tell the rows of a class from the others, over all thresholds.

use stoker_domain::spec::Measure;
use stoker_model::Labels;

use super::points::{Curve, Thinned};
use super::state::{Reader, misfit, put};
use super::{Metric, counted, has_nan, is_there};
use crate::error::EngineError;
use crate::math::{exp_down, ln};
use crate::table::TargetRows;

/// Most scores that are kept one by one; with more, all are put into bins.
pub(super) const EXACT_MAX: usize = 1 << 22;
/// Bins of a class, over log-odds of -32 to 32.
const BINS: usize = 1 << 16;
const BINS_FROM: f64 = -32.0;
const BINS_PER_ONE: f64 = 1024.0;

/// `roc_auc` and `pr_auc`. Scores are log-odds: of two classes the difference of both scores, of
/// more those of a class by the softmax against all others, which tell apart what probabilities
/// round to 1.
#[derive(Debug)]
pub(super) struct Curves {
    measure: Measure,
    labels: Labels,
    exact_max: usize,
    /// Of each class.
    series: Vec<Series>,
    undefined: bool,
    /// Of the row in hand: e to each score, ascending.
    shares: Vec<f64>,
    odds: Vec<f64>,
}

/// The scores of one class: of the rows that are of another, and of those that are of it.
#[derive(Debug, Clone)]
enum Series {
    /// As numbers that sort like the scores.
    Exact([Vec<u64>; 2]),
    /// How many are in each bin.
    Binned(Vec<[u64; 2]>),
}

/// What a threshold adds: rows of other classes, and of the class.
#[derive(Debug, Clone, Copy)]
struct Step {
    score: f64,
    others: u64,
    own: u64,
}

impl Curves {
    pub(super) fn new(measure: Measure, labels: Labels) -> Self {
        Self::with_limit(measure, labels, EXACT_MAX)
    }

    pub(super) fn with_limit(measure: Measure, labels: Labels, exact_max: usize) -> Self {
        let count = match labels {
            Labels::Classes(2) => 1,
            Labels::Classes(count) | Labels::Logits { columns: count } => count,
        };
        Self {
            measure,
            labels,
            exact_max,
            series: vec![Series::Exact([Vec::new(), Vec::new()]); count],
            undefined: false,
            shares: Vec::new(),
            odds: Vec::new(),
        }
    }

    fn add(&mut self, series: usize, score: f64, own: bool) {
        if score.is_nan() {
            self.undefined = true;
            return;
        }
        match &mut self.series[series] {
            Series::Exact(scores) => scores[usize::from(own)].push(key(score)),
            Series::Binned(bins) => bins[bin(score)][usize::from(own)] += 1,
        }
    }

    fn add_row(&mut self, row: &[f32], class: usize) {
        if has_nan(row) {
            self.undefined = true;
        } else if let [other, own] = row {
            self.add(0, f64::from(*own) - f64::from(*other), class == 1);
        } else {
            self.find_odds(row);
            for index in 0..row.len() {
                self.add(index, self.odds[index], class == index);
            }
        }
    }

    /// The log-odds of each class of a row.
    fn find_odds(&mut self, row: &[f32]) {
        let best = super::first_maximum(row);
        let from = |highest: f64| move |&score: &f32| exp_down(f64::from(score) - highest);
        let highest = f64::from(row[best]);
        // In ascending order, so that rows of the same scores in another order are equal.
        self.shares.clear();
        self.shares.extend(row.iter().map(from(highest)));
        self.shares.sort_unstable_by(f64::total_cmp);
        let sum: f64 = self.shares.iter().sum();
        self.odds.clear();
        let odds = |score: &f32| {
            let below = f64::from(*score) - highest;
            below - ln(sum - exp_down(below))
        };
        self.odds.extend(row.iter().map(odds));
        // The others of the best would be lost in the difference.
        let others = || {
            row.iter()
                .enumerate()
                .filter(move |(index, _)| *index != best)
                .map(|(_, s)| s)
        };
        let second = f64::from(others().copied().fold(f32::NEG_INFINITY, f32::max));
        self.shares.clear();
        self.shares.extend(others().map(from(second)));
        self.shares.sort_unstable_by(f64::total_cmp);
        let of_best = (highest - second) - ln(self.shares.iter().sum());
        for (odds, score) in self.odds.iter_mut().zip(row) {
            if *score >= row[best] {
                *odds = of_best;
            }
        }
    }

    /// Puts all scores into bins once there are too many.
    fn limit(&mut self) {
        let exact = self.series.iter().map(Series::exact).sum::<usize>();
        let binned = self.series.iter().any(|s| matches!(s, Series::Binned(_)));
        if binned || exact > self.exact_max {
            self.series.iter_mut().for_each(Series::put_into_bins);
        }
    }

    /// The value of one class; nothing where it is undefined.
    fn area(series: &mut Series, measure: Measure) -> Option<f64> {
        let [others, own] = series.totals();
        match measure {
            Measure::RocAuc => {
                let pairs = u128::from(others) * u128::from(own);
                let (mut below, mut twice) = (others, 0);
                series.for_each(&mut |step| {
                    below -= step.others;
                    twice += u128::from(step.own) * u128::from(2 * below + step.others);
                });
                (pairs > 0).then(|| twice as f64 / (2 * pairs) as f64)
            }
            _ => {
                let (mut above, mut found, mut sum) = (0, 0, 0.0);
                series.for_each(&mut |step| {
                    above += step.own + step.others;
                    found += step.own;
                    sum += step.own as f64 / own as f64 * (found as f64 / above as f64);
                });
                Some(if own == 0 { 0.0 } else { sum })
            }
        }
    }

    /// The points of one class's curve.
    fn curve(series: &mut Series, measure: Measure, label: (&'static str, usize)) -> Option<Curve> {
        let area = Self::area(series, measure)?;
        let [others, own] = series.totals().map(|count| count as f64);
        let (mut wrong, mut right) = (0.0, 0.0);
        let mut points = if measure == Measure::RocAuc {
            Thinned::new(2.0)
        } else {
            Thinned::new(1.0)
        };
        match measure {
            Measure::RocAuc => points.add((0.0, 0.0), [0.0, 0.0, f64::INFINITY]),
            _ => points.add((0.0, 1.0), [1.0, 0.0, f64::INFINITY]),
        }
        series.for_each(&mut |step| {
            wrong += step.others as f64;
            right += step.own as f64;
            let probability = match step.score {
                score if score < 0.0 => 1.0 - 1.0 / (1.0 + exp_down(score)),
                score => 1.0 / (1.0 + exp_down(-score)),
            };
            let found = if own > 0.0 { right / own } else { 0.0 };
            match measure {
                Measure::RocAuc => {
                    let wrongly = wrong / others;
                    points.add(
                        (wrongly + found, found - wrongly),
                        [wrongly, found, probability],
                    );
                }
                _ => {
                    let precision = right / (right + wrong);
                    points.add((found, precision), [precision, found, probability]);
                }
            }
        });
        Some(Curve {
            label,
            area,
            points: points.finish(),
        })
    }
}

impl Series {
    /// Scores that are kept one by one.
    fn exact(&self) -> usize {
        match self {
            Self::Exact(scores) => scores.iter().map(Vec::len).sum(),
            Self::Binned(_) => 0,
        }
    }

    fn totals(&self) -> [u64; 2] {
        match self {
            Self::Exact(scores) => [0, 1].map(|own| scores[own].len() as u64),
            Self::Binned(bins) => [0, 1].map(|own| bins.iter().map(|bin| bin[own]).sum()),
        }
    }

    fn put_into_bins(&mut self) {
        if let Self::Exact(scores) = self {
            let mut bins = vec![[0, 0]; BINS];
            for (own, scores) in scores.iter().enumerate() {
                for &score in scores {
                    bins[bin(score_of(score))][own] += 1;
                }
            }
            *self = Self::Binned(bins);
        }
    }

    /// All thresholds, from the highest.
    fn for_each(&mut self, take: &mut dyn FnMut(Step)) {
        match self {
            Self::Exact([others, own]) => {
                others.sort_unstable();
                own.sort_unstable();
                let mut left = [others.as_slice(), own.as_slice()];
                while let Some(&next) = left.iter().filter_map(|scores| scores.last()).max() {
                    let [others, own] = left.each_mut().map(|scores| {
                        let below = scores.partition_point(|&score| score < next);
                        let equal = scores.len() - below;
                        *scores = &scores[..below];
                        equal as u64
                    });
                    let score = score_of(next);
                    take(Step { score, others, own });
                }
            }
            Self::Binned(bins) => {
                let bins = bins.iter().enumerate().rev();
                for (index, &[others, own]) in bins.filter(|(_, bin)| **bin != [0, 0]) {
                    let score = BINS_FROM + (index as f64 + 0.5) / BINS_PER_ONE;
                    take(Step { score, others, own });
                }
            }
        }
    }

    fn save(&self, state: &mut Vec<u8>) {
        match self {
            Self::Exact(scores) => {
                for scores in scores {
                    put(state, scores.len() as u64);
                    scores.iter().for_each(|&score| put(state, score));
                }
            }
            Self::Binned(bins) => {
                let used = bins.iter().enumerate().filter(|(_, bin)| **bin != [0, 0]);
                put(state, used.clone().count() as u64);
                for (index, &[others, own]) in used {
                    for number in [index as u64, others, own] {
                        put(state, number);
                    }
                }
            }
        }
    }

    fn merge(&mut self, state: &mut Reader<'_>, binned: bool) -> Result<(), EngineError> {
        if binned {
            self.put_into_bins();
            for _ in 0..state.number()? {
                let index = usize::try_from(state.number()?).unwrap_or(usize::MAX);
                let counts = [state.number()?, state.number()?];
                if let Self::Binned(bins) = self
                    && let Some(bin) = bins.get_mut(index)
                {
                    (0..2).for_each(|own| bin[own] += counts[own]);
                }
            }
            return Ok(());
        }
        for own in 0..2 {
            for _ in 0..state.number()? {
                let score = state.number()?;
                match self {
                    Self::Exact(scores) => scores[own].push(score),
                    Self::Binned(bins) => bins[bin(score_of(score))][own] += 1,
                }
            }
        }
        Ok(())
    }
}

/// A number that sorts like the score.
fn key(score: f64) -> u64 {
    // 0 for -0.
    let bits = (score + 0.0).to_bits();
    let negative = bits >> 63 == 1;
    if negative { !bits } else { bits | 1 << 63 }
}

fn score_of(key: u64) -> f64 {
    let positive = key >> 63 == 1;
    f64::from_bits(if positive { key & !(1 << 63) } else { !key })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the bins"
)]
fn bin(score: f64) -> usize {
    let at = (score - BINS_FROM) * BINS_PER_ONE;
    at.clamp(0.0, (BINS - 1) as f64) as usize
}

impl Metric for Curves {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        match (self.labels, targets) {
            (Labels::Classes(_), TargetRows::Classes(classes)) => {
                for (row, class) in counted(scores, outputs, classes) {
                    self.add_row(row, class);
                }
            }
            (Labels::Logits { columns }, TargetRows::Values(values)) => {
                for (index, (&score, &value)) in scores.iter().zip(values).enumerate() {
                    self.add(index % columns, f64::from(score), is_there(value));
                }
            }
            _ => return Err(misfit(self.measure.as_str())),
        }
        self.limit();
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::new();
        put(&mut state, u64::from(self.undefined));
        let binned = self.series.iter().any(|s| matches!(s, Series::Binned(_)));
        put(&mut state, u64::from(binned));
        self.series
            .iter()
            .for_each(|series| series.save(&mut state));
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.undefined |= state.number()? != 0;
        let binned = state.number()? != 0;
        for series in &mut self.series {
            series.merge(&mut state, binned)?;
        }
        self.limit();
        Ok(())
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        let rows: u64 = self.series.iter().flat_map(Series::totals).sum();
        if self.undefined || rows == 0 {
            return Ok(f64::NAN);
        }
        let (mut sum, mut count) = (0.0, 0_u64);
        for series in &mut self.series {
            if let Some(area) = Self::area(series, self.measure) {
                sum += area;
                count += 1;
            }
        }
        Ok(sum / count as f64)
    }

    fn files(&mut self) -> Vec<(String, Vec<u8>)> {
        if self.undefined {
            return Vec::new();
        }
        let (measure, labels) = (self.measure, self.labels);
        let curves = self
            .series
            .iter_mut()
            .enumerate()
            .filter_map(|(index, series)| {
                let label = match labels {
                    Labels::Classes(2) | Labels::Logits { columns: 1 } => ("class", 1),
                    Labels::Classes(_) => ("class", index),
                    Labels::Logits { .. } => ("column", index),
                };
                Self::curve(series, measure, label)
            });
        vec![super::points::write(measure, curves)]
    }
}
