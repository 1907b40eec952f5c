//! CSV (RFC 4180), with the delimiter it is found to have.

mod dialect;
mod fields;
mod infer;
mod parse;

use std::io::Read;

use stoker_domain::dataset::{ColumnKind, Schema};

use crate::blocks::Blocks;
use crate::chunk::Chunk;
use crate::chunks::Inner;
use crate::error::DataError;
use crate::flat::Flat;
use crate::parallel::Parallel;
use crate::{Description, Header, Limits};

/// As [`crate::describe`].
pub(crate) fn describe<'a>(
    source: Box<dyn Read + Send + 'a>,
    header: Header,
    limits: &Limits,
) -> Result<Description, DataError> {
    let mut blocks = Blocks::new(source, fields::last_record_end, limits);
    let dialect = dialect::open(&mut blocks, header, None, limits)?;
    let schema = infer::infer(&mut blocks, &dialect, limits)?;
    Ok(Description {
        schema,
        header: dialect.has_header,
        delimiter: (dialect.delimiter != b',').then_some(char::from(dialect.delimiter)),
    })
}

/// As [`crate::read`], of a file with that schema.
pub(crate) fn read<'a>(
    source: Box<dyn Read + Send + 'a>,
    header: bool,
    delimiter: Option<char>,
    schema: &Schema,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    let mut blocks = Blocks::new(source, fields::last_record_end, limits);
    let header = if header { Header::Yes } else { Header::No };
    let delimiter = Some(delimiter.unwrap_or(','));
    let dialect = dialect::open(&mut blocks, header, delimiter, limits)?;
    let is_text = |name: &str| {
        let column = schema.column(name);
        column.is_some_and(|column| column.kind == ColumnKind::Text)
    };
    let plan = parse::Plan::new(&dialect, columns, is_text)?;
    let parsed = Parallel::new(
        limits.threads,
        move || blocks.next(),
        move |block| plan.parse(&block),
    );
    Ok(Box::new(Flat::<_, Chunk>::new(parsed)))
}
