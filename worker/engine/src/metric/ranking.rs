//! Measures of rankings: of the scores of a row, or of the rows of a group.

use stoker_domain::spec::Measure;

use super::state::{Reader, misfit, put};
use super::sum::ExactSum;
use super::{Metric, counted, has_nan};
use crate::error::EngineError;
use crate::math::ln;
use crate::table::TargetRows;

/// Most rows of groups, which are all kept.
pub(super) const GROUPED_MAX: usize = 1 << 22;

/// How a ranking is measured.
#[derive(Debug)]
struct Ranker {
    measure: Measure,
    k: usize,
    threshold: f32,
    /// The discounts of the places before each, summed.
    discounts: Vec<f64>,
}

/// A score, and how relevant what it is for is.
type Scored = (f32, f32);

impl Ranker {
    fn new(measure: Measure, k: Option<usize>, threshold: f32) -> Self {
        Self {
            measure,
            k: k.unwrap_or(usize::MAX),
            threshold,
            discounts: vec![0.0],
        }
    }

    /// The discounts of the places in a range, 1 / log2(place + 1) from the first, which is 1.
    fn discount(&mut self, from: usize, to: usize) -> f64 {
        let [from, to] = [from, to].map(|place| place.min(self.k));
        while self.discounts.len() <= to {
            let place = self.discounts.len() as f64;
            let next =
                self.discounts.last().unwrap_or(&0.0) + std::f64::consts::LN_2 / ln(place + 1.0);
            self.discounts.push(next);
        }
        self.discounts[to] - self.discounts[from]
    }

    /// How many of the places in a range count.
    fn places(&self, from: usize, to: usize) -> f64 {
        (to.min(self.k) - from.min(self.k)) as f64
    }

    /// Of a row in which one class is relevant.
    fn measure_class(&mut self, row: &[f32], class: usize) -> f64 {
        let own = row[class];
        let above = row.iter().filter(|&&score| score > own).count();
        let equal = row.iter().filter(|&&score| score >= own).count() - above;
        let gain = match self.measure {
            Measure::Ndcg => self.discount(above, above + equal),
            _ => self.places(above, above + equal),
        };
        gain / equal as f64
    }

    /// Of a list, whose order is lost. Scores that are equal share their places. Nothing where
    /// there is none to measure; not a number where it is undefined.
    fn measure_list(&mut self, list: &mut [Scored]) -> Option<f64> {
        let ndcg = self.measure == Measure::Ndcg;
        let undefined = |&(score, relevant): &Scored| {
            score.is_nan() || relevant.is_nan() || (ndcg && relevant < 0.0)
        };
        if list.iter().any(undefined) {
            return Some(f64::NAN);
        }
        let falling = |a: f32, b: f32| b.total_cmp(&a);
        list.sort_unstable_by(|a, b| falling(a.0 + 0.0, b.0 + 0.0).then(falling(a.1, b.1)));
        let (mut gain, mut best, mut start) = (0.0, 0.0, 0);
        for equal in list.chunk_by(|a, b| a.0 <= b.0) {
            let end = start + equal.len();
            let relevant: f64 = equal.iter().map(|&(_, r)| self.gain(r)).sum();
            let share = match ndcg {
                true => self.discount(start, end),
                false => self.places(start, end),
            };
            gain += relevant * share / equal.len() as f64;
            start = end;
        }
        if ndcg {
            list.sort_unstable_by(|a, b| falling(a.1, b.1));
            for (place, &(_, relevant)) in list.iter().enumerate().take(self.k) {
                best += f64::from(relevant) * self.discount(place, place + 1);
            }
            // As scikit-learn has it, where nothing is relevant.
            Some(if best > 0.0 { gain / best } else { 0.0 })
        } else {
            let all: f64 = list.iter().map(|&(_, r)| self.gain(r)).sum();
            (all > 0.0).then(|| gain / all)
        }
    }

    fn gain(&self, relevant: f32) -> f64 {
        match self.measure {
            Measure::Ndcg => f64::from(relevant),
            _ => f64::from(u8::from(relevant >= self.threshold)),
        }
    }
}

/// The mean over rows, whose scores are ranked.
#[derive(Debug)]
pub(super) struct Ranking {
    ranker: Ranker,
    sum: ExactSum,
    rows: u64,
    list: Vec<Scored>,
}

