//! `one_hot`: a number of 0 or 1 for each category.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind};

use super::flow::Flow;
use super::step::{Described, Step, is_number, numbers};
use crate::chunk::Values;
use crate::error::DataError;

/// Most categories of one column.
const CATEGORIES_MAX: u64 = 4_096;

/// Settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns of categories; all text with few different values when absent.
    columns: Vec<String>,
}

/// The step. Categories are those of the training rows, in order; a value that isn't among them
/// gives zeros.
pub(super) struct OneHot {
    settings: Settings,
    columns: Vec<String>,
    widths: Vec<usize>,
    categories: Vec<Categories>,
}

/// The categories of a column.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Categories {
    Texts(BTreeSet<String>),
    /// The numbers, in an order of their bits that is the numbers' own.
    Numbers(BTreeSet<i64>),
}

impl OneHot {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
            widths: Vec::new(),
            categories: Vec::new(),
        }
    }
}

/// How many categories a column may have.
fn count(column: &Column) -> Result<usize, String> {
    let distinct = match column.kind {
        ColumnKind::Text => column.categories.as_ref().map(|all| all.len() as u64),
        ColumnKind::Integer => {
            is_number(column)?;
            column.statistics.as_ref().and_then(|found| found.distinct)
        }
        ColumnKind::Float => return Err("holds numbers that aren't whole".to_owned()),
        ColumnKind::Image => return Err("holds pictures".to_owned()),
    };
    match distinct {
        Some(count) if count <= CATEGORIES_MAX => Ok(usize::try_from(count).unwrap_or(0).max(1)),
        _ => Err(format!(
            "has too many different values, at most {CATEGORIES_MAX} are allowed (1,024 of text): use `hash`"
        )),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a column of whole numbers")]
const fn whole(number: f64) -> i64 {
    number as i64
}

impl Step for OneHot {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let fits = |column: &Column| count(column).map(|_| ());
        let by_default = |column: &Column| column.kind == ColumnKind::Text;
        self.columns = described.choose("one_hot", &self.settings.columns, fits, by_default)?;
        self.widths.clear();
        self.categories.clear();
        for name in &self.columns {
            let (mut width, mut is_text) = (1, false);
            described.change(name, |column| {
                width = count(column).unwrap_or(1);
                is_text = column.kind == ColumnKind::Text;
                let shape = [u32::try_from(width).unwrap_or(u32::MAX)];
                *column = numbers(name, ColumnKind::Float, &shape, [0.0, 1.0]);
            });
            self.widths.push(width);
            self.categories.push(match is_text {
                true => Categories::Texts(BTreeSet::new()),
                false => Categories::Numbers(BTreeSet::new()),
            });
        }
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn is_fitted(&self) -> bool {
        true
    }

    fn observe(&mut self, flow: &Flow) -> Result<(), DataError> {
        for (name, categories) in self.columns.iter().zip(&mut self.categories) {
            let training = flow.held_out.iter().map(|held_out| !held_out);
            match (&flow.column(name)?.values, categories) {
                (Values::Texts(texts), Categories::Texts(known)) => {
                    let rows = texts.iter().zip(training).filter(|(_, training)| *training);
                    for (text, _) in rows.filter(|(text, _)| !text.is_empty()) {
                        if !known.contains(text) {
                            known.insert(text.to_owned());
                        }
                    }
                }
                (Values::Numbers(values), Categories::Numbers(known)) => {
                    let rows = values
                        .iter()
                        .zip(training)
                        .filter(|(_, training)| *training);
                    known.extend(rows.filter(|(x, _)| !x.is_nan()).map(|(x, _)| whole(*x)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        let columns = self.columns.iter().zip(&self.widths).zip(&self.categories);
        for ((name, &width), categories) in columns {
            let places: Vec<Option<usize>> = match (&flow.column(name)?.values, categories) {
                (Values::Texts(texts), Categories::Texts(known)) => {
                    let known: Vec<&str> = known.iter().map(String::as_str).collect();
                    texts
                        .iter()
                        .map(|text| known.binary_search(&text).ok())
                        .collect()
                }
                (Values::Numbers(values), Categories::Numbers(known)) => {
                    let known: Vec<i64> = known.iter().copied().collect();
                    // What is missing or isn't whole is no category.
                    let place = |x: &f64| match x.fract() == 0.0 {
                        true => known.binary_search(&whole(*x)).ok(),
                        false => None,
                    };
                    values.iter().map(place).collect()
                }
                _ => vec![None; flow.rows()],
            };
            let mut numbers = vec![0.0; flow.rows() * width];
            for (row, place) in places.into_iter().enumerate() {
                if let Some(place) = place.filter(|&place| place < width) {
                    numbers[row * width + place] = 1.0;
                }
            }
            let shape = [u32::try_from(width).unwrap_or(u32::MAX)];
            flow.replace(name, &shape, numbers)?;
        }
        Ok(flow)
    }

    fn save(&self) -> Value {
        serde_json::to_value(&self.categories).unwrap_or_default()
    }

    fn restore(&mut self, saved: &Value) -> Result<(), serde_json::Error> {
        self.categories = Vec::deserialize(saved)?;
        Ok(())
    }
}
