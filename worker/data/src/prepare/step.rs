//! What a step that makes columns of columns is.

use std::collections::BTreeMap;

use serde_json::Value;
use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind, Schema, Statistics};
use stoker_domain::error::nearest;
use stoker_domain::job::TokenizerInput;
use stoker_domain::spec::SplitSpec;

use super::flow::Flow;
use crate::error::DataError;

/// What is known of the rows before any is read.
pub(crate) struct Described<'a> {
    pub(crate) schema: Schema,
    /// Rows to train on and rows held out, where that is known.
    pub(crate) rows: Option<[u64; 2]>,
    pub(crate) split: &'a SplitSpec,
    /// The column to predict: steps leave it alone unless they are told to change it.
    pub(crate) target: Option<&'a str>,
    /// The tokenizers that steps may name.
    pub(crate) tokenizers: &'a BTreeMap<String, TokenizerInput>,
}

/// A step: settings, then what was taken from the training rows.
pub(crate) trait Step: Send {
    /// Checks the settings against the columns, and changes the schema as [`Step::apply`] will
    /// change rows.
    ///
    /// # Errors
    /// At the setting that is wrong, as in `config.columns[1]`.
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError>;

    /// The tokenizer that it must be given before it sees any row.
    fn tokenizer(&self) -> Option<&str> {
        None
    }

    /// Takes the tokenizer's file.
    ///
    /// # Errors
    /// When it isn't one.
    fn give_tokenizer(&mut self, _: &[u8]) -> Result<(), DataError> {
        Ok(())
    }

    /// Whether rows have to be seen before any can be changed.
    fn is_fitted(&self) -> bool {
        false
    }

    /// Sees rows, of which those held out count for nothing.
    ///
    /// # Errors
    /// When a limit is passed.
    fn observe(&mut self, _: &Flow) -> Result<(), DataError> {
        Ok(())
    }

    /// All rows were seen.
    ///
    /// # Errors
    /// When they don't tell what is needed.
    fn fit(&mut self) -> Result<(), DataError> {
        Ok(())
    }

    /// Changes rows. They come in order.
    ///
    /// # Errors
    /// What is wrong with a row.
    fn apply(&mut self, flow: Flow) -> Result<Flow, DataError>;

    /// Rows begin anew: to train and test on, or to predict, where what is to be predicted may be
    /// missing.
    fn start(&mut self, _predicting: bool) {}

    /// Whether the rows that come out are those that go in.
    fn keeps_rows(&self) -> bool {
        true
    }

    /// The columns that it reads.
    fn reads(&self) -> &[String];

    /// What it reads besides, unless rows are predicted.
    fn reads_to_train(&self) -> Option<&str> {
        None
    }

    /// What was fitted, to be restored.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes what [`Step::save`] gave.
    ///
    /// # Errors
    /// When it is something else.
    fn restore(&mut self, _: &Value) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

impl Described<'_> {
    /// The columns that a step changes: those that are named, each of a fitting kind, or where none
    /// is all that `by_default` says, of which there must be one. The target is never among the
    /// latter.
    pub(crate) fn choose(
        &self,
        step: &str,
        named: &[String],
        fits: impl Fn(&Column) -> Result<(), String>,
        by_default: impl Fn(&Column) -> bool,
    ) -> Result<Vec<String>, FieldError> {
        for (index, name) in named.iter().enumerate() {
            let checked = self.find(name).and_then(|column| {
                let twice = named.iter().take(index).any(|other| other == name);
                match twice {
                    true => Err(format!("`{name}` is given twice")),
                    false => fits(column).map_err(|wrong| format!("`{name}` {wrong}")),
                }
            });
            checked
                .map_err(|message| FieldError::new(format!("config.columns[{index}]"), message))?;
        }
        if !named.is_empty() {
            return Ok(named.to_vec());
        }
        let others = self.schema.columns.iter().filter(|column| {
            self.target != Some(&column.name) && by_default(column) && fits(column).is_ok()
        });
        let found: Vec<String> = others.map(|column| column.name.clone()).collect();
        if found.is_empty() {
            let message = format!("there is no column that `{step}` changes by itself: name some");
            return Err(FieldError::new("config.columns", message));
        }
        Ok(found)
    }

    /// The column of that name.
    pub(crate) fn find(&self, name: &str) -> Result<&Column, String> {
        self.schema.column(name).ok_or_else(|| {
            let names = self
                .schema
                .columns
                .iter()
                .map(|column| column.name.as_str());
            let hint = nearest(name, names).map(|near| format!("; did you mean `{near}`?"));
            format!(
                "there is no column `{name}` here{}",
                hint.unwrap_or_default()
            )
        })
    }

    /// Changes a column that is there.
    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Column)) {
        let mut columns = self.schema.columns.iter_mut();
        if let Some(column) = columns.find(|column| column.name == name) {
            change(column);
        }
    }

    /// Adds a column of numbers.
    pub(crate) fn add(&mut self, setting: &str, column: Column) -> Result<(), FieldError> {
        if self.schema.column(&column.name).is_some() {
            let message = format!("there is a column `{}` already", column.name);
            return Err(FieldError::new(setting, message));
        }
        self.schema.columns.push(column);
        Ok(())
    }

    /// Steps that look back need rows in order of time, of which the last are held out.
    pub(crate) fn require_order(&self, step: &str) -> Result<(), FieldError> {
        if self.split.shuffle && self.split.test > 0.0 {
            let message = format!(
                "`{step}` takes rows in order of time: set `data.split.shuffle = false`, so that the last ones are held out"
            );
            return Err(FieldError::new("builtin", message));
        }
        Ok(())
    }
}

/// A column of numbers that a step makes.
pub(crate) fn numbers(name: &str, kind: ColumnKind, shape: &[u32], range: [f64; 2]) -> Column {
    let [min, max] = range;
    Column {
        name: name.to_owned(),
        kind,
        shape: shape.to_vec(),
        statistics: Some(Statistics {
            min,
            max,
            mean: f64::midpoint(min, max),
            deviation: (max - min) / 2.0,
            distinct: None,
        }),
        missing: 0,
        categories: None,
    }
}

/// That a column holds numbers.
pub(crate) fn is_numeric(column: &Column) -> Result<(), String> {
    match column.kind {
        ColumnKind::Integer | ColumnKind::Float => Ok(()),
        ColumnKind::Text => Err("is text; a column of numbers is needed".to_owned()),
        ColumnKind::Image => Err("holds pictures; a column of numbers is needed".to_owned()),
    }
}

/// That a column holds a number per row.
pub(crate) fn is_number(column: &Column) -> Result<(), String> {
    is_numeric(column)?;
    match column.width() {
        1 => Ok(()),
        width => Err(format!(
            "has {width} numbers per row; a column of one is needed"
        )),
    }
}

/// That a column holds text.
pub(crate) fn is_text(column: &Column) -> Result<(), String> {
    match column.kind {
        ColumnKind::Text => Ok(()),
        ColumnKind::Image => Err("holds pictures; a column of text is needed".to_owned()),
        _ => Err("holds numbers; a column of text is needed".to_owned()),
    }
}
