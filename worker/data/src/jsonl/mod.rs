//! A JSON object a line: a column per name.

mod infer;
mod parse;
mod value;

use std::io::Read;

use stoker_domain::dataset::Schema;

use crate::Limits;
use crate::blocks::{self, Blocks};
use crate::chunk::Chunk;
use crate::chunks::{Inner, rows_of};
use crate::error::DataError;
use crate::flat::Flat;
use crate::parallel::Parallel;

/// As [`crate::describe`].
pub(crate) fn describe<'a>(
    source: Box<dyn Read + Send + 'a>,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let mut blocks = Blocks::new(source, blocks::at_lines, limits);
    blocks.skip_mark()?;
    infer::infer(&mut blocks, limits)
}

/// As [`crate::read`], of a file with that schema.
pub(crate) fn read<'a>(
    source: Box<dyn Read + Send + 'a>,
    schema: &Schema,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    let mut blocks = Blocks::new(source, blocks::at_lines, limits);
    blocks.skip_mark()?;
    let plan = parse::Plan::new(schema, columns, limits)?;
    // A line takes its full width however little it says.
    blocks.set_lines_max(rows_of(plan.row_bytes()));
    let parsed = Parallel::new(
        limits.threads,
        move || blocks.next(),
        move |block| plan.parse(&block),
    );
    Ok(Box::new(Flat::<_, Chunk>::new(parsed)))
}

/// The lines of a text that aren't blank, with their numbers.
fn lines(text: &str, first: u64) -> impl Iterator<Item = (u64, &str)> {
    let lines = (first..).zip(text.lines());
    lines.filter(|(_, line)| !line.trim().is_empty())
}

/// An error in a line.
fn broken(line: u64, wrong: value::Wrong) -> DataError {
    match wrong.column {
        Some(column) => DataError::record(line, &column, wrong.message),
        None => DataError::Row {
            row: line,
            message: wrong.message,
        },
    }
}
