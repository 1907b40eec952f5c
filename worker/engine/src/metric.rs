//! Measures over the held-out rows.
//!
//! Each virtual shard has its own metric; the states are merged in the order of the tree over the
//! shards, so that the number of workers changes nothing.

use stoker_domain::job::FailureKind;
use stoker_domain::spec::Measure;

use crate::error::EngineError;
use crate::table::{NOT_COUNTED, TargetRows};

/// A measure in the making.
pub trait Metric: Send {
    /// Takes in rows: `scores`, `[rows, outputs]` row-major, and their targets. Each position of
    /// a sequence counts as a row.
    ///
    /// # Errors
    /// Of kind `plugin` as a rule; ends the run.
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError>;

    /// The state, as bytes that another instance can merge.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn save(&mut self) -> Result<Vec<u8>, EngineError>;

    /// Takes in the state of another instance, whose rows come after this one's.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError>;

    /// The value over all rows taken in.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn finish(&mut self) -> Result<f64, EngineError>;
}

/// Makes a fresh metric for a virtual shard.
pub type MakeMetric = Box<dyn FnMut() -> Result<Box<dyn Metric>, EngineError> + Send>;

/// A metric of a run: its name, and how to make one.
pub struct MetricSource {
    pub(crate) name: String,
    pub(crate) make: MakeMetric,
}

impl MetricSource {
    /// A metric of the caller's, such as a plugin; reported as `test.<name>`.
    pub fn new(name: impl Into<String>, make: MakeMetric) -> Self {
        Self {
            name: name.into(),
            make,
        }
    }

    /// A built-in metric.
    #[must_use]
    pub fn builtin(measure: Measure) -> Self {
        Self::new(
            measure.as_str(),
            Box::new(move || {
                Ok(Box::new(Mean {
                    measure,
                    sum: 0.0,
                    count: 0,
                }))
            }),
        )
    }
}

/// A mean over rows or numbers; `rmse` takes its root in the end.
struct Mean {
    measure: Measure,
    sum: f64,
    count: u64,
}

impl Metric for Mean {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        match (self.measure, targets) {
            (Measure::Accuracy, TargetRows::Classes(classes)) => {
                let rows = scores.chunks_exact(outputs).zip(classes);
                for (row, &class) in rows.filter(|(_, class)| **class != NOT_COUNTED) {
                    self.sum += f64::from(u8::from(first_maximum(row) == class as usize));
                    self.count += 1;
                }
            }
            (Measure::Mae | Measure::Rmse, TargetRows::Values(values)) => {
                for (&score, &value) in scores.iter().zip(values) {
                    let error = f64::from(score) - f64::from(value);
                    self.sum += if self.measure == Measure::Mae {
                        error.abs()
                    } else {
                        error * error
                    };
                }
                self.count += values.len() as u64;
            }
            _ => {
                let message = format!(
                    "`{}` doesn't fit this kind of target",
                    self.measure.as_str()
                );
                return Err(EngineError::new(FailureKind::User, message));
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok([self.sum.to_le_bytes(), self.count.to_le_bytes()].concat())
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let ([sum, count], []) = state.as_chunks::<8>() else {
            let message = format!("a metric state of {} bytes, 16 expected", state.len());
            return Err(EngineError::new(FailureKind::Platform, message));
        };
        self.sum += f64::from_le_bytes(*sum);
        self.count += u64::from_le_bytes(*count);
        Ok(())
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        let mean = self.sum / self.count as f64;
        Ok(match self.measure {
            Measure::Rmse => mean.sqrt(),
            Measure::Accuracy | Measure::Mae => mean,
        })
    }
}

fn first_maximum(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}
