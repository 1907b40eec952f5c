//! Reads data sets and describes them.
//!
//! [`describe`] parses a file once, in full, when a data set is created: what it accepts, [`read`]
//! can read later, so that a broken record is the uploader's error and never a job's. Both stream
//! the file, hold a few chunks of it in memory whatever its size, and keep to [`Limits`]; neither
//! panics on any input.
//!
//! The caller's thread reads the file and cuts it at ends of records; threads of our own parse and
//! decode ([`Limits::threads`]), and the chunks come in order.
//!
//! The NPY header is read by our own parser: the one that `npyz` has multiplies a shape's extents
//! unchecked and recurses on nested brackets, which a hostile upload could use to end the process.

mod archive;
mod blocks;
mod bounded;
mod categories;
mod chunk;
mod chunks;
mod csv;
mod error;
mod flat;
mod images;
mod json_rows;
mod jsonl;
mod npy;
mod npz;
mod number;
mod parallel;
mod parquet;
mod prepare;
mod shared;
mod sniff;
mod statistics;
mod text;
mod tokenizer;

use std::io::{Read, Seek};

use stoker_domain::dataset::{DataFormat, DatasetRecord, Schema};

pub use chunk::{Chunk, ChunkColumn, Picture, Texts, Values};
pub use chunks::Chunks;
pub use error::DataError;
pub use json_rows::chunk_of_json;
pub use prepare::{Pipeline, Prepared, Sides, is_by_batch};

use shared::Shared;

/// A file: bytes that can be read from any place, as a [`std::fs::File`] or a
/// [`std::io::Cursor`].
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
    /// Longest row of a file of lines, in bytes.
    pub row_bytes: u64,
    /// Most numbers in one row of an array.
    pub row_values: usize,
    /// Most pixels of a picture.
    pub picture_pixels: u64,
    /// Longest file in an archive of pictures, in bytes.
    pub picture_bytes: u64,
    /// Threads that parse and decode, besides the caller's, which reads.
    pub threads: usize,
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
            row_values: 16 << 20,
            picture_pixels: 32 << 20,
            picture_bytes: 64 << 20,
            threads: 2,
        }
    }
}

/// How a file is written, as far as [`describe`] had to find it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The format.
    pub format: DataFormat,
    /// Whether a CSV's first row names the columns.
    pub header: bool,
    /// What stands between the fields of a CSV; a comma where absent.
    pub delimiter: Option<char>,
    /// What the columns are; without it, [`read`] goes through the file twice.
    pub schema: Option<Schema>,
}

