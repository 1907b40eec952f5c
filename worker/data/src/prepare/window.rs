//! `window`: rows that follow one another side by side, to predict those after them.

use std::collections::VecDeque;

use serde::Deserialize;
use stoker_domain::FieldError;
use stoker_domain::dataset::{ColumnKind, Schema};

use super::flow::Flow;
use super::step::{Described, Step, is_number, numbers};
use crate::chunk::Values;
use crate::error::DataError;

/// Most rows of a window, and most that are predicted.
const ROWS_MAX: u32 = 65_536;
/// What is made: the window, what is known of the rows to predict, and what to predict.
pub(super) const WINDOW: &str = "window";
const FUTURE: &str = "future";
pub(super) const NEXT: &str = "next";

/// Settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns of the window: `window` has the shape `[length, columns]`.
    columns: Vec<String>,
    /// Rows of a window.
    length: u32,
    /// The column to predict, in the rows after the window: `next`.
    target: String,
    /// Rows to predict.
    #[serde(default = "one")]
    horizon: u32,
    /// Rows from one window to the next. Windows are placed so that the first one whose rows to
    /// predict are held out begins with the first of these.
    #[serde(default = "one")]
    stride: u32,
    /// Columns that are known ahead for the rows to predict, such as the hour: `future`.
    #[serde(default)]
    future: Vec<String>,
}

const fn one() -> u32 {
    1
}

/// The step. A window is for training where all that it predicts is, and held out where all of that
/// is; one that has both is left out.
pub(super) struct Window {
    settings: Settings,
    /// Columns of the window, and those known ahead.
    reads: Vec<String>,
    /// Rows to train on.
    cut: u64,
    predicting: bool,
    /// The newest rows.
    rows: VecDeque<Row>,
    seen: u64,
}

struct Row {
    id: u64,
    held_out: bool,
    inputs: Vec<f64>,
    future: Vec<f64>,
    target: f64,
}

impl Window {
    pub(super) fn new(settings: Settings) -> Self {
        let mut reads = settings.columns.clone();
        reads.extend(settings.future.iter().cloned());
        Self {
            settings,
            reads,
            cut: 0,
            predicting: false,
            rows: VecDeque::new(),
            seen: 0,
        }
    }

    fn length(&self) -> usize {
        self.settings.length as usize
    }

    fn horizon(&self) -> usize {
        self.settings.horizon as usize
    }

    /// Rows after the window that have to be there.
    fn ahead(&self) -> usize {
        match self.predicting && self.settings.future.is_empty() {
            true => 0,
            false => self.horizon(),
        }
    }

    /// Shape of what has a number, or `width` numbers, for each row to predict.
    fn shape_ahead(&self, width: usize) -> Vec<u32> {
        let width = u32::try_from(width).unwrap_or(u32::MAX);
        match (self.settings.horizon, width) {
            (1, 1) => Vec::new(),
            (1, width) => vec![width],
            (horizon, 1) => vec![horizon],
            (horizon, width) => vec![horizon, width],
        }
    }

    fn shape(&self) -> [u32; 2] {
        let columns = u32::try_from(self.settings.columns.len()).unwrap_or(u32::MAX);
        [self.settings.length, columns]
    }

    /// Whether a window that so many rows were before, and whose last row to predict is this one,
    /// is made; and whether it is held out.
    fn side(&self, first_ahead: &Row, last_ahead: &Row, before: u64) -> Option<bool> {
        if self.predicting {
            return Some(true);
        }
        let stride = u64::from(self.settings.stride);
        let aligned = before % stride == self.cut % stride;
        (aligned && first_ahead.held_out == last_ahead.held_out).then_some(first_ahead.held_out)
    }

    /// Windows to train on and held out.
    fn count(&self, rows: [u64; 2]) -> [u64; 2] {
        let [cut, test] = rows;
        let (length, horizon) = (
            u64::from(self.settings.length),
            u64::from(self.settings.horizon),
        );
        let stride = u64::from(self.settings.stride);
        // Training windows end k strides before the cut, horizon <= k stride <= cut - length.
        let first = horizon.div_ceil(stride);
        let train = cut.checked_sub(length).map_or(0, |room| room / stride + 1);
        // Held-out ones end k strides after it, length - cut <= k stride <= test - horizon.
        let skipped = length.saturating_sub(cut).div_ceil(stride);
        let held_out = test
            .checked_sub(horizon)
            .map_or(0, |room| room / stride + 1);
        [
            train.saturating_sub(first),
            held_out.saturating_sub(skipped),
        ]
    }

    fn check(&self, described: &Described<'_>) -> Result<(), FieldError> {
        let Settings {
            columns,
            length,
            target,
            horizon,
            stride,
            future,
        } = &self.settings;
        described.choose("window", columns, is_number, |_| false)?;
        let extents = [("length", length), ("horizon", horizon), ("stride", stride)];
        for (name, rows) in extents {
            if !(1..=ROWS_MAX).contains(rows) {
                let message = format!("{rows} is not in 1 to {ROWS_MAX}");
                return Err(FieldError::new(format!("config.{name}"), message));
            }
        }
        let known = future.iter().enumerate();
        let known = known.map(|(index, name)| (format!("config.future[{index}]"), name));
        for (field, name) in known.chain([("config.target".to_owned(), target)]) {
            let found = described.find(name);
            let found = found
                .and_then(|column| is_number(column).map_err(|wrong| format!("`{name}` {wrong}")));
            found.map_err(|message| FieldError::new(field, message))?;
        }
        Ok(())
    }
}

