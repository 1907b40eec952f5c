//! `impute`: fills in values that are missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stoker_domain::FieldError;
use stoker_domain::dataset::{Column, ColumnKind};

use super::flow::{Flow, width};
use super::step::{Described, Step, numbers};
use crate::chunk::{Texts, Values};
use crate::error::DataError;

/// Most values of the training rows that are kept to find a median or the most frequent one.
const KEPT_MAX: usize = 64 << 20;

/// Settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns to fill; all with missing values when absent.
    columns: Vec<String>,
    /// What a missing value becomes.
    with: With,
    /// The constant, where it is that.
    value: Option<Constant>,
    /// Whether to add a column `<name>_missing` of 0 and 1.
    indicator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum With {
    /// The mean of the training rows; for text the most frequent one.
    #[default]
    Mean,
    Median,
    MostFrequent,
    Constant,
    /// Nothing: the row is left out.
    Drop,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
enum Constant {
    Number(f64),
    Text(String),
}

/// The step.
pub(super) struct Impute {
    settings: Settings,
    columns: Vec<String>,
    /// Those that rows to predict need: not the target, whose absence only leaves rows out.
    reads: Vec<String>,
    seen: Vec<Seen>,
    kept: usize,
    predicting: bool,
    /// What each column's missing values become: one for each number of a row, or one text.
    fills: Vec<Vec<Constant>>,
}

/// What was seen of a column.
enum Seen {
    Sums { sums: Vec<f64>, counts: Vec<u64> },
    Kept(Vec<Vec<f64>>),
    Texts(BTreeMap<String, u64>),
}

impl Impute {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
            reads: Vec::new(),
            seen: Vec::new(),
            kept: 0,
            predicting: false,
            fills: Vec::new(),
        }
    }

    fn indicator(name: &str) -> String {
        format!("{name}_missing")
    }

    fn seen(&self, column: &Column) -> Seen {
        let width = width(&column.shape);
        match (column.kind, self.settings.with) {
            (ColumnKind::Text, _) => Seen::Texts(BTreeMap::new()),
            (_, With::Mean | With::Constant | With::Drop) => Seen::Sums {
                sums: vec![0.0; width],
                counts: vec![0; width],
            },
            (_, With::Median | With::MostFrequent) => Seen::Kept(vec![Vec::new(); width]),
        }
    }

    /// Leaves out rows without a value. Rows to predict needn't have what is to be predicted.
    fn drop_rows(&self, flow: Flow) -> Result<Flow, DataError> {
        let mut keep = vec![true; flow.rows()];
        for name in &self.columns {
            if self.predicting && !self.reads.contains(name) {
                continue;
            }
            match &flow.column(name)?.values {
                Values::Numbers(numbers) => {
                    let width = (numbers.len() / flow.rows().max(1)).max(1);
                    let rows = numbers.chunks_exact(width).zip(&mut keep);
                    rows.for_each(|(row, keep)| *keep &= !row.iter().any(|x| x.is_nan()));
                }
                Values::Texts(texts) => {
                    let rows = texts.iter().zip(&mut keep);
                    rows.for_each(|(text, keep)| *keep &= !text.is_empty());
                }
                Values::Pictures(_) => {}
            }
        }
        Ok(flow.keep(&keep))
    }

    /// That the constant is of the column's kind.
    fn check_constant(&self, column: &Column) -> Result<(), String> {
        match (&self.settings.value, column.kind) {
            _ if self.settings.with != With::Constant => Ok(()),
            (Some(Constant::Number(_)), ColumnKind::Integer | ColumnKind::Float)
            | (Some(Constant::Text(_)), ColumnKind::Text) => Ok(()),
            (value, kind) => Err(format!("is {kind:?}; {value:?} can't stand there")),
        }
    }
}