impl Ranking {
    pub(super) fn new(measure: Measure, k: Option<usize>, threshold: f32) -> Self {
        Self {
            ranker: Ranker::new(measure, k, threshold),
            sum: ExactSum::default(),
            rows: 0,
            list: Vec::new(),
        }
    }
}

impl Metric for Ranking {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        match targets {
            TargetRows::Classes(classes) => {
                for (row, class) in counted(scores, outputs, classes) {
                    let value = self.ranker.measure_class(row, class);
                    self.sum.add(if has_nan(row) { f64::NAN } else { value });
                    self.rows += 1;
                }
            }
            TargetRows::Values(values) => {
                let rows = scores.chunks_exact(outputs);
                for (row, values) in rows.zip(values.chunks_exact(outputs)) {
                    self.list.clear();
                    self.list
                        .extend(row.iter().copied().zip(values.iter().copied()));
                    if let Some(value) = self.ranker.measure_list(&mut self.list) {
                        self.sum.add(value);
                        self.rows += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::new();
        put(&mut state, self.rows);
        self.sum.save(&mut state);
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.rows += state.number()?;
        self.sum.merge(&mut state)
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        Ok(self.sum.value() / self.rows as f64)
    }
}

/// The mean over groups, whose rows are ranked. All rows are kept; with too many it is undefined.
#[derive(Debug)]
pub(super) struct Grouped {
    ranker: Ranker,
    rows: Vec<(u32, Scored)>,
    rows_max: usize,
    too_many: bool,
}

impl Grouped {
    pub(super) fn new(measure: Measure, k: Option<usize>, threshold: f32) -> Self {
        Self::with_limit(measure, k, threshold, GROUPED_MAX)
    }

    pub(super) fn with_limit(
        measure: Measure,
        k: Option<usize>,
        threshold: f32,
        rows_max: usize,
    ) -> Self {
        Self {
            ranker: Ranker::new(measure, k, threshold),
            rows: Vec::new(),
            rows_max,
            too_many: false,
        }
    }

    fn limit(&mut self) {
        if self.too_many || self.rows.len() > self.rows_max {
            self.too_many = true;
            self.rows = Vec::new();
        }
    }
}

impl Metric for Grouped {
    fn update(
        &mut self,
        _scores: &[f32],
        _outputs: usize,
        _targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        Err(misfit(self.ranker.measure.as_str()))
    }

    fn update_groups(
        &mut self,
        scores: &[f32],
        _outputs: usize,
        targets: TargetRows<'_>,
        groups: &[f32],
    ) -> Result<(), EngineError> {
        let TargetRows::Values(values) = targets else {
            return Err(misfit(self.ranker.measure.as_str()));
        };
        let scored = scores.iter().copied().zip(values.iter().copied());
        let groups = groups.iter().map(|group| (group + 0.0).to_bits());
        self.rows.extend(groups.zip(scored));
        self.limit();
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::with_capacity(8 + 16 * self.rows.len());
        put(&mut state, u64::from(self.too_many));
        for &(group, (score, relevant)) in &self.rows {
            put(&mut state, u64::from(group));
            put(
                &mut state,
                u64::from(score.to_bits()) << 32 | u64::from(relevant.to_bits()),
            );
        }
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.too_many |= state.number()? != 0;
        let mut numbers = state.rest();
        while let (Some(group), Some(scored)) = (numbers.next(), numbers.next()) {
            #[expect(clippy::cast_possible_truncation, reason = "two halves")]
            let [score, relevant] = [(scored >> 32) as u32, scored as u32].map(f32::from_bits);
            #[expect(clippy::cast_possible_truncation, reason = "written from 32 bits")]
            self.rows.push((group as u32, (score, relevant)));
        }
        self.limit();
        Ok(())
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        if self.too_many {
            return Ok(f64::NAN);
        }
        self.rows.sort_unstable_by_key(|(group, _)| *group);
        let (mut sum, mut count) = (ExactSum::default(), 0_u64);
        let mut list: Vec<Scored> = Vec::new();
        for group in self.rows.chunk_by(|a, b| a.0 == b.0) {
            list.clear();
            list.extend(group.iter().map(|(_, scored)| *scored));
            if let Some(value) = self.ranker.measure_list(&mut list) {
                sum.add(value);
                count += 1;
            }
        }
        Ok(sum.value() / count as f64)
    }
}
