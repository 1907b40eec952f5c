//! Feeds a session: picks the rows of each virtual shard, copies and preprocesses them.

use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_domain::spec::Apply;

use crate::device::Shard;
use crate::error::EngineError;
use crate::lengths::Lengths;
use crate::normalise::{Statistics, fit, index_of};
use crate::order::shuffle_epoch;
use crate::philox::{Purpose, Stream};
use crate::table::{Table, TargetRows, Targets};
use crate::transform::{Preprocess, PreprocessKind, Transform};

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Train,
    Test,
}

/// A shard's place: which epoch and batch of it, which shard of the batch. All count from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pass: Pass,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) shard: usize,
    /// Optimiser steps made.
    pub(crate) step: u64,
}

/// The table, the preprocessing steps, and buffers for one shard.
pub(crate) struct Feed {
    table: Arc<Table>,
    seed: u64,
    /// Rows of one shard, and of one batch.
    rows: usize,
    batch_rows: usize,
    steps: Vec<(Apply, Step)>,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    ids: Vec<u64>,
    /// Where rows end early: the lengths of all, and of those in the shard.
    lengths: Option<Lengths>,
    shard_lengths: Vec<u32>,
}

enum Step {
    Normalise(Statistics),
    Custom(Box<dyn Transform>),
}

impl Feed {
    /// `saved` holds the statistics of the `normalise` steps when a run is resumed; without it
    /// they are taken from the rows in `train`.
    ///
    /// # Errors
    /// `data` when `saved` is of other steps.
    pub(crate) fn new(
        table: Arc<Table>,
        seed: u64,
        (rows, shards): (usize, usize),
        preprocess: Vec<Preprocess>,
        train: &[u64],
        saved: Option<&[Statistics]>,
        lengths: Option<Lengths>,
    ) -> Result<Self, EngineError> {
        let mut saved = saved.map(<[Statistics]>::iter);
        let width = table.width();
        let mut steps = Vec::with_capacity(preprocess.len());
        for Preprocess { apply, kind } in preprocess {
            let step = match (kind, &mut saved) {
                (PreprocessKind::Custom(transform), _) => Step::Custom(transform),
                (PreprocessKind::Normalise(config), None) => {
                    let floats = |row| lengths.as_ref().map_or(width, |all| all.floats(row));
                    Step::Normalise(fit(config, &table, train, floats))
                }
                (PreprocessKind::Normalise(_), Some(saved)) => {
                    let statistics = saved
                        .next()
                        .filter(|s| s.offset.len() == width && s.factor.len() == width);
                    let statistics = statistics.ok_or_else(|| {
                        let message = "the checkpoint has no statistics for a `normalise` step";
                        EngineError::new(FailureKind::Data, message)
                    })?;
                    Step::Normalise(statistics.clone())
                }
            };
            steps.push((apply, step));
        }
        Ok(Self {
            seed,
            rows,
            batch_rows: rows * shards,
            steps,
            features: Vec::with_capacity(rows * width),
            classes: Vec::with_capacity(rows * table.targets_per_row()),
            values: Vec::new(),
            ids: Vec::with_capacity(rows),
            shard_lengths: Vec::with_capacity(if lengths.is_some() { rows } else { 0 }),
            lengths,
            table,
        })
    }

