//! Whether the target class is among the highest scores.

use super::state::{Reader, misfit, put};
use super::{Metric, counted, has_nan};
use crate::error::EngineError;
use crate::table::TargetRows;

/// Share of rows whose class is among the `k` highest scores; of equal scores the later classes
/// come first, as scikit-learn has them.
#[derive(Debug)]
pub(super) struct TopK {
    k: usize,
    found: u64,
    rows: u64,
    undefined: bool,
}

impl TopK {
    pub(super) const fn new(k: usize) -> Self {
        Self {
            k,
            found: 0,
            rows: 0,
            undefined: false,
        }
    }
}

impl Metric for TopK {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        let TargetRows::Classes(classes) = targets else {
            return Err(misfit("top_k"));
        };
        for (row, class) in counted(scores, outputs, classes) {
            self.undefined |= has_nan(row);
            let own = row[class];
            let before = |(index, score): &(usize, &f32)| {
                **score > own || (**score >= own && *index > class)
            };
            let place = row.iter().enumerate().filter(before).count();
            self.found += u64::from(place < self.k);
            self.rows += 1;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::new();
        for number in [u64::from(self.undefined), self.found, self.rows] {
            put(&mut state, number);
        }
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.undefined |= state.number()? != 0;
        self.found += state.number()?;
        self.rows += state.number()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        if self.undefined {
            return Ok(f64::NAN);
        }
        Ok(self.found as f64 / self.rows as f64)
    }
}
