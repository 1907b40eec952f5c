//! How far the share of right predictions is from their probability.

use stoker_model::Labels;

use super::state::{Reader, misfit, put};
use super::sum::ExactSum;
use super::{Metric, counted, first_maximum, is_there};
use crate::error::EngineError;
use crate::math::exp_down;
use crate::table::TargetRows;

/// The expected calibration error of the predicted class (Guo et al. 2017): rows are put into
/// ranges of probability of equal width, each with its upper end.
#[derive(Debug)]
pub(super) struct Calibration {
    labels: Labels,
    bins: Vec<Bin>,
    rows: u64,
    undefined: bool,
}

/// How many of its rows are right, and the sum of the probabilities.
#[derive(Debug, Clone, Default)]
struct Bin {
    right: u64,
    sum: ExactSum,
}

impl Calibration {
    pub(super) fn new(bins: usize, labels: Labels) -> Self {
        Self {
            labels,
            bins: vec![Bin::default(); bins],
            rows: 0,
            undefined: false,
        }
    }

    fn add(&mut self, probability: f64, right: bool) {
        if probability.is_nan() {
            self.undefined = true;
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 up to the number of bins"
        )]
        let above = (probability * self.bins.len() as f64).ceil() as usize;
        let bin = &mut self.bins[above.max(1) - 1];
        bin.right += u64::from(right);
        bin.sum.add(probability);
        self.rows += 1;
    }
}

impl Metric for Calibration {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        match (self.labels, targets) {
            (Labels::Classes(_), TargetRows::Classes(classes)) => {
                for (row, class) in counted(scores, outputs, classes) {
                    let best = first_maximum(row);
                    let highest = f64::from(row[best]);
                    let shares = row.iter().map(|&s| exp_down(f64::from(s) - highest));
                    self.add(1.0 / shares.sum::<f64>(), best == class);
                }
            }
            (Labels::Logits { .. }, TargetRows::Values(values)) => {
                for (&score, &value) in scores.iter().zip(values) {
                    let probability = 1.0 / (1.0 + exp_down(-f64::from(score).abs()));
                    self.add(probability, is_there(value) == (score > 0.0));
                }
            }
            _ => return Err(misfit("calibration_error")),
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::new();
        put(&mut state, u64::from(self.undefined));
        put(&mut state, self.rows);
        for bin in &self.bins {
            put(&mut state, bin.right);
            bin.sum.save(&mut state);
        }
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.undefined |= state.number()? != 0;
        self.rows += state.number()?;
        for bin in &mut self.bins {
            bin.right += state.number()?;
            bin.sum.merge(&mut state)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        if self.undefined {
            return Ok(f64::NAN);
        }
        let bins = self.bins.iter();
        let apart: f64 = bins
            .map(|bin| (bin.right as f64 - bin.sum.value()).abs())
            .sum();
        Ok(apart / self.rows as f64)
    }
}