    /// The statistics of the `normalise` steps, in order.
    pub(crate) fn statistics(&self) -> Vec<Statistics> {
        let steps = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Normalise(statistics) => Some(statistics.clone()),
            Step::Custom(_) => None,
        });
        steps.collect()
    }

    /// Row ids of the shard that was loaded last.
    pub(crate) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Loads a shard of the rows in `order`.
    ///
    /// # Errors
    /// What a preprocessing step gave, or `plugin` when one changed the number of features.
    pub(crate) fn load(&mut self, order: &[u64], place: Place) -> Result<Shard<'_>, EngineError> {
        let start = index_of(place.batch) * self.batch_rows;
        let end = (start + self.batch_rows).min(order.len());
        let first = (start + place.shard * self.rows).min(end);
        self.ids.clear();
        self.ids
            .extend_from_slice(&order[first..(first + self.rows).min(end)]);
        let (width, targets) = (self.table.width(), self.table.targets_per_row());
        let (width, targets) = match &self.lengths {
            Some(lengths) => lengths.cut(lengths.bucket(&order[start..end]), targets),
            None => (width, targets),
        };
        self.copy_rows(targets);
        if !self.ids.is_empty() {
            self.preprocess(place)
                .map_err(|error| error.about(&self.ids))?;
        }
        self.cut_features(width);
        let targets = match self.table.targets() {
            Targets::Classes(_) => TargetRows::Classes(&self.classes),
            Targets::Values { .. } => TargetRows::Values(&self.values),
            Targets::Features => TargetRows::Values(&self.features),
        };
        Ok(Shard {
            features: &self.features,
            targets,
            lengths: &self.shard_lengths,
            first_row: u32::try_from(place.shard * self.rows).unwrap_or(u32::MAX),
            step: place.step,
        })
    }

    /// Copies features, and the first targets of each row.
    fn copy_rows(&mut self, targets: usize) {
        self.features.clear();
        self.classes.clear();
        self.values.clear();
        for &id in &self.ids {
            let row = index_of(id);
            self.features.extend_from_slice(self.table.row(row));
            match self.table.targets() {
                Targets::Classes(classes) => {
                    let count = self.table.targets_per_row();
                    self.classes
                        .extend_from_slice(&classes[row * count..][..targets]);
                }
                Targets::Values { values, width } => {
                    self.values
                        .extend_from_slice(&values[row * width..][..*width]);
                }
                Targets::Features => {}
            }
        }
    }

    /// Leaves the first numbers of each row, and notes where the rows end.
    fn cut_features(&mut self, width: usize) {
        let Some(lengths) = &self.lengths else {
            return;
        };
        let full = self.table.width();
        for row in 0..self.ids.len() {
            (self.features).copy_within(row * full..row * full + width, row * width);
        }
        self.features.truncate(self.ids.len() * width);
        self.shard_lengths.clear();
        (self.shard_lengths).extend(self.ids.iter().map(|&row| lengths.of(row)));
    }

    /// Puts the rows of an epoch in order: at random, those of a batch of similar length where rows
    /// end early.
    pub(crate) fn order_epoch(&mut self, epoch: u64, train: &[u64], order: &mut Vec<u64>) {
        shuffle_epoch(self.seed, epoch, train, order);
        if let Some(lengths) = &mut self.lengths {
            lengths.arrange(self.seed, epoch, self.batch_rows, order);
        }
    }

    fn preprocess(&mut self, place: Place) -> Result<(), EngineError> {
        let floats = self.features.len();
        let (purpose, epoch) = match place.pass {
            Pass::Train => (Purpose::TransformTrain, place.epoch),
            // The held-out rows are seen alike in every epoch.
            Pass::Test => (Purpose::TransformTest, 0),
        };
        let shard = u16::try_from(place.shard).unwrap_or(u16::MAX);
        let seed = Stream::new(self.seed, purpose, shard, epoch).word64(place.batch);
        for (apply, step) in &mut self.steps {
            if *apply == Apply::Train && place.pass == Pass::Test {
                continue;
            }
            match step {
                Step::Normalise(statistics) => {
                    statistics.apply(&mut self.features, &self.ids, seed)?;
                }
                Step::Custom(transform) => transform.apply(&mut self.features, &self.ids, seed)?,
            }
            if self.features.len() != floats {
                let message = format!(
                    "a preprocessing step gave {} numbers for {} rows, {floats} expected",
                    self.features.len(),
                    self.ids.len()
                );
                return Err(EngineError::new(FailureKind::Plugin, message));
            }
        }
        Ok(())
    }
}
