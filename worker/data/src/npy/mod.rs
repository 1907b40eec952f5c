//! NPY: one NumPy array (format versions 1.0 to 3.0, NEP 1).

mod array;
mod dtype;
mod header;

use stoker_domain::dataset::Schema;

pub(crate) use array::Array;

use crate::Limits;
use crate::chunk::{Chunk, ChunkColumn};
use crate::chunks::{Inner, rows_of};
use crate::error::DataError;
use crate::shared::Shared;
use crate::statistics::Budget;

/// Name of the column that a lone array makes.
const COLUMN: &str = "array";

/// As [`crate::describe`], for a whole file.
pub(crate) fn describe(
    source: &Shared<'_>,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let mut array = Array::open(source.section(0, size), COLUMN, size, limits)?;
    let column = array.describe(&mut Budget::default())?;
    Ok(Schema {
        rows: array.rows,
        columns: vec![column],
    })
}

/// As [`crate::read`], for a whole file.
pub(crate) fn read<'a>(
    source: &Shared<'a>,
    size: u64,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    if let Some(other) = columns.iter().find(|name| *name != COLUMN) {
        return Err(DataError::no_column(other, [COLUMN]));
    }
    let array = Array::open(source.section(0, size), COLUMN, size, limits)?;
    Ok(Box::new(SideBySide::new(vec![array])?))
}

/// Arrays with as many rows as one another, a column each.
pub(crate) struct SideBySide<R> {
    arrays: Vec<Array<R>>,
    at: u64,
    rows: u64,
    each: usize,
}

impl<R: std::io::Read> SideBySide<R> {
    pub(crate) fn new(arrays: Vec<Array<R>>) -> Result<Self, DataError> {
        let rows = common(arrays.iter().map(|array| (array.name.as_str(), array.rows)))?;
        let bytes: usize = arrays.iter().map(|array| array.width * 8).sum();
        Ok(Self {
            each: rows_of(bytes),
            arrays,
            at: 0,
            rows,
        })
    }

    fn read(&mut self) -> Result<Chunk, DataError> {
        let rows = (self.rows - self.at).min(self.each as u64) as usize;
        let columns = self.arrays.iter_mut().map(|array| {
            Ok(ChunkColumn {
                name: array.name.clone(),
                shape: array.shape.clone(),
                values: crate::Values::Numbers(array.read(rows)?),
            })
        });
        let columns = columns.collect::<Result<_, DataError>>()?;
        self.at += rows as u64;
        Ok(Chunk {
            first_row: 0,
            rows,
            columns,
        })
    }
}

impl<R: std::io::Read> Iterator for SideBySide<R> {
    type Item = Result<Chunk, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.rows).then(|| self.read())
    }
}

/// The number of rows, when all columns have it in common.
pub(crate) fn common<'n>(
    mut columns: impl Iterator<Item = (&'n str, u64)>,
) -> Result<u64, DataError> {
    let Some((first, rows)) = columns.next() else {
        return Ok(0);
    };
    match columns.find(|(_, count)| *count != rows) {
        None => Ok(rows),
        Some((other, count)) => Err(DataError::Malformed(format!(
            "column `{first}` has {rows} rows, `{other}` has {count}"
        ))),
    }
}
