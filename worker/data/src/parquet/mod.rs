//! Apache Parquet.

mod crew;
mod decode;
mod leaf;
mod list;
mod remote;
mod thrift;
mod time;
mod value;

use std::panic::catch_unwind;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use stoker_domain::dataset::{Column, ColumnKind, Schema};

use crate::Limits;
use crate::bounded::expansion_max;
use crate::categories::Categories;
use crate::chunk::{Chunk, ChunkColumn, Values};
use crate::chunks::{Inner, rows_of};
use crate::error::DataError;
use crate::parallel::gave_up;
use crate::shared::Shared;
use crate::statistics::{Budget, Running};
use crew::Crew;
use decode::Part;
use leaf::Leaf;

/// Longest description of a file at its end, in bytes.
const FOOTER_MAX_BYTES: usize = 16 << 20;
/// What a file begins and ends with.
const MARK: &[u8; 4] = b"PAR1";
/// Rows that are read first, until it is known how long texts and lists are.
const FIRST_ROWS: usize = 1_024;

/// A file that is open.
struct Open {
    metadata: Arc<ParquetMetaData>,
    leaves: Vec<Leaf>,
    rows: u64,
}

impl Open {
    fn new(source: &Shared<'_>, size: u64, limits: &Limits) -> Result<Self, DataError> {
        let metadata = footer(source, size)?;
        let schema = metadata.file_metadata().schema_descr();
        if schema.num_columns() > limits.columns {
            return Err(DataError::TooLarge(format!(
                "the file has {} columns, at most {} are allowed",
                schema.num_columns(),
                limits.columns
            )));
        }
        let leaves = leaf::leaves(schema)?;
        let (mut rows, mut expanded) = (0_u64, 0_u64);
        for group in metadata.row_groups() {
            let count = u64::try_from(group.num_rows()).map_err(|_| broken())?;
            rows = rows.saturating_add(count);
            if group.num_columns() != schema.num_columns() {
                return Err(broken());
            }
            for column in group.columns() {
                check_codec(column.compression(), column.column_path().string())?;
                let bytes = u64::try_from(column.uncompressed_size()).map_err(|_| broken())?;
                expanded = expanded.saturating_add(bytes);
            }
        }
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the file has {rows} rows, at most {} are allowed",
                limits.rows
            )));
        }
        if rows == 0 {
            return Err(DataError::Malformed("the file has no rows".to_owned()));
        }
        if expanded > expansion_max(size, limits) {
            return Err(DataError::TooLarge(format!(
                "the file expands to {expanded} bytes, more than is allowed"
            )));
        }
        Ok(Self {
            metadata: Arc::new(metadata),
            leaves,
            rows,
        })
    }
}

fn broken() -> DataError {
    DataError::Malformed("the file is broken: its description makes no sense".to_owned())
}

fn check_codec(codec: Compression, column: String) -> Result<(), DataError> {
    match codec {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::LZ4
        | Compression::LZ4_RAW
        | Compression::ZSTD(_) => Ok(()),
        Compression::LZO | Compression::BROTLI(_) => Err(DataError::Malformed(format!(
            "column `{column}` is compressed by {codec}; use snappy, gzip, zstd or lz4"
        ))),
    }
}

fn footer(source: &Shared<'_>, size: u64) -> Result<ParquetMetaData, DataError> {
    let cut_off = || DataError::Malformed("the Parquet file is cut off".to_owned());
    let at = size.checked_sub(8).ok_or_else(cut_off)?;
    let end = source.bytes(at, 8)?;
    let (length, mark) = end.split_first_chunk::<4>().ok_or_else(cut_off)?;
    if mark != MARK {
        return Err(cut_off());
    }
    let length = u32::from_le_bytes(*length) as usize;
    if length > FOOTER_MAX_BYTES {
        return Err(DataError::TooLarge(format!(
            "the file's description has {length} bytes, at most {FOOTER_MAX_BYTES} are allowed"
        )));
    }
    let begin = at.checked_sub(length as u64).ok_or_else(cut_off)?;
    let bytes = source.bytes(begin, length)?;
    match thrift::has_sound_schema(&bytes) {
        Some(true) => {}
        Some(false) => {
            let message = "the file's schema is nested too deeply, or says more than it has";
            return Err(DataError::Malformed(message.to_owned()));
        }
        None => return Err(broken()),
    }
    let decoded = catch_unwind(|| ParquetMetaDataReader::decode_metadata(&bytes));
    let decoded = decoded.map_err(|_| gave_up())?;
    decoded.map_err(|error| DataError::Malformed(format!("the file is broken: {error}")))
}