impl Step for Impute {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        if (self.settings.with == With::Constant) != self.settings.value.is_some() {
            let message = "goes with `with = \"constant\"`, and only with it";
            return Err(FieldError::new("config.value", message));
        }
        let fits = |column: &Column| match column.kind {
            ColumnKind::Image => Err("holds pictures".to_owned()),
            _ => self.check_constant(column),
        };
        self.columns = described.choose("impute", &self.settings.columns, fits, |column| {
            column.missing > 0
        })?;
        self.reads = self.columns.clone();
        self.seen.clear();
        if self.settings.with == With::Drop {
            described.rows = None;
            self.reads.retain(|name| described.target != Some(name));
        }
        for name in &self.columns {
            let column = described
                .find(name)
                .map_err(|message| FieldError::new("config.columns", message))?
                .clone();
            self.seen.push(self.seen(&column));
            let constant = self.settings.value.clone();
            described.change(name, |column| {
                column.missing = 0;
                match (&mut column.statistics, &mut column.categories, constant) {
                    (Some(statistics), _, Some(Constant::Number(number))) => {
                        statistics.min = statistics.min.min(number);
                        statistics.max = statistics.max.max(number);
                        statistics.distinct = statistics.distinct.map(|count| count + 1);
                    }
                    (_, Some(categories), Some(Constant::Text(text))) => {
                        categories.push(text);
                        categories.sort();
                        categories.dedup();
                    }
                    _ => {}
                }
                if self.settings.with == With::Mean && column.kind == ColumnKind::Integer {
                    column.kind = ColumnKind::Float;
                }
            });
            if self.settings.indicator {
                let name = Self::indicator(name);
                let indicator = numbers(&name, ColumnKind::Float, &[], [0.0, 1.0]);
                described.add("config.indicator", indicator)?;
            }
        }
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.reads
    }

    fn keeps_rows(&self) -> bool {
        self.settings.with != With::Drop
    }

    fn is_fitted(&self) -> bool {
        !matches!(self.settings.with, With::Constant | With::Drop)
    }

    fn start(&mut self, predicting: bool) {
        self.predicting = predicting;
    }

    fn observe(&mut self, flow: &Flow) -> Result<(), DataError> {
        for (name, seen) in self.columns.iter().zip(&mut self.seen) {
            let column = flow.column(name)?;
            let width = width(&column.shape);
            match (&column.values, seen) {
                (Values::Numbers(numbers), seen) => {
                    let rows = numbers.chunks_exact(width.max(1)).zip(&flow.held_out);
                    for (row, _) in rows.filter(|(_, held_out)| !**held_out) {
                        for (at, &x) in row.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
                            match seen {
                                Seen::Sums { sums, counts } => {
                                    sums[at] += x;
                                    counts[at] += 1;
                                }
                                Seen::Kept(kept) => {
                                    kept[at].push(x);
                                    self.kept += 1;
                                }
                                Seen::Texts(_) => {}
                            }
                        }
                    }
                }
                (Values::Texts(texts), Seen::Texts(counts)) => {
                    let rows = texts.iter().zip(&flow.held_out);
                    let rows = rows.filter(|(text, held_out)| !**held_out && !text.is_empty());
                    for (text, _) in rows {
                        match counts.get_mut(text) {
                            Some(count) => *count += 1,
                            None => {
                                self.kept += text.len();
                                counts.insert(text.to_owned(), 1);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if self.kept > KEPT_MAX {
            return Err(DataError::TooLarge(format!(
                "impute: more than {KEPT_MAX} values to find the median or the most frequent of; take `with = \"mean\"`"
            )));
        }
        Ok(())
    }

    fn fit(&mut self) -> Result<(), DataError> {
        let with = self.settings.with;
        self.fills = (self.columns.iter().zip(std::mem::take(&mut self.seen)))
            .map(|(name, seen)| {
                let none = || {
                    DataError::Malformed(format!(
                        "impute: `{name}` has no value among the training rows"
                    ))
                };
                match seen {
                    Seen::Sums { sums, counts } => (sums.into_iter().zip(counts))
                        .map(|(sum, count)| match count {
                            0 => Err(none()),
                            _ => Ok(Constant::Number(sum / count as f64)),
                        })
                        .collect(),
                    Seen::Kept(kept) => (kept.into_iter())
                        .map(|values| pick(values, with).map(Constant::Number).ok_or_else(none))
                        .collect(),
                    Seen::Texts(counts) => {
                        // The first of those that are as frequent.
                        let most = counts.iter().max_by_key(|(text, count)| {
                            (**count, std::cmp::Reverse((*text).clone()))
                        });
                        let (text, _) = most.ok_or_else(none)?;
                        Ok(vec![Constant::Text(text.clone())])
                    }
                }
            })
            .collect::<Result<_, DataError>>()?;
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        if self.settings.with == With::Drop {
            return self.drop_rows(flow);
        }
        for (index, name) in self.columns.iter().enumerate() {
            let constant = self.settings.value.as_slice();
            let fills = self.fills.get(index).map_or(constant, Vec::as_slice);
            let mut missing = Vec::new();
            let rows = flow.rows().max(1);
            match flow.values_mut(name)? {
                Values::Numbers(values) => {
                    let width = values.len() / rows;
                    for row in values.chunks_exact_mut(width.max(1)) {
                        missing.push(f64::from(u8::from(row.iter().any(|x| x.is_nan()))));
                        for (at, x) in row.iter_mut().enumerate().filter(|(_, x)| x.is_nan()) {
                            if let Some(Constant::Number(fill)) = fills.get(at).or(fills.first()) {
                                *x = *fill;
                            }
                        }
                    }
                }
                Values::Texts(texts) => {
                    missing.extend(texts.iter().map(|t| f64::from(u8::from(t.is_empty()))));
                    if let Some(Constant::Text(fill)) = fills.first() {
                        let filled = texts.iter().map(|text| match text {
                            "" => fill.as_str(),
                            text => text,
                        });
                        *texts = filled.collect::<Texts>();
                    }
                }
                Values::Pictures(_) => {}
            }
            if self.settings.indicator {
                flow.add(&Self::indicator(name), &[], missing);
            }
        }
        Ok(flow)
    }

    fn save(&self) -> Value {
        serde_json::to_value(&self.fills).unwrap_or_default()
    }

    fn restore(&mut self, saved: &Value) -> Result<(), serde_json::Error> {
        self.fills = Vec::deserialize(saved)?;
        Ok(())
    }
}

/// The median (the mean of the two in the middle), or the most frequent (the smallest of those).
fn pick(mut values: Vec<f64>, with: With) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    if with == With::Median {
        let middle = values.len() / 2;
        let above = *values.get(middle)?;
        return Some(match values.len() % 2 {
            1 => above,
            _ => f64::midpoint(values[middle - 1], above),
        });
    }
    let runs = values.chunk_by(|a, b| a == b);
    let longest = runs.fold(None, |best: Option<&[f64]>, run| match best {
        Some(best) if best.len() >= run.len() => Some(best),
        _ => Some(run),
    });
    longest.and_then(|run| run.first().copied())
}
