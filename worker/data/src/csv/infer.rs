//! What the columns of a CSV are, told by all their values.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stoker_domain::dataset::{Column, ColumnKind, Schema};

use super::dialect::Dialect;
use super::fields::Fields;
use crate::Limits;
use crate::blocks::{self, Block, Blocks};
use crate::categories::Categories;
use crate::error::DataError;
use crate::number::{self, Field};
use crate::parallel::Parallel;
use crate::statistics::{Budget, Running};

/// What some rows say of a column.
#[derive(Default)]
struct Part {
    numbers: Vec<f64>,
    /// Fields with nothing in them.
    empty: u64,
    /// Fields that stand for no value, the empty ones among them.
    missing: u64,
    /// Fields with something else than a number.
    others: u64,
    /// Numbers that are too large.
    too_large: u64,
    /// The first field that a column of numbers can't have, by line.
    wrong: Option<(u64, String)>,
    categories: Categories,
}

/// What the rows so far say of a column.
#[derive(Default)]
struct Tally {
    numbers: u64,
    running: Running,
    /// All but the numbers.
    part: Part,
}

impl Tally {
    fn merge(&mut self, part: Part, budget: &mut Budget) {
        self.numbers += part.numbers.len() as u64 + part.too_large;
        self.running.add(&part.numbers, budget);
        self.part.empty += part.empty;
        self.part.missing += part.missing;
        self.part.others += part.others;
        if self.part.wrong.is_none() {
            self.part.wrong = part.wrong;
        }
        self.part.categories.merge(&part.categories);
    }

    const fn is_text(&self) -> bool {
        self.part.others > self.numbers || self.numbers == 0
    }

    fn wrong(&self) -> Option<&(u64, String)> {
        self.part.wrong.as_ref().filter(|_| !self.is_text())
    }

    fn column(&self, name: String) -> Column {
        let described = self.running.finish().filter(|_| !self.is_text());
        match described {
            Some((kind, statistics)) => Column {
                name,
                kind,
                shape: Vec::new(),
                statistics: Some(statistics),
                missing: self.part.missing,
                categories: None,
            },
            None => Column {
                name,
                kind: ColumnKind::Text,
                shape: Vec::new(),
                statistics: None,
                missing: self.part.empty,
                categories: self.part.categories.finish(),
            },
        }
    }
}

/// Parses all records, and says what the columns are.
pub(super) fn infer<R: Read>(
    blocks: &mut Blocks<R>,
    dialect: &Dialect,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let width = dialect.names.len();
    let delimiter = dialect.delimiter;
    // Columns with too many texts to be categories: it is no use to collect more.
    let many: Arc<Vec<AtomicBool>> = Arc::new((0..width).map(|_| AtomicBool::new(false)).collect());
    let known = many.clone();
    let parts = Parallel::new(
        limits.threads,
        || blocks.next(),
        move |block| look(&block, delimiter, &known),
    );
    let mut tallies: Vec<Tally> = (0..width).map(|_| Tally::default()).collect();
    let mut budget = Budget::default();
    let mut rows = 0;
    for part in parts {
        let (count, parts) = part??;
        rows += count;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the file has more than {} rows",
                limits.rows
            )));
        }
        for ((tally, part), many) in tallies.iter_mut().zip(parts).zip(many.iter()) {
            tally.merge(part, &mut budget);
            if tally.part.categories.gave_up() {
                many.store(true, Ordering::Relaxed);
            }
        }
    }
    let wrong = tallies.iter().zip(&dialect.names);
    let wrong = wrong.filter_map(|(tally, name)| Some((tally.wrong()?, name)));
    if let Some(((line, message), name)) = wrong.min_by_key(|((line, _), _)| *line) {
        return Err(DataError::record(*line, name, message));
    }
    if rows == 0 {
        return Err(DataError::Malformed(
            "the file has a header but no rows".to_owned(),
        ));
    }
    let columns = tallies.iter().zip(&dialect.names);
    let columns = columns.map(|(tally, name)| tally.column(name.clone()));
    Ok(Schema {
        rows,
        columns: columns.collect(),
    })
}

/// The rows of a block, and what they say of each column.
fn look(block: &Block, delimiter: u8, many: &[AtomicBool]) -> Result<(u64, Vec<Part>), DataError> {
    let text = blocks::text(block)?;
    let mut fields = Fields::new(block, text, delimiter);
    let mut parts: Vec<Part> = many.iter().map(Part::new).collect();
    let mut rows = 0;
    let width = parts.len();
    while fields.begin_record() {
        for (index, part) in parts.iter_mut().enumerate() {
            match fields.number() {
                Some((value, text)) => {
                    part.numbers.push(value);
                    part.categories.add(text);
                }
                None => {
                    let field = fields.text();
                    part.add(&field, || fields.line());
                }
            }
            if fields.at_record_end() != (index + 1 == width) {
                return Err(fields.ragged(index + 1, width));
            }
        }
        rows += 1;
    }
    Ok((rows, parts))
}

impl Part {
    fn new(many: &AtomicBool) -> Self {
        let mut part = Self::default();
        if many.load(Ordering::Relaxed) {
            part.categories = Categories::too_many();
        }
        part
    }

    fn add(&mut self, field: &str, line: impl Fn() -> u64) {
        self.categories.add(field);
        let wrong = match number::read(field) {
            Field::Number(value) => return self.numbers.push(value),
            Field::Missing => {
                self.missing += 1;
                self.empty += u64::from(field.is_empty());
                return;
            }
            Field::TooLarge(value) => {
                self.too_large += 1;
                number::too_large(value)
            }
            Field::Other => {
                self.others += 1;
                if self.wrong.is_some() {
                    return;
                }
                number::no_number(field)
            }
        };
        self.wrong.get_or_insert_with(|| (line(), wrong));
    }
}