/// As [`crate::describe`].
pub(crate) fn describe(
    source: &Shared<'_>,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let open = Open::new(source, size, limits)?;
    let leaves: Vec<_> = open
        .leaves
        .iter()
        .map(|leaf| (leaf.clone(), None))
        .collect();
    let crew = Crew::start(source.clone(), &open.metadata, leaves, limits.threads)?;
    let mut tallies: Vec<Tally> = open.leaves.iter().map(|_| Tally::default()).collect();
    let mut budget = Budget::default();
    for part in Rows::new(crew, open.rows, true) {
        let (_, parts) = part?;
        for (tally, part) in tallies.iter_mut().zip(parts) {
            tally.add(part, &mut budget);
        }
    }
    let columns = open.leaves.iter().zip(tallies);
    let columns = columns.map(|(leaf, tally)| tally.column(leaf));
    Ok(Schema {
        rows: open.rows,
        columns: columns.collect::<Result<_, _>>()?,
    })
}

/// What the rows so far say of a column.
#[derive(Default)]
struct Tally {
    running: Running,
    categories: Categories,
    missing: u64,
    shape: Option<Vec<u32>>,
}

impl Tally {
    fn add(&mut self, part: Part, budget: &mut Budget) {
        self.missing += part.missing;
        self.shape = part.shape;
        match &part.values {
            Values::Numbers(numbers) => self.running.add(numbers, budget),
            Values::Texts(texts) => texts.iter().for_each(|text| self.categories.add(text)),
            Values::Pictures(_) => {}
        }
    }

    fn column(self, leaf: &Leaf) -> Result<Column, DataError> {
        let found = self.running.finish();
        let kind = match &found {
            _ if leaf.kind.is_text() => ColumnKind::Text,
            Some((kind, _)) => *kind,
            None => ColumnKind::Float,
        };
        let shape = self.shape.ok_or_else(|| {
            DataError::Malformed(format!(
                "column `{}` has no list in any row; leave it out",
                leaf.name
            ))
        })?;
        Ok(Column {
            name: leaf.name.clone(),
            kind,
            shape,
            statistics: found.map(|(_, statistics)| statistics),
            missing: self.missing,
            categories: self.categories.finish().filter(|_| leaf.kind.is_text()),
        })
    }
}

/// As [`crate::read`], of a file with that schema.
pub(crate) fn read<'a>(
    source: &Shared<'a>,
    size: u64,
    schema: &Schema,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    let open = Open::new(source, size, limits)?;
    let leaves = columns.iter().map(|name| {
        let known = || open.leaves.iter().map(|leaf| leaf.name.as_str());
        let leaf = open.leaves.iter().find(|leaf| leaf.name == *name);
        let leaf = leaf.ok_or_else(|| DataError::no_column(name, known()))?;
        let shape = schema.column(name).map(|column| column.shape.clone());
        Ok((leaf.clone(), shape))
    });
    let leaves = leaves.collect::<Result<Vec<_>, DataError>>()?;
    let is_plain = |(leaf, _): &(Leaf, _)| !leaf.kind.is_text() && !leaf.is_list();
    let unknown = !leaves.iter().all(is_plain);
    let names = columns.to_vec();
    let crew = Crew::start(source.clone(), &open.metadata, leaves, limits.threads)?;
    let rows = Rows::new(crew, open.rows, unknown);
    Ok(Box::new(rows.map(move |part| {
        let (rows, parts) = part?;
        let columns = names.iter().zip(parts).map(|(name, part)| ChunkColumn {
            name: name.clone(),
            shape: part.shape.unwrap_or_default(),
            values: part.values,
        });
        Ok(Chunk {
            first_row: 0,
            rows,
            columns: columns.collect(),
        })
    })))
}

/// The rows of a file, so many at a time that they take no more memory than is meant.
struct Rows<'a> {
    crew: Crew<'a>,
    left: u64,
    each: usize,
}

impl<'a> Rows<'a> {
    /// `unknown`: what a row has in bytes is still to be found out.
    fn new(crew: Crew<'a>, rows: u64, unknown: bool) -> Self {
        let each = rows_of(crew.columns() * size_of::<f64>());
        Self {
            crew,
            left: rows,
            each: if unknown { each.min(FIRST_ROWS) } else { each },
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(usize, Vec<Part>), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 && self.crew.has_room() {
            let rows = self.left.min(self.each as u64) as usize;
            self.crew.order(rows);
            self.left -= rows as u64;
        }
        let next = self.crew.next()?;
        if let Ok((rows, parts)) = &next {
            let bytes: usize = parts.iter().map(|part| part.values.size_bytes()).sum();
            self.each = rows_of(bytes.div_ceil(*rows));
        }
        Some(next)
    }
}
