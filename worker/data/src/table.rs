//! Columns in memory.

use crate::Limits;
use crate::error::{DataError, shown};

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

/// A value as training will see it, or what is wrong with it.
pub(crate) fn check(value: f64) -> Result<f32, String> {
    if value.is_nan() {
        return Err("NaN is not a number that can be trained on".to_owned());
    }
    let narrow = value as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(format!("{value} is beyond the range of 32-bit numbers"))
    }
}

/// A field of a CSV as a number, or what is wrong with it.
pub(crate) fn parse(field: &[u8]) -> Result<f64, Wrong> {
    let text = std::str::from_utf8(field).ok().map(str::trim);
    match text {
        Some("") => Err(Wrong::Empty),
        Some(text) => text.parse().map_err(|_| Wrong::NotANumber),
        None => Err(Wrong::NotANumber),
    }
}

/// Why a field isn't a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// There is nothing.
    Empty,
    /// There is something else.
    NotANumber,
}

impl Wrong {
    /// One sentence about `field`.
    pub(crate) fn message(self, field: &[u8]) -> String {
        match self {
            Self::Empty => "there is no value; a number is needed".to_owned(),
            Self::NotANumber => {
                let text = String::from_utf8_lossy(field);
                format!("{:?} is not a number", shown(text.trim()))
            }
        }
    }
}

/// Holds the sum of all columns' values to the limit.
pub(crate) fn check_memory(values: u64, limits: &Limits) -> Result<(), DataError> {
    let bytes = values.saturating_mul(size_of::<f32>() as u64);
    if bytes <= limits.table_bytes {
        return Ok(());
    }
    Err(DataError::TooLarge(format!(
        "the columns need {bytes} bytes of memory, at most {} are allowed",
        limits.table_bytes
    )))
}
