//! Plain text: a row per line.

use std::io::Read;

use stoker_domain::dataset::{Column, ColumnKind, Schema};

use crate::Limits;
use crate::blocks::{self, Block, Blocks};
use crate::categories::Categories;
use crate::chunk::{Chunk, ChunkColumn, Texts, Values};
use crate::chunks::{Inner, split};
use crate::error::DataError;
use crate::flat::Flat;
use crate::parallel::Parallel;

/// Name of the column.
const COLUMN: &str = "text";

/// As [`crate::describe`].
pub(crate) fn describe<'a>(
    source: Box<dyn Read + Send + 'a>,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let mut rows = 0;
    let mut categories = Categories::default();
    for chunk in read(source, &[COLUMN.to_owned()], limits)? {
        let chunk = chunk?;
        rows += chunk.rows as u64;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the file has more than {} rows",
                limits.rows
            )));
        }
        for column in &chunk.columns {
            if let Values::Texts(texts) = &column.values {
                texts.iter().for_each(|text| categories.add(text));
            }
        }
    }
    if rows == 0 {
        return Err(DataError::Malformed("the file is empty".to_owned()));
    }
    let column = Column {
        name: COLUMN.to_owned(),
        kind: ColumnKind::Text,
        shape: Vec::new(),
        statistics: None,
        // An empty line is a line: paragraphs end so.
        missing: 0,
        categories: categories.finish(),
    };
    Ok(Schema {
        rows,
        columns: vec![column],
    })
}

/// As [`crate::read`].
pub(crate) fn read<'a>(
    source: Box<dyn Read + Send + 'a>,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    if let Some(other) = columns.iter().find(|name| *name != COLUMN) {
        return Err(DataError::no_column(other, [COLUMN]));
    }
    let mut blocks = Blocks::new(source, blocks::at_lines, limits);
    blocks.skip_mark()?;
    let parsed = Parallel::new(limits.threads, move || blocks.next(), |block| lines(&block));
    Ok(Box::new(Flat::<_, Chunk>::new(parsed)))
}

fn lines(block: &Block) -> Result<Vec<Chunk>, DataError> {
    let texts: Texts = blocks::text(block)?.lines().collect();
    let rows = texts.len();
    let column = ChunkColumn {
        name: COLUMN.to_owned(),
        shape: Vec::new(),
        values: Values::Texts(texts),
    };
    Ok(split(vec![column], rows))
}
