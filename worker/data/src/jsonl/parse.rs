//! Blocks of lines as chunks.

use std::collections::HashMap;

use stoker_domain::dataset::{ColumnKind, Schema};

use super::value::{self, Sink, Value};
use super::{broken, lines};
use crate::Limits;
use crate::blocks::{self, Block};
use crate::chunk::{Chunk, ChunkColumn, Texts, Values};
use crate::chunks::split;
use crate::error::DataError;
use crate::number::{in_range, too_large};

/// The columns that are read.
pub(super) struct Plan {
    columns: Vec<Wanted>,
    places: HashMap<String, usize>,
    values_max: usize,
}

struct Wanted {
    name: String,
    is_text: bool,
    shape: Vec<u32>,
    width: usize,
}

impl Plan {
    pub(super) fn new(
        schema: &Schema,
        columns: &[String],
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let wanted = columns.iter().map(|name| {
            let known = || schema.columns.iter().map(|column| column.name.as_str());
            let column = schema.column(name);
            let column = column.ok_or_else(|| DataError::no_column(name, known()))?;
            Ok(Wanted {
                name: name.clone(),
                is_text: column.kind == ColumnKind::Text,
                shape: column.shape.clone(),
                width: column.shape.iter().map(|&n| n as usize).product(),
            })
        });
        Ok(Self {
            columns: wanted.collect::<Result<_, DataError>>()?,
            places: columns.iter().cloned().zip(0..).collect(),
            values_max: limits.row_values,
        })
    }

    /// What a row has at least, in bytes.
    pub(super) fn row_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.width * 8).sum()
    }

    /// Parses a block.
    pub(super) fn parse(&self, block: &Block) -> Result<Vec<Chunk>, DataError> {
        let text = blocks::text(block)?;
        let mut rows = Rows {
            plan: self,
            count: 0,
            seen: vec![0; self.columns.len()],
            numbers: vec![Vec::new(); self.columns.len()],
            texts: vec![Texts::default(); self.columns.len()],
        };
        for (number, line) in lines(text, block.line) {
            rows.count += 1;
            value::parse(line, &mut rows, self.values_max)
                .map_err(|wrong| broken(number, wrong))?;
            rows.fill_up();
        }
        let columns = self.columns.iter().zip(rows.numbers).zip(rows.texts);
        let columns = columns.map(|((column, numbers), texts)| ChunkColumn {
            name: column.name.clone(),
            shape: column.shape.clone(),
            values: if column.is_text {
                Values::Texts(texts)
            } else {
                Values::Numbers(numbers)
            },
        });
        Ok(split(columns.collect(), rows.count))
    }
}

struct Rows<'p> {
    plan: &'p Plan,
    count: usize,
    /// The last row that had a value, for each column.
    seen: Vec<usize>,
    numbers: Vec<Vec<f64>>,
    texts: Vec<Texts>,
}

impl Rows<'_> {
    /// Notes that columns which the row didn't name have no value in it.
    fn fill_up(&mut self) {
        for (place, column) in self.plan.columns.iter().enumerate() {
            if self.seen[place] == self.count {
                continue;
            }
            if column.is_text {
                self.texts[place].push("");
            } else {
                let length = self.numbers[place].len() + column.width;
                self.numbers[place].resize(length, f64::NAN);
            }
        }
    }
}

impl Sink for Rows<'_> {
    fn place(&mut self, name: &str) -> Result<Option<usize>, String> {
        let Some(&place) = self.plan.places.get(name) else {
            return Ok(None);
        };
        if std::mem::replace(&mut self.seen[place], self.count) == self.count {
            return Err("the line has the name twice".to_owned());
        }
        Ok(Some(place))
    }

    fn take(&mut self, place: usize, value: Value<'_>) -> Result<(), String> {
        let column = &self.plan.columns[place];
        let numbers = &mut self.numbers[place];
        match value {
            Value::Null => self.seen[place] = 0,
            Value::Number(value) if !column.is_text && column.shape.is_empty() => {
                if !in_range(value) {
                    return Err(too_large(value));
                }
                numbers.push(value);
            }
            Value::Text(text) if column.is_text => self.texts[place].push(&text),
            Value::Array(shape, values) if !column.is_text && shape == column.shape => {
                numbers.extend(values);
            }
            _ => return Err("not what the data set's other rows have".to_owned()),
        }
        Ok(())
    }
}
