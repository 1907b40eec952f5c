//! A data set in memory, as the engine takes it.

use stoker_domain::job::FailureKind;
use stoker_model::{InputDescription, Target};

use crate::error::EngineError;

/// Features and targets of all rows. A row's id is its index.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    features: Vec<f32>,
    width: usize,
    targets: Targets,
    rows: usize,
    held_out: Option<Vec<bool>>,
}

/// What is to be predicted, for all rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// A class index per row, or one per position of each row.
    Classes(Vec<u32>),
    /// Numbers: `[rows, width]`, row-major.
    Values {
        /// The numbers.
        values: Vec<f32>,
        /// Numbers per row.
        width: usize,
    },
    /// The features themselves, as the model sees them: after the preprocessing steps.
    Features,
}

/// The class of a position that isn't counted, in loss and metrics.
pub const NOT_COUNTED: u32 = u32::MAX;

/// What is to be predicted, for the rows of one virtual shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetRows<'a> {
    /// A class index per row, or one per position of each row; [`NOT_COUNTED`] for none.
    Classes(&'a [u32]),
    /// Numbers: `[rows, width]`, row-major.
    Values(&'a [f32]),
}

impl Table {
    /// A table of `features`, `[rows, width]` row-major, and `targets`.
    ///
    /// # Errors
    /// `data` when the lengths don't agree or there are no rows.
    pub fn new(features: Vec<f32>, width: usize, targets: Targets) -> Result<Self, EngineError> {
        let rows = match &targets {
            Targets::Classes(_) | Targets::Features => features.len().checked_div(width),
            Targets::Values { values, width } => values.len().checked_div(*width),
        };
        let rows = rows.filter(|&rows| {
            let whole = match &targets {
                Targets::Classes(classes) => {
                    !classes.is_empty() && rows > 0 && classes.len().is_multiple_of(rows)
                }
                Targets::Values { values, width } => values.len() == rows * width,
                Targets::Features => true,
            };
            rows > 0 && width > 0 && whole && rows.checked_mul(width) == Some(features.len())
        });
        let Some(rows) = rows else {
            let message = format!(
                "{} feature numbers in rows of {width} don't match the targets",
                features.len()
            );
            return Err(EngineError::new(FailureKind::Data, message));
        };
        Ok(Self {
            features,
            width,
            targets,
            rows,
            held_out: None,
        })
    }

    /// The same, with the rows already split: whether each is held out.
    ///
    /// # Errors
    /// `data` when there isn't a side for each row.
    pub fn with_held_out(self, held_out: Vec<bool>) -> Result<Self, EngineError> {
        if held_out.len() != self.rows {
            let message = format!("{} sides for {} rows", held_out.len(), self.rows);
            return Err(EngineError::new(FailureKind::Data, message));
        }
        Ok(Self {
            held_out: Some(held_out),
            ..self
        })
    }

    /// Whether each row is held out, where that isn't left to the spec.
    pub(crate) fn held_out(&self) -> Option<&[bool]> {
        self.held_out.as_deref()
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Feature numbers per row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The features of one row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.features[row * self.width..][..self.width]
    }

    /// Targets per row.
    pub(crate) fn targets_per_row(&self) -> usize {
        match &self.targets {
            Targets::Classes(classes) => classes.len() / self.rows,
            Targets::Values { width, .. } => *width,
            Targets::Features => self.width,
        }
    }

    /// The targets of all rows.
    #[must_use]
    pub const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Checks that a plan can be fed with this table.
    pub(crate) fn check(&self, input: &InputDescription) -> Result<(), EngineError> {
        let fits = match (&self.targets, input.target) {
            (
                Targets::Classes(classes),
                Target::Classes(count) | Target::Sequence { classes: count, .. },
            ) => {
                if let Some(index) = classes.iter().position(|&class| class as usize >= count) {
                    let row = index / self.targets_per_row();
                    let message = format!(
                        "class {} in row {row}, but there are {count} classes, from 0",
                        classes[index]
                    );
                    return Err(EngineError::new(FailureKind::Data, message).about(&[row as u64]));
                }
                self.targets_per_row() == input.target.positions()
            }
            (
                Targets::Values { width, .. },
                Target::Values(needed) | Target::Quantiles { values: needed, .. },
            ) => *width == needed,
            (
                Targets::Features,
                Target::Values(needed) | Target::Quantiles { values: needed, .. },
            ) => self.width == needed,
            (Targets::Features, Target::Masked { positions, .. }) => self.width == positions,
            _ => false,
        };
        if fits && self.width == input.width {
            return Ok(());
        }
        let message = format!(
            "the table has {} features per row and targets of another kind or width than the plan, which takes {} features and {:?}",
            self.width, input.width, input.target
        );
        Err(EngineError::new(FailureKind::Data, message))
    }
}
