//! Makes a table of rows that come in parts.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use stoker_domain::job::FailureKind;

use super::{Records, Rows, Table, Targets, WINDOW_BYTES};
use crate::error::EngineError;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// What is to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A class index per row, or one per position of each row.
    Classes,
    /// Numbers.
    Values,
    /// The features themselves.
    Features,
}

/// Makes a table of rows that come in parts: in memory, as long as they fit.
pub struct TableBuilder<'a> {
    kind: TargetKind,
    /// Features and targets per row, once there was one.
    widths: Option<(usize, usize)>,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    rows: u64,
    largest_class: Option<(u32, u64)>,
    memory_bytes: u64,
    make_file: Box<dyn FnMut() -> io::Result<File> + 'a>,
    file: Option<BufWriter<File>>,
}

impl<'a> TableBuilder<'a> {
    /// A table that is written to the file that `make_file` gives, open to read and write, once it
    /// has more than `memory_bytes`.
    pub fn new(
        kind: TargetKind,
        memory_bytes: u64,
        make_file: impl FnMut() -> io::Result<File> + 'a,
    ) -> Self {
        Self {
            kind,
            widths: None,
            features: Vec::new(),
            classes: Vec::new(),
            values: Vec::new(),
            rows: 0,
            largest_class: None,
            memory_bytes,
            make_file: Box::new(make_file),
            file: None,
        }
    }

    /// Bytes of the rows so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let (width, targets) = self.widths.unwrap_or_default();
        self.rows * (size_of::<f32>() * (width + targets)) as u64
    }

    /// Appends rows: their features, `[rows, width]` row-major, and their targets,
    /// `[rows, target_width]`, of which there are none where the features are the targets. Classes
    /// are whole numbers.
    ///
    /// # Errors
    /// `data` when the lengths don't agree among themselves or with earlier rows, `capacity` when
    /// the file can't be written.
    pub fn push(
        &mut self,
        (features, width): (&[f32], usize),
        (targets, target_width): (&[f32], usize),
    ) -> Result<(), EngineError> {
        let rows = features.len().checked_div(width).unwrap_or(0);
        let fits = (self.kind == TargetKind::Features) == (target_width == 0)
            && rows * width == features.len()
            && rows * target_width == targets.len()
            && *self.widths.get_or_insert((width, target_width)) == (width, target_width);
        if !fits {
            let message = format!(
                "{} feature numbers in rows of {width} don't match {} targets in rows of {target_width}",
                features.len(),
                targets.len()
            );
            return Err(EngineError::new(FailureKind::Data, message));
        }
        self.features.extend_from_slice(features);
        match self.kind {
            TargetKind::Classes => self.push_classes(targets, target_width),
            TargetKind::Values => self.values.extend_from_slice(targets),
            TargetKind::Features => {}
        }
        self.rows += rows as u64;
        if self.size_bytes() > self.memory_bytes {
            self.write().map_err(unwritable)?;
        }
        Ok(())
    }

    fn push_classes(&mut self, targets: &[f32], each: usize) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the compiler checked that the target holds whole numbers from 0 to 65,535"
        )]
        let classes = targets.iter().map(|&class| class as u32);
        let first = self.classes.len();
        self.classes.extend(classes);
        for (index, &class) in self.classes[first..].iter().enumerate() {
            if self
                .largest_class
                .is_none_or(|(largest, _)| class > largest)
            {
                self.largest_class = Some((class, self.rows + (index / each) as u64));
            }
        }
    }

    /// Moves the rows in memory to the file.
    fn write(&mut self) -> io::Result<()> {
        let (width, targets) = self.widths.unwrap_or((1, 1));
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(BufWriter::with_capacity(WRITE_BYTES, (self.make_file)()?)),
        };
        let mut record = Vec::with_capacity(4 * (width + targets));
        for (row, features) in self.features.chunks_exact(width).enumerate() {
            record.clear();
            record.extend(features.iter().flat_map(|x| x.to_le_bytes()));
            let of_row = row * targets..(row + 1) * targets;
            match self.kind {
                TargetKind::Classes => {
                    record.extend(self.classes[of_row].iter().flat_map(|x| x.to_le_bytes()));
                }
                TargetKind::Values => {
                    record.extend(self.values[of_row].iter().flat_map(|x| x.to_le_bytes()));
                }
                TargetKind::Features => {}
            }
            file.write_all(&record)?;
        }
        // What was taken for the rows in memory isn't needed any more.
        self.features = Vec::new();
        self.classes = Vec::new();
        self.values = Vec::new();
        Ok(())
    }

    /// The table of all rows.
    ///
    /// # Errors
    /// `data` when there are none, `capacity` when the file can't be written.
    pub fn finish(self) -> Result<Table, EngineError> {
        let (width, targets) = self.widths.unwrap_or_default();
        let Some(file) = self.file else {
            let targets = match self.kind {
                TargetKind::Classes => Targets::Classes(self.classes),
                TargetKind::Values => Targets::Values {
                    values: self.values,
                    width: targets,
                },
                TargetKind::Features => Targets::Features,
            };
            return Table::new(self.features, width, targets);
        };
        let file = file
            .into_inner()
            .map_err(|error| unwritable(error.into()))?;
        Ok(Table {
            rows: Rows::File(Records {
                file,
                record_bytes: size_of::<f32>() * (width + targets),
                largest_class: self.largest_class,
            }),
            width,
            kind: self.kind,
            targets_per_row: match self.kind {
                TargetKind::Features => width,
                TargetKind::Classes | TargetKind::Values => targets,
            },
            count: crate::normalise::index_of(self.rows),
            held_out: None,
            window_bytes: WINDOW_BYTES,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is given up")]
fn unwritable(error: io::Error) -> EngineError {
    let message = format!("prepared rows can't be written to the disk of the worker: {error}");
    EngineError::new(FailureKind::Capacity, message)
}
