//! What the columns are, told by all lines.

use std::collections::HashMap;
use std::io::Read;

use stoker_domain::dataset::{Column, ColumnKind, Schema};

use super::value::{self, Sink, Value};
use super::{broken, lines};
use crate::Limits;
use crate::blocks::{self, Block, Blocks};
use crate::categories::Categories;
use crate::error::{DataError, shown};
use crate::number::{in_range, too_large};
use crate::parallel::Parallel;
use crate::statistics::{Budget, Running};

/// Longest name of a column, in bytes.
const NAME_MAX_BYTES: usize = 256;

/// What a column's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Array(Vec<u32>),
}

impl Kind {
    fn say(&self) -> String {
        match self {
            Self::Number => "a number".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Array(shape) => format!("a list of shape {shape:?}"),
        }
    }
}

/// What some lines say of a column.
#[derive(Default)]
struct Part {
    /// What its first value is, and the line of that.
    kind: Option<(Kind, u64)>,
    numbers: Vec<f64>,
    /// Rows with a value that is whole.
    there: u64,
    categories: Categories,
    /// The last row of the block that named it.
    seen: u64,
}

/// Columns in the order in which they appear.
#[derive(Default)]
struct Named<T> {
    columns: Vec<(String, T)>,
    places: HashMap<String, usize>,
}

impl<T: Default> Named<T> {
    fn place(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let place = self.columns.len();
        self.places.insert(name.to_owned(), place);
        self.columns.push((name.to_owned(), T::default()));
        place
    }
}

/// What the lines so far say of a column.
#[derive(Default)]
struct Tally {
    part: Part,
    running: Running,
}

/// Parses all lines, and says what the columns are.
pub(super) fn infer<R: Read>(blocks: &mut Blocks<R>, limits: &Limits) -> Result<Schema, DataError> {
    let (columns_max, values_max) = (limits.columns, limits.row_values);
    let parts = Parallel::new(
        limits.threads,
        || blocks.next(),
        move |block| look(&block, columns_max, values_max),
    );
    let mut named = Named::<Tally>::default();
    let mut budget = Budget::default();
    let mut rows = 0;
    for part in parts {
        let (count, part) = part??;
        rows += count;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the file has more than {} rows",
                limits.rows
            )));
        }
        for (name, part) in part.columns {
            let place = named.place(&name);
            check_count(place, limits.columns)?;
            named.columns[place].1.merge(&name, part, &mut budget)?;
        }
    }
    if rows == 0 {
        return Err(DataError::Malformed("the file has no rows".to_owned()));
    }
    if named.columns.is_empty() {
        let message = "the objects of the file have no values";
        return Err(DataError::Malformed(message.to_owned()));
    }
    let columns = named.columns.into_iter();
    let columns = columns.map(|(name, tally)| tally.column(name, rows));
    Ok(Schema {
        rows,
        columns: columns.collect(),
    })
}

fn check_count(place: usize, columns_max: usize) -> Result<(), DataError> {
    if place < columns_max {
        return Ok(());
    }
    Err(DataError::TooLarge(format!(
        "the file has more than {columns_max} columns"
    )))
}

impl Tally {
    fn merge(&mut self, name: &str, part: Part, budget: &mut Budget) -> Result<(), DataError> {
        let mine = &mut self.part;
        if let Some((kind, line)) = part.kind {
            let first = mine.kind.get_or_insert_with(|| (kind.clone(), line));
            if first.0 != kind {
                return Err(DataError::record(line, name, differs(&kind, first)));
            }
        }
        mine.there += part.there;
        mine.categories.merge(&part.categories);
        self.running.add(&part.numbers, budget);
        Ok(())
    }

    fn column(&self, name: String, rows: u64) -> Column {
        let found = self.running.finish();
        let (kind, shape) = match &self.part.kind {
            Some((Kind::Number, _)) => (None, Vec::new()),
            Some((Kind::Array(shape), _)) => (None, shape.clone()),
            Some((Kind::Text, _)) | None => (Some(ColumnKind::Text), Vec::new()),
        };
        let of_numbers = found.as_ref().map_or(ColumnKind::Float, |(kind, _)| *kind);
        Column {
            name,
            kind: kind.unwrap_or(of_numbers),
            shape,
            statistics: found.map(|(_, statistics)| statistics),
            missing: rows - self.part.there,
            categories: self.part.categories.finish().filter(|_| kind.is_some()),
        }
    }
}

fn differs(kind: &Kind, first: &(Kind, u64)) -> String {
    format!(
        "{} where row {} has {}; make all values of the column alike, or null",
        kind.say(),
        first.1,
        first.0.say()
    )
}

/// The rows of a block, and what they say of each column.
fn look(
    block: &Block,
    columns_max: usize,
    values_max: usize,
) -> Result<(u64, Named<Part>), DataError> {
    let text = blocks::text(block)?;
    let mut looking = Looking {
        named: Named::default(),
        row: 0,
        line: 0,
    };
    for (number, line) in lines(text, block.line) {
        looking.row += 1;
        looking.line = number;
        value::parse(line, &mut looking, values_max).map_err(|wrong| broken(number, wrong))?;
        check_count(looking.named.columns.len().saturating_sub(1), columns_max)?;
    }
    Ok((looking.row, looking.named))
}

struct Looking {
    named: Named<Part>,
    row: u64,
    line: u64,
}

impl Sink for Looking {
    fn place(&mut self, name: &str) -> Result<Option<usize>, String> {
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return Err(format!(
                "the name {:?} has {} bytes, 1 to {NAME_MAX_BYTES} are allowed",
                shown(name),
                name.len()
            ));
        }
        let place = self.named.place(name);
        let part = &mut self.named.columns[place].1;
        if std::mem::replace(&mut part.seen, self.row) == self.row {
            return Err("the line has the name twice".to_owned());
        }
        Ok(Some(place))
    }

    fn take(&mut self, place: usize, value: Value<'_>) -> Result<(), String> {
        let part = &mut self.named.columns[place].1;
        let kind = match &value {
            Value::Null => return Ok(()),
            Value::Number(_) => Kind::Number,
            Value::Text(_) => Kind::Text,
            Value::Array(shape, _) if shape.contains(&0) => {
                return Err("an empty list; write null where there is no value".to_owned());
            }
            Value::Array(shape, _) => Kind::Array(shape.clone()),
        };
        let first = part.kind.get_or_insert_with(|| (kind.clone(), self.line));
        if first.0 != kind {
            return Err(differs(&kind, first));
        }
        let before = part.numbers.len();
        match value {
            Value::Null => {}
            Value::Number(value) => part.numbers.push(value),
            Value::Array(_, values) => part.numbers.extend(values),
            Value::Text(text) => {
                part.categories.add(&text);
                part.there += u64::from(!text.is_empty());
                return Ok(());
            }
        }
        let added = &part.numbers[before..];
        if let Some(&value) = added.iter().find(|v| !v.is_nan() && !in_range(**v)) {
            return Err(too_large(value));
        }
        part.there += u64::from(!added.iter().any(|value| value.is_nan()));
        Ok(())
    }
}
