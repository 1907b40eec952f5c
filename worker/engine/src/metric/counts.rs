//! Measures of how many rows of each class are predicted to be of it.

use stoker_domain::spec::Measure;
use stoker_model::{Average, Labels};

use super::state::{Reader, misfit, put};
use super::{Metric, counted, first_maximum, has_nan, is_there};
use crate::error::EngineError;
use crate::table::TargetRows;

/// Most classes of a matrix; of more, only what the measures need is counted.
pub(super) const MATRIX_MAX: usize = 512;

/// Counts rows by target and predicted class.
#[derive(Debug)]
pub(super) struct Counts {
    measure: Measure,
    labels: Labels,
    average: Average,
    /// Classes, or columns that are counted one by one.
    classes: usize,
    /// Of a matrix `[targets, predictions]`, or of [`Hits`] per class.
    counts: Vec<u64>,
    rows: u64,
    undefined: bool,
}

/// Of one class: rows that are of it and predicted to be, predicted only, and of it only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hits {
    both: u64,
    predicted: u64,
    there: u64,
}

impl Counts {
    pub(super) fn new(measure: Measure, labels: Labels, average: Average) -> Self {
        let classes = match labels {
            Labels::Classes(classes) => classes,
            Labels::Logits { columns: 1 } => 2,
            Labels::Logits { columns } => columns,
        };
        let mut counts = Self {
            measure,
            labels,
            average,
            classes,
            counts: Vec::new(),
            rows: 0,
            undefined: false,
        };
        let each = if counts.is_matrix() { classes } else { 3 };
        counts.counts = vec![0; classes * each];
        counts
    }

    /// Whether whole matrices are kept, not only the hits of each class.
    const fn is_matrix(&self) -> bool {
        match self.labels {
            Labels::Classes(classes) => classes <= MATRIX_MAX,
            Labels::Logits { columns } => columns == 1,
        }
    }

    fn count(&mut self, target: usize, predicted: usize) {
        self.rows += 1;
        if self.is_matrix() {
            self.counts[target * self.classes + predicted] += 1;
        } else if target == predicted {
            self.counts[3 * target] += 1;
        } else {
            self.counts[3 * predicted + 1] += 1;
            self.counts[3 * target + 2] += 1;
        }
    }

    /// Counts what is there, and predicted to be, in one of several columns.
    fn count_column(&mut self, column: usize, target: bool, predicted: bool) {
        self.rows += 1;
        match (target, predicted) {
            (true, true) => self.counts[3 * column] += 1,
            (false, true) => self.counts[3 * column + 1] += 1,
            (true, false) => self.counts[3 * column + 2] += 1,
            (false, false) => {}
        }
    }

    fn hits(&self, class: usize) -> Hits {
        if !self.is_matrix() {
            let [both, predicted, there] = [0, 1, 2].map(|index| self.counts[3 * class + index]);
            return Hits {
                both,
                predicted,
                there,
            };
        }
        let both = self.counts[class * self.classes + class];
        let rows = 0..self.classes;
        let predicted: u64 = rows
            .clone()
            .map(|row| self.counts[row * self.classes + class])
            .sum();
        let there: u64 = rows
            .map(|column| self.counts[class * self.classes + column])
            .sum();
        Hits {
            both,
            predicted: predicted - both,
            there: there - both,
        }
    }

    fn all_hits(&self) -> impl Iterator<Item = Hits> {
        (0..self.classes).map(|class| self.hits(class))
    }

    fn value(&self) -> f64 {
        if self.measure == Measure::Accuracy {
            let right: u64 = self.all_hits().map(|hits| hits.both).sum();
            return share(right, self.rows);
        }
        match self.average {
            Average::Class(class) => self.hits(class).measure(self.measure),
            Average::Micro => {
                let sum = self.all_hits().fold(Hits::default(), Hits::add);
                sum.measure(self.measure)
            }
            Average::Macro => {
                // A class that is nowhere says nothing; of columns, all are asked for.
                let columns = !matches!(self.labels, Labels::Classes(_));
                let hits = self.all_hits().filter(|hits| columns || !hits.is_empty());
                let (mut sum, mut count) = (0.0, 0_u64);
                for hits in hits {
                    sum += hits.measure(self.measure);
                    count += 1;
                }
                sum / count as f64
            }
        }
    }
}

impl Hits {
    const fn add(self, other: Self) -> Self {
        Self {
            both: self.both + other.both,
            predicted: self.predicted + other.predicted,
            there: self.there + other.there,
        }
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// 0 where there is nothing to divide by.
    fn measure(self, measure: Measure) -> f64 {
        let Self {
            both,
            predicted,
            there,
        } = self;
        match measure {
            Measure::Precision => share(both, both + predicted),
            Measure::Recall => share(both, both + there),
            Measure::Iou => share(both, both + predicted + there),
            _ => share(2 * both, 2 * both + predicted + there),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl Metric for Counts {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        match (self.labels, targets) {
            (Labels::Classes(_), TargetRows::Classes(classes)) => {
                for (row, class) in counted(scores, outputs, classes) {
                    self.undefined |= has_nan(row);
                    self.count(class, first_maximum(row));
                }
            }
            (Labels::Logits { columns }, TargetRows::Values(values)) => {
                for (index, (&score, &value)) in scores.iter().zip(values).enumerate() {
                    self.undefined |= score.is_nan();
                    let (target, predicted) = (is_there(value), score > 0.0);
                    if columns == 1 {
                        self.count(usize::from(target), usize::from(predicted));
                    } else {
                        self.count_column(index % columns, target, predicted);
                    }
                }
            }
            _ => return Err(misfit(self.measure.as_str())),
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        let mut state = Vec::with_capacity(8 * (2 + self.counts.len()));
        put(&mut state, u64::from(self.undefined));
        put(&mut state, self.rows);
        self.counts.iter().for_each(|&count| put(&mut state, count));
        Ok(state)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let mut state = Reader::new(state);
        self.undefined |= state.number()? != 0;
        self.rows += state.number()?;
        state.add_to(&mut self.counts)
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        let undefined = self.undefined || self.rows == 0;
        Ok(if undefined { f64::NAN } else { self.value() })
    }

    fn files(&mut self) -> Vec<(String, Vec<u8>)> {
        if !self.is_matrix() || self.undefined {
            return Vec::new();
        }
        let matrix: Vec<&[u64]> = self.counts.chunks_exact(self.classes).collect();
        let confusion = serde_json::json!({
            "labels": (0..self.classes).collect::<Vec<_>>(),
            "matrix": matrix,
        });
        let json = serde_json::to_vec(&confusion).unwrap_or_default();
        vec![("confusion.json".to_owned(), json)]
    }
}