impl Step for Window {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        described.require_order("window")?;
        self.check(described)?;
        let Some(rows) = described.rows else {
            let message = "`window` can't come after a step that packs rows";
            return Err(FieldError::new("builtin", message));
        };
        self.cut = rows[0];
        let made = self.count(rows);
        if made[0] == 0 {
            let message = format!(
                "{} rows to train on hold no window of {} and {} after it",
                rows[0], self.settings.length, self.settings.horizon
            );
            return Err(FieldError::new("config.length", message));
        }
        if rows[1] > 0 && made[1] == 0 {
            let message = format!(
                "{} rows are held out, too few for the {} to predict: raise `data.split.test`",
                rows[1], self.settings.horizon
            );
            return Err(FieldError::new("config.horizon", message));
        }
        described.rows = Some(made);
        let of = |names: &[String], name: &str, shape: &[u32]| {
            let mut range = [f64::INFINITY, f64::NEG_INFINITY];
            let mut missing = 0;
            for column in names
                .iter()
                .filter_map(|name| described.schema.column(name))
            {
                missing += column.missing;
                if let Some(found) = &column.statistics {
                    range = [range[0].min(found.min), range[1].max(found.max)];
                }
            }
            let column = numbers(name, ColumnKind::Float, shape, range);
            stoker_domain::dataset::Column { missing, ..column }
        };
        let Settings {
            columns,
            target,
            future,
            ..
        } = &self.settings;
        let mut made = vec![of(columns, WINDOW, &self.shape())];
        if !future.is_empty() {
            made.push(of(future, FUTURE, &self.shape_ahead(future.len())));
        }
        made.push(of(std::slice::from_ref(target), NEXT, &self.shape_ahead(1)));
        described.schema = Schema {
            rows: described.schema.rows,
            columns: made,
        };
        Ok(())
    }

    fn apply(&mut self, flow: Flow) -> Result<Flow, DataError> {
        let get = |names: &[String]| -> Result<Vec<&Vec<f64>>, DataError> {
            let columns = names.iter().filter_map(|name| match flow.column(name) {
                Ok(column) => match &column.values {
                    Values::Numbers(numbers) => Some(Ok(numbers)),
                    _ => None,
                },
                Err(error) => Some(Err(error)),
            });
            columns.collect()
        };
        let inputs = get(&self.settings.columns)?;
        let future = get(&self.settings.future)?;
        let target = match self.predicting {
            true => None,
            false => get(std::slice::from_ref(&self.settings.target))?.pop(),
        };
        let (length, ahead, horizon) = (self.length(), self.ahead(), self.horizon());
        let mut made = Flow {
            columns: Vec::new(),
            ids: Vec::new(),
            held_out: Vec::new(),
        };
        let (mut windows, mut futures, mut nexts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, (&id, &held_out)) in flow.ids.iter().zip(&flow.held_out).enumerate() {
            self.rows.push_back(Row {
                id,
                held_out,
                inputs: inputs.iter().map(|values| values[row]).collect(),
                future: future.iter().map(|values| values[row]).collect(),
                target: target.map_or(f64::NAN, |values| values[row]),
            });
            self.seen += 1;
            if self.rows.len() > length + ahead {
                self.rows.pop_front();
            }
            if self.rows.len() < length + ahead {
                continue;
            }
            let before = self.seen - ahead as u64;
            let first = &self.rows[length.min(self.rows.len() - 1)];
            let Some(side) = self.side(first, &self.rows[length + ahead - 1], before) else {
                continue;
            };
            made.ids.push(self.rows[length - 1].id);
            made.held_out.push(side);
            windows.extend(self.rows.range(..length).flat_map(|row| &row.inputs));
            futures.extend(self.rows.range(length..).flat_map(|row| &row.future));
            nexts.extend(self.rows.range(length..).map(|row| row.target));
            // A row to predict has no target while there is none to be known.
            nexts.resize(made.ids.len() * horizon, f64::NAN);
        }
        made.add(WINDOW, &self.shape(), windows);
        if !self.settings.future.is_empty() {
            made.add(
                FUTURE,
                &self.shape_ahead(self.settings.future.len()),
                futures,
            );
        }
        made.add(NEXT, &self.shape_ahead(1), nexts);
        Ok(made)
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn reads(&self) -> &[String] {
        &self.reads
    }

    fn reads_to_train(&self) -> Option<&str> {
        Some(&self.settings.target)
    }

    fn start(&mut self, predicting: bool) {
        self.predicting = predicting;
        self.rows.clear();
        self.seen = 0;
    }
}
