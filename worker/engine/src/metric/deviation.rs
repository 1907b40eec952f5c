//! How far predictions are from their values.

use stoker_domain::spec::Measure;

use super::Metric;
use super::state::{Reader, misfit, put};
use super::sum::ExactSum;
use crate::error::EngineError;
use crate::table::TargetRows;

/// A mean over all numbers.
#[derive(Debug, Default)]
struct Mean {
    sum: ExactSum,
    count: u64,
}

impl Mean {
    fn add(&mut self, term: f64) {
        self.sum.add(term);
        self.count += 1;
    }

    fn save(&self) -> Vec<u8> {
        let mut state = Vec::new();
        put(&mut state, self.count);
        self.sum.save(&mut state);
        state
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.count += state.number()?;
        self.sum.merge(&mut state)
    }

    fn value(&self) -> f64 {
        self.sum.value() / self.count as f64
    }
}

/// `mae`, `rmse`, `mape`.
#[derive(Debug)]
pub(super) struct Deviation {
    measure: Measure,
    mean: Mean,
}

impl Deviation {
    pub(super) fn new(measure: Measure) -> Self {
        Self {
            measure,
            mean: Mean::default(),
        }
    }
}

impl Metric for Deviation {
    fn update(
        &mut self,
        scores: &[f32],
        _outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        let TargetRows::Values(values) = targets else {
            return Err(misfit(self.measure.as_str()));
        };
        for (&score, &value) in scores.iter().zip(values) {
            let value = f64::from(value);
            let error = f64::from(score) - value;
            self.mean.add(match self.measure {
                Measure::Rmse => error * error,
                // As scikit-learn has it: next to nothing stands for a value of 0.
                Measure::Mape => error.abs() / value.abs().max(f64::EPSILON),
                _ => error.abs(),
            });
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok(self.mean.save())
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.mean.merge(state)
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        let mean = self.mean.value();
        Ok(match self.measure {
            Measure::Rmse => mean.sqrt(),
            _ => mean,
        })
    }
}

/// The mean pinball loss (Koenker & Bassett 1978) over values and levels.
#[derive(Debug)]
pub(super) struct Pinball {
    predictions: usize,
    levels: Vec<(usize, f64)>,
    mean: Mean,
}

impl Pinball {
    pub(super) fn new(predictions: usize, levels: Vec<(usize, f64)>) -> Self {
        Self {
            predictions,
            levels,
            mean: Mean::default(),
        }
    }
}

impl Metric for Pinball {
    fn update(
        &mut self,
        scores: &[f32],
        _outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        let TargetRows::Values(values) = targets else {
            return Err(misfit("pinball"));
        };
        for (scores, &value) in scores.chunks_exact(self.predictions).zip(values) {
            for &(index, level) in &self.levels {
                let error = f64::from(value) - f64::from(scores[index]);
                let weight = if error < 0.0 { level - 1.0 } else { level };
                self.mean.add(weight * error);
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok(self.mean.save())
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.mean.merge(state)
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        Ok(self.mean.value())
    }
}
