//! The chunks of a file, as whoever reads it sees them.

use std::collections::HashMap;

use crate::Limits;
use crate::chunk::{Chunk, ChunkColumn, Values};
use crate::error::DataError;

/// Most rows of a chunk.
pub(crate) const ROWS_MAX: usize = 8_192;
/// What the values of a chunk may have, in bytes, unless one row has more.
pub(crate) const VALUES_MAX_BYTES: usize = 4 << 20;

/// Rows of a chunk whose rows have `row_bytes` of values.
pub(crate) const fn rows_of(row_bytes: usize) -> usize {
    let fit = match VALUES_MAX_BYTES.checked_div(row_bytes) {
        Some(rows) => rows,
        None => ROWS_MAX,
    };
    match fit {
        0 => 1,
        fit if fit > ROWS_MAX => ROWS_MAX,
        fit => fit,
    }
}

/// Reads a file chunk by chunk; after an error there is nothing more.
pub struct Chunks<'a> {
    inner: Option<Inner<'a>>,
    /// Where each column that was asked for is among those that are read; empty when they are the
    /// same.
    order: Vec<usize>,
    rows: u64,
    rows_max: u64,
}

/// What a reader gives; a chunk's first row is numbered here.
pub(crate) type Inner<'a> = Box<dyn Iterator<Item = Result<Chunk, DataError>> + Send + 'a>;

impl<'a> Chunks<'a> {
    pub(crate) fn new(inner: Inner<'a>, limits: &Limits) -> Self {
        Self {
            inner: Some(inner),
            order: Vec::new(),
            rows: 0,
            rows_max: limits.rows,
        }
    }

    /// Gives the columns that were read in this order; see [`distinct`].
    pub(crate) fn in_order(mut self, order: Vec<usize>) -> Self {
        self.order = order;
        self
    }

    fn finish(&mut self, mut chunk: Chunk) -> Result<Chunk, DataError> {
        chunk.first_row = self.rows;
        self.rows += chunk.rows as u64;
        if self.rows > self.rows_max {
            return Err(DataError::TooLarge(format!(
                "the file has more than {} rows",
                self.rows_max
            )));
        }
        if !self.order.is_empty() {
            let columns = self.order.iter().map(|&index| chunk.columns[index].clone());
            chunk.columns = columns.collect();
        }
        Ok(chunk)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Chunk, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.inner.as_mut()?.next();
        let next = next.map(|chunk| chunk.and_then(|chunk| self.finish(chunk)));
        if !matches!(next, Some(Ok(_))) {
            self.inner = None;
        }
        next
    }
}

impl std::fmt::Debug for Chunks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("rows", &self.rows).finish()
    }
}

/// The different columns among those asked for, and where each of those is among them; no places
/// when all differ.
pub(crate) fn distinct(columns: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut places = HashMap::new();
    let mut names = Vec::new();
    let mut order = Vec::with_capacity(columns.len());
    for name in columns {
        let place = *places.entry(name.as_str()).or_insert(names.len());
        if place == names.len() {
            names.push(name.clone());
        }
        order.push(place);
    }
    if names.len() == columns.len() {
        order.clear();
    }
    (names, order)
}

/// Cuts rows that were parsed at once into chunks.
pub(crate) fn split(columns: Vec<ChunkColumn>, rows: usize) -> Vec<Chunk> {
    let whole = |columns| Chunk {
        first_row: 0,
        rows,
        columns,
    };
    if rows == 0 {
        return Vec::new();
    }
    let bytes: usize = columns
        .iter()
        .map(|column| column.values.size_bytes())
        .sum();
    let each = rows_of(bytes.div_ceil(rows));
    if rows <= each {
        return vec![whole(columns)];
    }
    let parts = (0..rows).step_by(each).map(|begin| {
        let end = rows.min(begin + each);
        let columns = columns.iter().map(|column| ChunkColumn {
            name: column.name.clone(),
            shape: column.shape.clone(),
            values: slice(&column.values, rows, begin, end),
        });
        Chunk {
            first_row: 0,
            rows: end - begin,
            columns: columns.collect(),
        }
    });
    parts.collect()
}

fn slice(values: &Values, rows: usize, begin: usize, end: usize) -> Values {
    match values {
        Values::Numbers(numbers) => {
            let width = numbers.len() / rows;
            Values::Numbers(numbers[begin * width..end * width].to_vec())
        }
        Values::Texts(texts) => Values::Texts(texts.slice(begin, end)),
        Values::Pictures(pictures) => Values::Pictures(pictures[begin..end].to_vec()),
    }
}
