//! Columns in memory.

use stoker_domain::dataset::DataFormat;

use crate::error::DataError;
use crate::{Layout, Limits, Source, Values, read};

/// Some columns of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Rows of every column.
    pub rows: usize,
    /// The columns, in the order they were asked for.
    pub columns: Vec<ColumnValues>,
}

/// One column's values.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnValues {
    /// The column's name.
    pub name: String,
    /// Shape of one row's value; empty for a number.
    pub shape: Vec<u32>,
    /// Numbers per row.
    pub width: usize,
    /// `rows` x `width` values, row-major.
    pub values: Vec<f32>,
}

/// Reads some columns of numbers that miss no value, as `f32`, in the order they are asked for.
/// `header` is what [`crate::describe`] said.
///
/// Whole numbers up to 2^24 in magnitude are exact; others are rounded to the nearest `f32`.
///
/// # Errors
/// [`DataError`]: a column that isn't there, holds text or misses a value, a broken record, or a
/// passed limit.
pub fn read_columns(
    source: &mut (dyn Source + Send),
    format: DataFormat,
    header: bool,
    columns: &[String],
    limits: &Limits,
) -> Result<Table, DataError> {
    let layout = Layout {
        format,
        header,
        delimiter: None,
        schema: None,
    };
    let mut table = Table {
        rows: 0,
        columns: Vec::new(),
    };
    for chunk in read(Box::new(source), &layout, columns, limits)? {
        let chunk = chunk?;
        if table.columns.is_empty() {
            let columns = chunk.columns.iter().map(|column| ColumnValues {
                name: column.name.clone(),
                shape: column.shape.clone(),
                width: column.shape.iter().map(|&n| n as usize).product(),
                values: Vec::new(),
            });
            table.columns = columns.collect();
        }
        for (to, from) in table.columns.iter_mut().zip(&chunk.columns) {
            let Values::Numbers(numbers) = &from.values else {
                let message = "the values aren't numbers";
                return Err(DataError::record(1, &to.name, message));
            };
            if let Some(index) = numbers.iter().position(|number| number.is_nan()) {
                let row = chunk.first_row + (index / to.width) as u64 + 1;
                let message = "there is no value; a number is needed";
                return Err(DataError::record(row, &to.name, message));
            }
            to.values
                .extend(numbers.iter().map(|&number| number as f32));
        }
        table.rows += chunk.rows;
        check_memory(&table, limits)?;
    }
    Ok(table)
}

/// Holds the sum of all columns' values to the limit.
fn check_memory(table: &Table, limits: &Limits) -> Result<(), DataError> {
    let columns = table.columns.iter();
    let bytes: usize = columns.map(|column| size_of_val(&*column.values)).sum();
    if bytes as u64 <= limits.table_bytes {
        return Ok(());
    }
    Err(DataError::TooLarge(format!(
        "the columns need {bytes} bytes of memory, at most {} are allowed",
        limits.table_bytes
    )))
}
