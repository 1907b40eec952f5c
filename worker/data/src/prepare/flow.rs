//! Rows on their way through the steps.

use crate::chunk::{Chunk, ChunkColumn, Values};
use crate::error::DataError;

/// Rows that follow one another, and what each is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Flow {
    /// The rows' columns.
    pub(crate) columns: Vec<ChunkColumn>,
    /// For each row the row of the data set that it stands for: its last one, where it stands for
    /// several.
    pub(crate) ids: Vec<u64>,
    /// Whether each is held out of the training.
    pub(crate) held_out: Vec<bool>,
}

impl Flow {
    /// The rows of a chunk.
    pub(crate) fn new(chunk: Chunk, is_held_out: impl Fn(u64) -> bool) -> Self {
        let ids: Vec<u64> = (chunk.first_row..).take(chunk.rows).collect();
        Self {
            held_out: ids.iter().map(|&id| is_held_out(id)).collect(),
            columns: chunk.columns,
            ids,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Where a column is. A column that the schema promised and isn't there is our bug.
    pub(crate) fn index(&self, name: &str) -> Result<usize, DataError> {
        let index = self.columns.iter().position(|column| column.name == name);
        index.ok_or_else(|| {
            let names = self.columns.iter().map(|column| column.name.as_str());
            DataError::no_column(name, names)
        })
    }

    pub(crate) fn column(&self, name: &str) -> Result<&ChunkColumn, DataError> {
        self.index(name).map(|index| &self.columns[index])
    }

    pub(crate) fn values_mut(&mut self, name: &str) -> Result<&mut Values, DataError> {
        self.index(name)
            .map(|index| &mut self.columns[index].values)
    }

    /// Replaces a column's values by numbers of this shape.
    pub(crate) fn replace(
        &mut self,
        name: &str,
        shape: &[u32],
        numbers: Vec<f64>,
    ) -> Result<(), DataError> {
        let index = self.index(name)?;
        let column = &mut self.columns[index];
        column.shape = shape.to_vec();
        column.values = Values::Numbers(numbers);
        Ok(())
    }

    /// Adds a column of numbers.
    pub(crate) fn add(&mut self, name: &str, shape: &[u32], numbers: Vec<f64>) {
        self.columns.push(ChunkColumn {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: Values::Numbers(numbers),
        });
    }

    /// The rows that `keep` says.
    pub(crate) fn keep(self, keep: &[bool]) -> Self {
        if keep.iter().all(|&keep| keep) {
            return self;
        }
        let columns = self.columns.into_iter().map(|column| {
            let values = match column.values {
                Values::Numbers(numbers) => {
                    let rows = numbers.chunks_exact(width(&column.shape).max(1)).zip(keep);
                    let rows = rows.filter(|(_, keep)| **keep);
                    Values::Numbers(rows.flat_map(|(row, _)| row).copied().collect())
                }
                Values::Texts(texts) => {
                    let rows = texts.iter().zip(keep).filter(|(_, keep)| **keep);
                    Values::Texts(rows.map(|(text, _)| text).collect())
                }
                Values::Pictures(pictures) => {
                    let rows = pictures.into_iter().zip(keep).filter(|(_, keep)| **keep);
                    Values::Pictures(rows.map(|(picture, _)| picture).collect())
                }
            };
            ChunkColumn { values, ..column }
        });
        let columns = columns.collect();
        let kept = |row: usize| keep.get(row).copied().unwrap_or_default();
        let rows = (0..self.ids.len()).filter(|&row| kept(row));
        Self {
            ids: rows.clone().map(|row| self.ids[row]).collect(),
            held_out: rows.map(|row| self.held_out[row]).collect(),
            columns,
        }
    }

    /// Takes the rows after the first `rows` off.
    pub(crate) fn split_off(&mut self, rows: usize) -> Self {
        let columns = self
            .columns
            .iter_mut()
            .map(|column| split_column(column, rows));
        Self {
            columns: columns.collect(),
            ids: self.ids.split_off(rows),
            held_out: self.held_out.split_off(rows),
        }
    }
}

/// Numbers per row of a column of this shape.
pub(crate) fn width(shape: &[u32]) -> usize {
    shape.iter().map(|&extent| extent as usize).product()
}

fn split_column(column: &mut ChunkColumn, rows: usize) -> ChunkColumn {
    let values = match &mut column.values {
        Values::Numbers(numbers) => Values::Numbers(numbers.split_off(rows * width(&column.shape))),
        Values::Pictures(pictures) => Values::Pictures(pictures.split_off(rows)),
        Values::Texts(texts) => {
            let rest = texts.iter().skip(rows).collect();
            *texts = texts.iter().take(rows).collect();
            Values::Texts(rest)
        }
    };
    ChunkColumn {
        name: column.name.clone(),
        shape: column.shape.clone(),
        values,
    }
}