impl From<&DatasetRecord> for Layout {
    fn from(record: &DatasetRecord) -> Self {
        Self {
            format: record.format,
            header: record.header,
            delimiter: record.delimiter,
            schema: Some(record.schema.clone()),
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Rows, columns and statistics.
    pub schema: Schema,
    /// Whether a CSV's first row names the columns.
    pub header: bool,
    /// What stands between the fields of a CSV, where it isn't a comma.
    pub delimiter: Option<char>,
}

impl From<Schema> for Description {
    fn from(schema: Schema) -> Self {
        Self {
            schema,
            header: false,
            delimiter: None,
        }
    }
}

/// Parses a whole file and says what is in it.
///
/// A column of a CSV is of numbers when all its values that are there are; it is text when more
/// than half of them aren't, or none is there. Otherwise the first that isn't a number, or is
/// beyond the range of `f32`, is an error. In a column of numbers an empty field, `NA`, `N/A`,
/// `NaN`, `null` and `?` are missing values, in one of texts only an empty field. A column is of
/// integers when all its values are whole, however they are written.
///
/// # Errors
/// [`DataError`]: the first record that is wrong, or the limit that was passed.
pub fn describe<'a>(
    mut source: Box<dyn Source + Send + 'a>,
    format: DataFormat,
    header: Header,
    limits: &Limits,
) -> Result<Description, DataError> {
    let size = bounded::size_of(&mut source, limits)?;
    let mut first = Vec::new();
    (&mut source)
        .take(sniff::LOOKED_AT_BYTES as u64)
        .read_to_end(&mut first)?;
    source.rewind().map_err(DataError::Read)?;
    sniff::check(&first, format)?;
    match format {
        DataFormat::Csv => csv::describe(Box::new(source), header, limits),
        DataFormat::CsvGz => csv::describe(gunzip(source, size, limits), header, limits),
        DataFormat::Text => Ok(text::describe(Box::new(source), limits)?.into()),
        DataFormat::TextGz => Ok(text::describe(gunzip(source, size, limits), limits)?.into()),
        DataFormat::Npy => Ok(npy::describe(&Shared::new(source), size, limits)?.into()),
        DataFormat::Npz => Ok(npz::describe(&Shared::new(source), size, limits)?.into()),
        DataFormat::Jsonl => Ok(jsonl::describe(Box::new(source), limits)?.into()),
        DataFormat::JsonlGz => Ok(jsonl::describe(gunzip(source, size, limits), limits)?.into()),
        DataFormat::Images => Ok(images::describe(&Shared::new(source), size, limits)?.into()),
        DataFormat::Parquet => Ok(parquet::describe(&Shared::new(source), size, limits)?.into()),
        DataFormat::Tokenizer => Ok(tokenizer::describe(source, limits)?.into()),
    }
}

/// Reads some columns of a file that [`describe`] accepted, in the order they are asked for, in
/// chunks of at most 8,192 rows and about 4 MiB of values.
///
/// # Errors
/// [`DataError`]: a column that isn't there; from the chunks, a broken record or a passed limit.
pub fn read<'a>(
    mut source: Box<dyn Source + Send + 'a>,
    layout: &Layout,
    columns: &[String],
    limits: &Limits,
) -> Result<Chunks<'a>, DataError> {
    let size = bounded::size_of(&mut source, limits)?;
    if columns.is_empty() {
        return Err(DataError::Malformed("no columns were asked for".to_owned()));
    }
    let mut delimiter = layout.delimiter;
    let described;
    let schema = match &layout.schema {
        Some(schema) => schema,
        None => {
            let header = if layout.header {
                Header::Yes
            } else {
                Header::No
            };
            described = describe(Box::new(&mut source), layout.format, header, limits)?;
            source.rewind().map_err(DataError::Read)?;
            delimiter = delimiter.or(described.delimiter);
            &described.schema
        }
    };
    let (names, order) = chunks::distinct(columns);
    let names = names.as_slice();
    let header = layout.header;
    let inner = match layout.format {
        DataFormat::Csv => csv::read(Box::new(source), header, delimiter, schema, names, limits)?,
        DataFormat::CsvGz => {
            let source = gunzip(source, size, limits);
            csv::read(source, header, delimiter, schema, names, limits)?
        }
        DataFormat::Text => text::read(Box::new(source), names, limits)?,
        DataFormat::TextGz => text::read(gunzip(source, size, limits), names, limits)?,
        DataFormat::Npy => npy::read(&Shared::new(source), size, names, limits)?,
        DataFormat::Npz => npz::read(&Shared::new(source), size, names, limits)?,
        DataFormat::Jsonl => jsonl::read(Box::new(source), schema, names, limits)?,
        DataFormat::JsonlGz => jsonl::read(gunzip(source, size, limits), schema, names, limits)?,
        DataFormat::Images => {
            images::read(&Shared::new(source), size, Some(schema), names, limits)?
        }
        DataFormat::Parquet => parquet::read(&Shared::new(source), size, schema, names, limits)?,
        DataFormat::Tokenizer => tokenizer::read(source, names, limits)?,
    };
    Ok(Chunks::new(inner, limits).in_order(order))
}

fn gunzip<'a>(
    source: Box<dyn Source + Send + 'a>,
    size: u64,
    limits: &Limits,
) -> Box<dyn Read + Send + 'a> {
    Box::new(bounded::gunzip(source, size, limits))
}

#[cfg(test)]
mod tests;
