//! Reads data sets and describes them.
//!
//! [`describe`] parses a file once, in full, when a data set is created: what it accepts,
//! [`read_columns`] can read later, so that a broken record is the uploader's error and never a
//! job's. Both stream the file and hold to [`Limits`]; neither panics on any input.
//!
//! The NPY header is read by our own parser: the one that `npyz` has multiplies a shape's extents
//! unchecked and recurses on nested brackets, which a hostile upload could use to end the process.

mod bounded;
mod chunk;
mod delimited;
mod error;
mod json_rows;
mod npy;
mod npz;
mod prepare;
mod statistics;
mod table;

use std::io::{Read, Seek};

use stoker_domain::dataset::{DataFormat, Schema};

pub use chunk::{Chunk, ChunkColumn, Picture, Texts, Values};
pub use error::DataError;
pub use json_rows::chunk_of_json;
pub use prepare::{Pipeline, Prepared, Sides, is_by_batch};
pub use table::{ColumnValues, Table};

/// A file: bytes that can be read from any place. `&mut std::io::Cursor::new(bytes)` is one.
pub trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// Whether a CSV's first row names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// It does when none of its fields is a number.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It doesn't.
    No,
}

/// What a file may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub size_bytes: u64,
    /// Most bytes that a compressed file may expand to.
    pub expanded_bytes: u64,
    /// Most that a compressed file may expand, as a factor of its size; the first 64 MiB are free.
    pub expansion_ratio: u64,
    /// Most rows.
    pub rows: u64,
    /// Most columns.
    pub columns: usize,
    /// Longest row of a CSV, in bytes.
    pub row_bytes: u64,
    /// Most bytes of values that [`read_columns`] holds.
    pub table_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size_bytes: 1 << 30,
            expanded_bytes: 8 << 30,
            expansion_ratio: 200,
            rows: 1 << 30,
            columns: 16_384,
            row_bytes: 16 << 20,
            table_bytes: 16 << 30,
        }
    }
}

/// Parses a whole file and says what is in it: the schema with statistics, and whether a CSV's
/// first row is a header.
///
/// A CSV column is text when more than half of its non-empty values aren't numbers; in any other
/// column a value that isn't a finite number in the range of `f32`, or is missing, is an error. A
/// column is of integers when all its values are whole, however they are written.
///
/// # Errors
/// [`DataError`]: the first record that is wrong, or the limit that was passed.
pub fn describe(
    source: &mut dyn Source,
    format: DataFormat,
    header: Header,
    limits: &Limits,
) -> Result<(Schema, bool), DataError> {
    let size = bounded::size_of(source, limits)?;
    match format {
        DataFormat::Csv => delimited::describe(bounded::plain(source, limits), header, limits),
        DataFormat::CsvGz => {
            delimited::describe(bounded::gunzip(source, size, limits), header, limits)
        }
        DataFormat::Npy => Ok((npy::describe(source, size, limits)?, false)),
        DataFormat::Npz => Ok((npz::describe(source, size, limits)?, false)),
        other => Err(unread(other)),
    }
}

/// Reads some columns of a file that [`describe`] accepted, as `f32`, row-major, in the order they
/// were asked for. `header` is what [`describe`] said.
///
/// Whole numbers up to 2^24 in magnitude are exact; others are rounded to the nearest `f32`.
///
/// # Errors
/// [`DataError`]: a column that isn't there or holds text, a broken record, or a passed limit.
pub fn read_columns(
    source: &mut dyn Source,
    format: DataFormat,
    header: bool,
    columns: &[String],
    limits: &Limits,
) -> Result<Table, DataError> {
    let size = bounded::size_of(source, limits)?;
    match format {
        DataFormat::Csv => delimited::read(bounded::plain(source, limits), header, columns, limits),
        DataFormat::CsvGz => delimited::read(
            bounded::gunzip(source, size, limits),
            header,
            columns,
            limits,
        ),
        DataFormat::Npy => npy::read(source, size, columns, limits),
        DataFormat::Npz => npz::read(source, size, columns, limits),
        other => Err(unread(other)),
    }
}

fn unread(format: DataFormat) -> DataError {
    DataError::Malformed(format!("{} can't be read yet", format.as_str()))
}

#[cfg(test)]
mod tests;
