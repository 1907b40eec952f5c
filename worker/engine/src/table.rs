//! The rows of a data set, as the engine takes them: in memory, or in a file.

mod builder;
mod record;

use stoker_domain::job::FailureKind;
use stoker_model::{InputDescription, Target};

pub use builder::{TableBuilder, TargetKind};
pub(crate) use record::{Loaded, Records};

use crate::error::EngineError;
use crate::normalise::index_of;
use crate::order::Windows;

/// Bytes of the rows that are shuffled, and held in memory, together. A constant, for the order of
/// rows follows from it: no setting of a worker may change a result.
const WINDOW_BYTES: usize = 32 << 20;

/// Features and targets of all rows. A row's id is its index.
#[derive(Debug)]
pub struct Table {
    rows: Rows,
    width: usize,
    kind: TargetKind,
    targets_per_row: usize,
    count: usize,
    held_out: Option<Vec<bool>>,
    window_bytes: usize,
}

/// Where the rows are.
#[derive(Debug)]
enum Rows {
    Memory {
        features: Vec<f32>,
        targets: Targets,
    },
    File(Records),
}

/// One row.
pub(crate) struct Row<'a> {
    pub(crate) features: &'a [f32],
    pub(crate) targets: TargetRows<'a>,
}

/// Rows of a shard, one after the other. Of classes or values only what the table has is filled.
pub(crate) struct Shelf<'a> {
    pub(crate) features: &'a mut Vec<f32>,
    pub(crate) classes: &'a mut Vec<u32>,
    pub(crate) values: &'a mut Vec<f32>,
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
        let kind = match targets {
            Targets::Classes(_) => TargetKind::Classes,
            Targets::Values { .. } => TargetKind::Values,
            Targets::Features => TargetKind::Features,
        };
        Ok(Self {
            targets_per_row: match &targets {
                Targets::Classes(classes) => classes.len() / rows,
                Targets::Values { width, .. } => *width,
                Targets::Features => width,
            },
            kind,
            rows: Rows::Memory { features, targets },
            width,
            count: rows,
            held_out: None,
            window_bytes: WINDOW_BYTES,
        })
    }

    /// The same, with the rows already split: whether each is held out.
    ///
    /// # Errors
    /// `data` when there isn't a side for each row.
    pub fn with_held_out(self, held_out: Vec<bool>) -> Result<Self, EngineError> {
        if held_out.len() != self.count {
            let message = format!("{} sides for {} rows", held_out.len(), self.count);
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
        self.count
    }

    /// Feature numbers per row.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Whether the rows are in a file.
    #[must_use]
    pub const fn is_on_disk(&self) -> bool {
        matches!(self.rows, Rows::File(_))
    }

    /// Bytes of the rows, wherever they are.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        (self.count * self.record_bytes()) as u64
    }

    /// Bytes of a row.
    const fn record_bytes(&self) -> usize {
        size_of::<f32>() * (self.width + self.stored_targets())
    }

    /// Target numbers of a row that aren't its features.
    const fn stored_targets(&self) -> usize {
        match self.kind {
            TargetKind::Features => 0,
            TargetKind::Classes | TargetKind::Values => self.targets_per_row,
        }
    }

    /// How many rows are shuffled together, in batches of so many.
    pub(crate) fn windows(&self, batch_rows: usize) -> Windows {
        Windows::new(self.window_bytes, self.record_bytes(), batch_rows)
    }

    /// Targets per row.
    pub(crate) const fn targets_per_row(&self) -> usize {
        self.targets_per_row
    }

    /// What the targets are.
    pub(crate) const fn kind(&self) -> TargetKind {
        self.kind
    }

    /// Goes through rows, whose ids ascend.
    ///
    /// # Errors
    /// `platform` when the file can't be read, and what `look` gives.
    pub(crate) fn visit(
        &self,
        rows: impl Iterator<Item = u64>,
        look: &mut dyn FnMut(u64, Row<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        match &self.rows {
            Rows::Memory { features, .. } => {
                for id in rows {
                    let row = index_of(id);
                    let features = &features[row * self.width..][..self.width];
                    let targets = self.targets_in_memory(row);
                    look(id, Row { features, targets })?;
                }
                Ok(())
            }
            Rows::File(records) => {
                let (mut features, mut classes, mut values) = Default::default();
                let mut shelf = Shelf {
                    features: &mut features,
                    classes: &mut classes,
                    values: &mut values,
                };
                records.visit(rows, &mut |id, record| {
                    shelf.clear();
                    self.decode(record, self.targets_per_row, &mut shelf);
                    let targets = match self.kind {
                        TargetKind::Classes => TargetRows::Classes(shelf.classes),
                        TargetKind::Values => TargetRows::Values(shelf.values),
                        TargetKind::Features => TargetRows::Values(shelf.features),
                    };
                    let features = shelf.features.as_slice();
                    look(id, Row { features, targets })
                })
            }
        }
    }

    /// The rows of a window, where the table is in a file. Their ids come in any order.
    pub(crate) fn load(&self, rows: &[u64], spare: Loaded) -> Result<Loaded, EngineError> {
        match &self.rows {
            Rows::File(records) => records.load(rows, spare),
            Rows::Memory { .. } => Ok(spare),
        }
    }

    /// Appends a row, with the first `targets` of its targets, from memory or out of the window
    /// that holds it.
    pub(crate) fn copy(&self, id: u64, window: &Loaded, targets: usize, into: &mut Shelf<'_>) {
        let row = index_of(id);
        match &self.rows {
            Rows::File(_) => self.decode(window.record(id), targets, into),
            Rows::Memory { features, .. } => {
                let features = &features[row * self.width..][..self.width];
                into.features.extend_from_slice(features);
                match self.targets_in_memory(row) {
                    TargetRows::Classes(classes) => {
                        into.classes.extend_from_slice(&classes[..targets]);
                    }
                    TargetRows::Values(values) if self.kind == TargetKind::Values => {
                        into.values.extend_from_slice(values);
                    }
                    TargetRows::Values(_) => {}
                }
            }
        }
    }

    /// One feature of a row, from where [`Table::copy`] takes it.
    pub(crate) fn feature(&self, id: u64, window: &Loaded, feature: usize) -> f32 {
        match &self.rows {
            Rows::Memory { features, .. } => features[index_of(id) * self.width + feature],
            Rows::File(_) => {
                let (words, _) = window.record(id).as_chunks::<4>();
                f32::from_le_bytes(words[feature])
            }
        }
    }

    fn targets_in_memory(&self, row: usize) -> TargetRows<'_> {
        let Rows::Memory { features, targets } = &self.rows else {
            return TargetRows::Values(&[]);
        };
        let each = self.targets_per_row;
        match targets {
            Targets::Classes(classes) => TargetRows::Classes(&classes[row * each..][..each]),
            Targets::Values { values, .. } => TargetRows::Values(&values[row * each..][..each]),
            Targets::Features => TargetRows::Values(&features[row * each..][..each]),
        }
    }

    /// A record as numbers.
    fn decode(&self, record: &[u8], targets: usize, into: &mut Shelf<'_>) {
        let (words, _) = record.as_chunks::<4>();
        let (features, rest) = words.split_at(self.width);
        let floats = |words: &[[u8; 4]], into: &mut Vec<f32>| {
            into.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
        };
        floats(features, into.features);
        match self.kind {
            TargetKind::Classes => {
                let classes = rest[..targets].iter();
                into.classes
                    .extend(classes.map(|word| u32::from_le_bytes(*word)));
            }
            TargetKind::Values => floats(rest, into.values),
            TargetKind::Features => {}
        }
    }

    /// Checks that a plan can be fed with this table.
    pub(crate) fn check(&self, input: &InputDescription) -> Result<(), EngineError> {
        let fits = match (self.kind, input.target) {
            (
                TargetKind::Classes,
                Target::Classes(count) | Target::Sequence { classes: count, .. },
            ) => {
                if let Some((class, row)) = self.class_beyond(count) {
                    let message = format!(
                        "class {class} in row {row}, but there are {count} classes, from 0"
                    );
                    return Err(EngineError::new(FailureKind::Data, message).about(&[row]));
                }
                self.targets_per_row == input.target.positions()
            }
            (
                TargetKind::Values | TargetKind::Features,
                Target::Values(needed) | Target::Quantiles { values: needed, .. },
            ) => self.targets_per_row == needed,
            (TargetKind::Features, Target::Masked { positions, .. }) => self.width == positions,
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

    /// A class that isn't below `count`, and its row.
    fn class_beyond(&self, count: usize) -> Option<(u32, u64)> {
        match &self.rows {
            Rows::File(records) => {
                (records.largest_class).filter(|&(class, _)| class as usize >= count)
            }
            Rows::Memory {
                targets: Targets::Classes(classes),
                ..
            } => {
                let index = classes.iter().position(|&class| class as usize >= count)?;
                Some((classes[index], (index / self.targets_per_row) as u64))
            }
            Rows::Memory { .. } => None,
        }
    }
}

impl Shelf<'_> {
    pub(crate) fn clear(&mut self) {
        self.features.clear();
        self.classes.clear();
        self.values.clear();
    }
}

#[cfg(test)]
impl Table {
    /// The features of one row of a table in memory.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        match &self.rows {
            Rows::Memory { features, .. } => &features[row * self.width..][..self.width],
            Rows::File(_) => &[],
        }
    }

    /// The targets of all rows of a table in memory.
    pub(crate) const fn targets(&self) -> &Targets {
        match &self.rows {
            Rows::Memory { targets, .. } => targets,
            Rows::File(_) => &Targets::Features,
        }
    }

    pub(crate) const fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    /// The same, shuffled in windows of another size.
    pub(crate) fn with_window_bytes(self, window_bytes: usize) -> Self {
        Self {
            window_bytes,
            ..self
        }
    }
}
