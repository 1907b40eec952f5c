//! `clip`: cuts numbers off at limits.

use serde::Deserialize;
use serde_json::Value;
use stoker_domain::FieldError;
use stoker_domain::dataset::Column;

use super::flow::Flow;
use super::step::{Described, Step, is_numeric};
use crate::chunk::Values;
use crate::error::DataError;

/// Most values of the training rows that are kept to find quantiles.
const KEPT_MAX: usize = 64 << 20;

/// Settings: limits, or the quantiles of the training rows that they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns to clip; all of numbers when absent.
    columns: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    /// The lower and the upper one, 0 to 1.
    quantiles: Option<[f64; 2]>,
}

/// The step.
pub(super) struct Clip {
    settings: Settings,
    columns: Vec<String>,
    kept: Vec<Vec<f64>>,
    /// Least and largest value of each column.
    limits: Vec<[f64; 2]>,
}

impl Clip {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            columns: Vec::new(),
            kept: Vec::new(),
            limits: Vec::new(),
        }
    }
}

/// The quantile of sorted values, between two of them in a straight line (Hyndman and Fan 1996,
/// type 7).
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = level * (sorted.len() - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a slice"
    )]
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

impl Step for Clip {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        let Settings {
            min,
            max,
            quantiles,
            ..
        } = self.settings;
        let low = min.unwrap_or(f64::NEG_INFINITY);
        let high = max.unwrap_or(f64::INFINITY);
        match quantiles {
            None if min.is_none() && max.is_none() => {
                let message = "`clip` needs `min`, `max` or `quantiles`";
                return Err(FieldError::new("config", message));
            }
            None if low.is_nan() || high.is_nan() || low >= high => {
                let message = format!("{low} to {high} leaves nothing between them");
                return Err(FieldError::new("config.min", message));
            }
            Some(_) if min.is_some() || max.is_some() => {
                let message = "give `quantiles`, or `min` and `max`";
                return Err(FieldError::new("config.quantiles", message));
            }
            Some([lower, upper]) if !(0.0 <= lower && lower < upper && upper <= 1.0) => {
                let message = format!("[{lower}, {upper}] is not a lower and an upper share");
                return Err(FieldError::new("config.quantiles", message));
            }
            _ => {}
        }
        self.columns = described.choose("clip", &self.settings.columns, is_numeric, |_| true)?;
        for name in &self.columns {
            described.change(name, |column: &mut Column| {
                if let (Some(statistics), None) = (&mut column.statistics, quantiles) {
                    statistics.min = statistics.min.clamp(low, high);
                    statistics.max = statistics.max.clamp(low, high);
                }
            });
        }
        self.limits = vec![[low, high]; self.columns.len()];
        self.kept = vec![Vec::new(); self.columns.len()];
        Ok(())
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn is_fitted(&self) -> bool {
        self.settings.quantiles.is_some()
    }

    fn observe(&mut self, flow: &Flow) -> Result<(), DataError> {
        for (name, kept) in self.columns.iter().zip(&mut self.kept) {
            if let Values::Numbers(numbers) = &flow.column(name)?.values {
                let width = numbers.len() / flow.rows().max(1);
                let rows = numbers.chunks_exact(width.max(1)).zip(&flow.held_out);
                let training = rows.filter(|(_, held_out)| !**held_out);
                kept.extend(training.flat_map(|(row, _)| row).filter(|x| !x.is_nan()));
            }
        }
        if self.kept.iter().map(Vec::len).sum::<usize>() > KEPT_MAX {
            return Err(DataError::TooLarge(format!(
                "clip: more than {KEPT_MAX} values to find quantiles of; give `min` and `max`"
            )));
        }
        Ok(())
    }

    fn fit(&mut self) -> Result<(), DataError> {
        let Some(levels) = self.settings.quantiles else {
            return Ok(());
        };
        for (limits, mut values) in self.limits.iter_mut().zip(std::mem::take(&mut self.kept)) {
            values.sort_unstable_by(f64::total_cmp);
            if !values.is_empty() {
                *limits = levels.map(|level| quantile(&values, level));
            }
        }
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        for (name, [min, max]) in self.columns.iter().zip(&self.limits) {
            if let Values::Numbers(numbers) = flow.values_mut(name)? {
                // NaN stays what it is.
                numbers.iter_mut().for_each(|x| *x = x.clamp(*min, *max));
            }
        }
        Ok(flow)
    }

    fn save(&self) -> Value {
        match self.settings.quantiles {
            Some(_) => serde_json::to_value(&self.limits).unwrap_or_default(),
            None => Value::Null,
        }
    }

    fn restore(&mut self, saved: &Value) -> Result<(), serde_json::Error> {
        if self.settings.quantiles.is_some() {
            self.limits = Vec::deserialize(saved)?;
        }
        Ok(())
    }
}
