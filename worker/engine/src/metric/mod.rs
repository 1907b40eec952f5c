//! Measures over the held-out rows.
//!
//! Each virtual shard has its own metric; the states are merged in the order of the tree over the
//! shards, so that the number of workers changes nothing. The built-in ones count, sum exactly or
//! keep what they saw, so that the number of shards changes nothing either.

mod calibration;
mod counts;
mod curve;
mod deviation;
mod likelihood;
mod points;
mod ranking;
mod state;
mod sum;
#[cfg(test)]
mod tests;
mod top_k;

use std::sync::{Mutex, PoisonError};

use stoker_model::{BuiltinMetric, MetricKind};

use crate::error::EngineError;
use crate::table::{NOT_COUNTED, TargetRows};

use calibration::Calibration;
use counts::Counts;
use curve::Curves;
use deviation::{Deviation, Pinball};
use likelihood::Likelihood;
use ranking::{Grouped, Ranking};
use top_k::TopK;

/// A measure in the making.
pub trait Metric: Send {
    /// Takes in rows: `scores`, `[rows, outputs]` row-major, and their targets. Each position of
    /// a sequence counts as a row.
    ///
    /// # Errors
    /// Of kind `plugin` as a rule; ends the run.
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError>;

    /// The same with the group of each row, for metrics of a source that has them.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn update_groups(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
        _groups: &[f32],
    ) -> Result<(), EngineError> {
        self.update(scores, outputs, targets)
    }

    /// The state, as bytes that another instance can merge.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn save(&mut self) -> Result<Vec<u8>, EngineError>;

    /// Takes in the state of another instance, whose rows come after this one's.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError>;

    /// The value over all rows taken in. One that isn't finite is undefined: it isn't reported.
    ///
    /// # Errors
    /// As [`Metric::update`].
    fn finish(&mut self) -> Result<f64, EngineError>;

    /// Files that tell more than the value, over all rows taken in: their names and contents.
    fn files(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

/// Makes a fresh metric for a virtual shard.
pub type MakeMetric = Box<dyn FnMut() -> Result<Box<dyn Metric>, EngineError> + Send>;

/// A metric of a run: its name, and how to make one.
pub struct MetricSource {
    /// Nothing where it has no value.
    name: Option<String>,
    /// The feature that tells the group of a row.
    group: Option<usize>,
    make: MakeMetric,
}

impl MetricSource {
    /// A metric of the caller's, such as a plugin; reported as `test.<name>`.
    pub fn new(name: impl Into<String>, make: MakeMetric) -> Self {
        Self {
            name: Some(name.into()),
            group: None,
            make,
        }
    }

    /// A built-in metric.
    #[must_use]
    pub fn builtin(metric: BuiltinMetric) -> Self {
        let BuiltinMetric { name, kind } = metric;
        let group = match kind {
            MetricKind::Ranking { group, .. } => group,
            _ => None,
        };
        Self {
            name,
            group,
            make: Box::new(move || Ok(builtin(&kind))),
        }
    }
}

fn builtin(kind: &MetricKind) -> Box<dyn Metric> {
    match *kind {
        MetricKind::Counts {
            measure,
            labels,
            average,
        } => Box::new(Counts::new(measure, labels, average)),
        MetricKind::TopK { k } => Box::new(TopK::new(k)),
        MetricKind::Curve { measure, labels } => Box::new(Curves::new(measure, labels)),
        MetricKind::Calibration { bins, labels } => Box::new(Calibration::new(bins, labels)),
        MetricKind::Likelihood { measure } => Box::new(Likelihood::new(measure)),
        MetricKind::Deviation { measure } => Box::new(Deviation::new(measure)),
        MetricKind::Pinball {
            predictions,
            ref levels,
        } => Box::new(Pinball::new(predictions, levels.clone())),
        MetricKind::Ranking {
            measure,
            k,
            threshold,
            group: Some(_),
        } => Box::new(Grouped::new(measure, k, threshold)),
        MetricKind::Ranking {
            measure,
            k,
            threshold,
            group: None,
        } => Box::new(Ranking::new(measure, k, threshold)),
    }
}

/// The metrics of a run, which its ranks share.
pub(crate) struct Sources {
    names: Vec<Option<String>>,
    groups: Vec<Option<usize>>,
    make: Mutex<Vec<MakeMetric>>,
}

impl Sources {
    pub(crate) fn new(sources: Vec<MetricSource>) -> Self {
        let mut all = Self {
            names: Vec::new(),
            groups: Vec::new(),
            make: Mutex::default(),
        };
        let mut makes = Vec::new();
        for MetricSource { name, group, make } in sources {
            all.names.push(name);
            all.groups.push(group);
            makes.push(make);
        }
        all.make = Mutex::new(makes);
        all
    }

    /// What each is reported as; nothing where it has no value.
    pub(crate) fn names(&self) -> &[Option<String>] {
        &self.names
    }

    /// The feature that each goes by for the groups of rows.
    pub(crate) fn groups(&self) -> &[Option<usize>] {
        &self.groups
    }

    /// A fresh metric of each.
    ///
    /// # Errors
    /// What making one gave.
    pub(crate) fn make(&self) -> Result<Vec<Box<dyn Metric>>, EngineError> {
        let mut make = self.make.lock().unwrap_or_else(PoisonError::into_inner);
        make.iter_mut().map(|make| make()).collect()
    }
}

/// The rows that count, each with its scores and its class.
fn counted<'a>(
    scores: &'a [f32],
    outputs: usize,
    classes: &'a [u32],
) -> impl Iterator<Item = (&'a [f32], usize)> {
    let rows = scores.chunks_exact(outputs).zip(classes);
    let rows = rows.filter(|(_, class)| **class != NOT_COUNTED);
    rows.map(|(row, &class)| (row, class as usize))
}

/// Whether a number of a `bce` target counts as there.
fn is_there(target: f32) -> bool {
    target >= 0.5
}

fn has_nan(row: &[f32]) -> bool {
    row.iter().any(|score| score.is_nan())
}

/// The first of the highest scores.
fn first_maximum(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}
