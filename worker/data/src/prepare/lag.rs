//! `lag`: columns of earlier rows.

use std::collections::VecDeque;

use serde::Deserialize;
use stoker_domain::FieldError;
use stoker_domain::dataset::ColumnKind;

use super::flow::Flow;
use super::step::{Described, Step, is_number};
use crate::chunk::Values;
use crate::error::DataError;

/// Furthest row back.
const BY_MAX: u32 = 100_000;

/// Settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns whose earlier values are added.
    columns: Vec<String>,
    /// How many rows back: a column `<name>_lag_<by>` each.
    by: Vec<u32>,
}

/// The step. Rows that have no row so far back are left out.
pub(super) struct Lag {
    settings: Settings,
    /// The newest values of each column, the last one's at the end.
    past: Vec<VecDeque<f64>>,
    rows_seen: u64,
}

impl Lag {
    pub(super) fn new(settings: Settings) -> Self {
        let past = vec![VecDeque::new(); settings.columns.len()];
        Self {
            settings,
            past,
            rows_seen: 0,
        }
    }

    fn furthest(&self) -> usize {
        self.settings.by.iter().max().map_or(0, |&by| by as usize)
    }
}

impl Step for Lag {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        described.require_order("lag")?;
        let Settings { columns, by } = &self.settings;
        let columns = described.choose("lag", columns, is_number, |_| false)?;
        if by.is_empty() {
            let message = "name at least one row back, as in [1, 7]";
            return Err(FieldError::new("config.by", message));
        }
        if let Some((index, wrong)) =
            (by.iter().enumerate()).find(|(_, by)| !(1..=BY_MAX).contains(*by))
        {
            let message = format!("{wrong} is not in 1 to {BY_MAX}");
            return Err(FieldError::new(format!("config.by[{index}]"), message));
        }
        for name in &columns {
            for by in by {
                let mut column = described
                    .find(name)
                    .map_err(|message| FieldError::new("config.columns", message))?
                    .clone();
                column.name = format!("{name}_lag_{by}");
                column.kind = ColumnKind::Float;
                described.add("config.columns", column)?;
            }
        }
        let lost = self.furthest() as u64;
        described.rows = described.rows.map(|[train, test]| {
            let left = lost.saturating_sub(train);
            [train.saturating_sub(lost), test.saturating_sub(left)]
        });
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        let furthest = self.furthest();
        let rows = flow.rows();
        for (name, past) in self.settings.columns.iter().zip(&mut self.past) {
            let mut lagged = vec![Vec::with_capacity(rows); self.settings.by.len()];
            if let Values::Numbers(numbers) = &flow.column(name)?.values {
                for &number in numbers {
                    for (values, &by) in lagged.iter_mut().zip(&self.settings.by) {
                        let at = past.len().checked_sub(by as usize);
                        values.push(at.map_or(f64::NAN, |at| past[at]));
                    }
                    past.push_back(number);
                    if past.len() > furthest {
                        past.pop_front();
                    }
                }
            }
            for (values, by) in lagged.into_iter().zip(&self.settings.by) {
                flow.add(&format!("{name}_lag_{by}"), &[], values);
            }
        }
        let missing = (furthest as u64).saturating_sub(self.rows_seen);
        self.rows_seen += rows as u64;
        let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(rows);
        Ok(flow.split_off(missing))
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn reads(&self) -> &[String] {
        &self.settings.columns
    }

    fn start(&mut self, _predicting: bool) {
        self.past.iter_mut().for_each(VecDeque::clear);
        self.rows_seen = 0;
    }
}
