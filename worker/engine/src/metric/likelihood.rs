//! How likely the target class was.

use stoker_domain::spec::Measure;

use super::state::{Reader, misfit, put};
use super::sum::ExactSum;
use super::{Metric, counted};
use crate::error::EngineError;
use crate::math::{exp_down, ln};
use crate::table::TargetRows;

/// `perplexity`, `bits_per_char`: of the mean negative logarithm of the softmax at the target.
#[derive(Debug)]
pub(super) struct Likelihood {
    measure: Measure,
    sum: ExactSum,
    rows: u64,
}

impl Likelihood {
    pub(super) fn new(measure: Measure) -> Self {
        Self {
            measure,
            sum: ExactSum::default(),
            rows: 0,
        }
    }
}

/// The highest of some scores, and the logarithm of the sum of e to each, less that.
pub(super) fn log_sum_exp(scores: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let highest = f64::from(scores.clone().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores
        .map(|score| exp_down(f64::from(score) - highest))
        .sum();
    (highest, ln(sum))
}

impl Metric for Likelihood {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        let TargetRows::Classes(classes) = targets else {
            return Err(misfit(self.measure.as_str()));
        };
        for (row, class) in counted(scores, outputs, classes) {
            let (highest, rest) = log_sum_exp(row.iter().copied());
            self.sum.add((highest - f64::from(row[class])) + rest);
            self.rows += 1;
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
        let mean = self.sum.value() / self.rows as f64;
        Ok(match self.measure {
            Measure::Perplexity if mean > 700.0 => f64::INFINITY,
            Measure::Perplexity => 1.0 / exp_down(-mean),
            _ => mean / std::f64::consts::LN_2,
        })
    }
}
