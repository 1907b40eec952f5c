//! Blocks of a CSV as chunks.

use super::dialect::Dialect;
use super::fields::Fields;
use crate::blocks::{self, Block};
use crate::chunk::{Chunk, ChunkColumn, Texts, Values};
use crate::chunks::split;
use crate::error::DataError;
use crate::number::{self, Field};

/// What becomes of the fields of a record.
pub(crate) struct Plan {
    delimiter: u8,
    targets: Vec<Target>,
    columns: Vec<(String, bool)>,
}

/// Where a field goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Nowhere,
    Numbers(usize),
    Texts(usize),
}

impl Plan {
    /// For the columns asked for, which differ.
    pub(crate) fn new(
        dialect: &Dialect,
        columns: &[String],
        is_text: impl Fn(&str) -> bool,
    ) -> Result<Self, DataError> {
        let mut targets = vec![Target::Nowhere; dialect.names.len()];
        let mut wanted = Vec::with_capacity(columns.len());
        let places: std::collections::HashMap<_, _> = dialect.names.iter().zip(0_usize..).collect();
        for (slot, name) in columns.iter().enumerate() {
            let known = || dialect.names.iter().map(String::as_str);
            let place = places.get(name);
            let &place = place.ok_or_else(|| DataError::no_column(name, known()))?;
            let text = is_text(name);
            targets[place] = if text {
                Target::Texts(slot)
            } else {
                Target::Numbers(slot)
            };
            wanted.push((name.clone(), text));
        }
        Ok(Self {
            delimiter: dialect.delimiter,
            targets,
            columns: wanted,
        })
    }

    /// Parses a block.
    pub(crate) fn parse(&self, block: &Block) -> Result<Vec<Chunk>, DataError> {
        let text = blocks::text(block)?;
        let mut fields = Fields::new(block, text, self.delimiter);
        let mut numbers = vec![Vec::new(); self.columns.len()];
        let mut texts = vec![Texts::default(); self.columns.len()];
        let mut rows = 0;
        let width = self.targets.len();
        while fields.begin_record() {
            for (index, &target) in self.targets.iter().enumerate() {
                match target {
                    Target::Nowhere => drop(fields.text()),
                    Target::Texts(slot) => texts[slot].push(&fields.text()),
                    Target::Numbers(slot) => numbers[slot].push(match fields.number() {
                        Some((value, _)) => value,
                        None => self.slowly(&mut fields, slot)?,
                    }),
                }
                if fields.at_record_end() != (index + 1 == width) {
                    return Err(fields.ragged(index + 1, width));
                }
            }
            rows += 1;
        }
        let columns = self.columns.iter().zip(numbers).zip(texts);
        let columns = columns.map(|(((name, text), numbers), texts)| ChunkColumn {
            name: name.clone(),
            shape: Vec::new(),
            values: if *text {
                Values::Texts(texts)
            } else {
                Values::Numbers(numbers)
            },
        });
        Ok(split(columns.collect(), rows))
    }

    /// A number that isn't plainly one.
    #[cold]
    fn slowly(&self, fields: &mut Fields<'_>, slot: usize) -> Result<f64, DataError> {
        let field = fields.text();
        let message = match number::read(&field) {
            Field::Number(value) => return Ok(value),
            Field::Missing => return Ok(f64::NAN),
            Field::TooLarge(value) => number::too_large(value),
            Field::Other => number::no_number(&field),
        };
        let name = &self.columns[slot].0;
        Err(DataError::record(fields.line(), name, message))
    }
}
