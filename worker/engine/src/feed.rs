//! Feeds a session: picks the rows of each virtual shard, copies and preprocesses them.

use std::sync::{Arc, Mutex, PoisonError};

use stoker_domain::job::FailureKind;
use stoker_domain::spec::Apply;
use stoker_model::{Of, Span};

use crate::augment::Augment;
use crate::device::Shard;
use crate::error::EngineError;
use crate::lengths::Lengths;
use crate::masking::Masks;
use crate::normalise::{Fitted, Statistics, fit, fit_target, index_of};
use crate::order::{Shuffled, Windows, shuffle_epoch};
use crate::philox::{Purpose, Stream};
use crate::reader::{Key, Reader};
use crate::table::{Loaded, NOT_COUNTED, Shelf, Table, TargetKind, TargetRows};
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
    windows: Windows,
    /// Reads the windows of a table in a file, for all ranks; and the one that was read last.
    reader: Arc<Reader>,
    window: (Option<Key>, Arc<Loaded>),
    seed: u64,
    /// Rows of one shard, and of one batch.
    rows: usize,
    batch_rows: usize,
    steps: Vec<(Apply, Step)>,
    /// How the target is scaled, where it is.
    scaled: Option<Arc<Statistics>>,
    /// The targets of the shard before they were scaled.
    originals: Vec<f32>,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    ids: Vec<u64>,
    /// Where rows end early: the lengths of all, and of those in the shard.
    lengths: Option<Lengths>,
    shard_lengths: Vec<u32>,
    /// What hides tokens that are to be predicted.
    masks: Option<Masks>,
}

/// The ranks of a process share the steps: what a step gives depends on its arguments alone.
#[derive(Clone)]
enum Step {
    Normalise(Arc<Statistics>),
    Augment(Augment),
    Custom(Arc<Mutex<Box<dyn Transform>>>),
}

impl Feed {
    /// `saved` holds the statistics of the `normalise` steps when a run is resumed; without it
    /// they are taken from the rows in `train`, of which `ids` are left as they are.
    ///
    /// # Errors
    /// `data` when `saved` is of other steps.
    pub(crate) fn new(
        table: Arc<Table>,
        seed: u64,
        (rows, shards): (usize, usize),
        preprocess: Vec<Preprocess>,
        (train, ids): (&[u64], &[Span]),
        saved: Option<&Fitted>,
        lengths: Option<Lengths>,
    ) -> Result<Self, EngineError> {
        let mut scaled = None;
        let scaled_before = saved.map(|saved| saved.target.as_ref());
        let mut saved = saved.map(|saved| saved.features.iter());
        let width = table.width();
        let mut steps = Vec::with_capacity(preprocess.len());
        for Preprocess { apply, kind } in preprocess {
            let step = match (kind, &mut saved) {
                (PreprocessKind::Custom(transform), _) => {
                    Step::Custom(Arc::new(Mutex::new(transform)))
                }
                (PreprocessKind::Augment(augment), _) => Step::Augment(augment),
                (PreprocessKind::Normalise(config), _) if config.of == Of::Target => {
                    scaled = Some(Arc::new(match scaled_before {
                        None => fit_target(config, &table, train)?,
                        Some(before) => before.cloned().ok_or_else(|| lost("the target"))?,
                    }));
                    continue;
                }
                (PreprocessKind::Normalise(config), None) => {
                    let floats = |row| lengths.as_ref().map_or(width, |all| all.floats(row));
                    Step::Normalise(Arc::new(fit(config, &table, (train, ids), floats)?))
                }
                (PreprocessKind::Normalise(_), Some(saved)) => {
                    let statistics = saved
                        .next()
                        .filter(|s| s.offset.len() == width && s.factor.len() == width);
                    let statistics = statistics.ok_or_else(|| lost("a `normalise` step"))?;
                    Step::Normalise(Arc::new(statistics.clone()))
                }
            };
            steps.push((apply, step));
        }
        let shape = (rows, rows * shards);
        let feed = Self::with_steps(table, seed, shape, steps, lengths);
        Ok(Self { scaled, ..feed })
    }

    /// The same for another rank.
    pub(crate) fn fork(&self) -> Self {
        let fork = self.of(Arc::clone(&self.table), self.lengths.clone());
        let reader = Arc::clone(&self.reader);
        Self { reader, ..fork }
    }

    /// The same for other rows.
    pub(crate) fn of(&self, table: Arc<Table>, lengths: Option<Lengths>) -> Self {
        let shape = (self.rows, self.batch_rows);
        let feed = Self::with_steps(table, self.seed, shape, self.steps.clone(), lengths);
        let scaled = self.scaled.clone();
        Self { scaled, ..feed }.with_masks(self.masks)
    }

    fn with_steps(
        table: Arc<Table>,
        seed: u64,
        (rows, batch_rows): (usize, usize),
        steps: Vec<(Apply, Step)>,
        lengths: Option<Lengths>,
    ) -> Self {
        let targets = rows * table.targets_per_row();
        let (classes, values) = match table.kind() {
            TargetKind::Classes | TargetKind::Features => (targets, 0),
            TargetKind::Values => (0, targets),
        };
        let windows = table.windows(batch_rows);
        Self {
            windows,
            reader: Arc::new(Reader::new(Arc::clone(&table), windows)),
            window: Default::default(),
            seed,
            rows,
            batch_rows,
            steps,
            scaled: None,
            originals: Vec::new(),
            features: Vec::with_capacity(rows * table.width()),
            classes: Vec::with_capacity(classes),
            values: Vec::with_capacity(values),
            ids: Vec::with_capacity(rows),
            shard_lengths: Vec::with_capacity(if lengths.is_some() { rows } else { 0 }),
            lengths,
            masks: None,
            table,
        }
    }

    /// Bytes of the buffers whose sizes the quote foretells.
    #[cfg(test)]
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let numbers = self.features.capacity() + self.classes.capacity() + self.values.capacity();
        (4 * numbers + 8 * self.ids.capacity()) as u64
    }

    /// The same, with some tokens of each row hidden: these are the targets.
    pub(crate) fn with_masks(self, masks: Option<Masks>) -> Self {
        Self { masks, ..self }
    }

    /// What the `normalise` steps took from the training rows.
    pub(crate) fn fitted(&self) -> Fitted {
        let steps = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Normalise(statistics) => Some(statistics.as_ref().clone()),
            Step::Augment(_) | Step::Custom(_) => None,
        });
        Fitted {
            features: steps.collect(),
            target: self.scaled.as_deref().cloned(),
        }
    }

    /// The targets of the shard that was loaded last, before they were scaled.
    pub(crate) fn originals(&self) -> &[f32] {
        &self.originals
    }

    /// How the target is scaled, where it is.
    pub(crate) fn scaled(&self) -> Option<Arc<Statistics>> {
        self.scaled.clone()
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
        let batch = self.batch(order, place);
        self.ids.clear();
        self.ids.extend_from_slice(self.shard(order, place));
        let (width, targets) = (self.table.width(), self.table.targets_per_row());
        let (width, targets) = match &self.lengths {
            Some(lengths) => lengths.cut(lengths.bucket(batch), targets),
            None => (width, targets),
        };
        self.open_window(order, place)?;
        self.copy_rows(targets);
        if !self.ids.is_empty() {
            self.preprocess(place)
                .and_then(|()| self.hide(place, targets))
                .map_err(|error| error.about(&self.ids))?;
        }
        self.cut_features(width);
        let targets = match self.table.kind() {
            TargetKind::Classes => TargetRows::Classes(&self.classes),
            TargetKind::Values => TargetRows::Values(&self.values),
            TargetKind::Features if self.masks.is_some() => TargetRows::Classes(&self.classes),
            TargetKind::Features => TargetRows::Values(&self.features),
        };
        Ok(Shard {
            features: &self.features,
            targets,
            lengths: &self.shard_lengths,
            first_row: u32::try_from(place.shard * self.rows).unwrap_or(u32::MAX),
            step: place.step,
        })
    }

    /// The rows of a batch.
    fn batch<'a>(&self, order: &'a [u64], place: Place) -> &'a [u64] {
        let start = (index_of(place.batch) * self.batch_rows).min(order.len());
        &order[start..(start + self.batch_rows).min(order.len())]
    }

    /// Those of a shard of it.
    fn shard<'a>(&self, order: &'a [u64], place: Place) -> &'a [u64] {
        let batch = self.batch(order, place);
        let first = (place.shard * self.rows).min(batch.len());
        &batch[first..(first + self.rows).min(batch.len())]
    }

    /// One feature of a shard's rows as the table has it, before all preprocessing.
    ///
    /// # Errors
    /// `platform` when the rows can't be read.
    pub(crate) fn copy_column(
        &mut self,
        order: &[u64],
        place: Place,
        feature: usize,
        column: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.open_window(order, place)?;
        let rows = self.shard(order, place).iter();
        column.clear();
        column.extend(rows.map(|&row| self.table.feature(row, &self.window.1, feature)));
        Ok(())
    }

    /// Has the rows of a batch at hand, where the table is in a file.
    fn open_window(&mut self, order: &[u64], place: Place) -> Result<(), EngineError> {
        if !self.table.is_on_disk() {
            return Ok(());
        }
        let first = index_of(place.batch) * self.batch_rows;
        let key = self.reader.key(place, first, order);
        if self.window.0 != Some(key) {
            // Its memory goes to the next.
            self.window = Default::default();
            self.window = (Some(key), self.reader.open(key, order)?);
        }
        Ok(())
    }

    /// Copies features, and the first targets of each row.
    fn copy_rows(&mut self, targets: usize) {
        let mut shelf = Shelf {
            features: &mut self.features,
            classes: &mut self.classes,
            values: &mut self.values,
        };
        shelf.clear();
        for &id in &self.ids {
            self.table.copy(id, &self.window.1, targets, &mut shelf);
        }
        if let Some(scaled) = &self.scaled {
            self.originals.clear();
            self.originals.extend_from_slice(&self.values);
            scaled.apply(&mut self.values);
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
        shuffle_epoch(self.seed, epoch, train, &self.windows, order);
        if let Some(lengths) = &mut self.lengths {
            for (index, window) in self.windows.cut(order).enumerate() {
                let stream = Shuffled::Batches(index).stream(self.seed, epoch);
                lengths.arrange(stream, self.batch_rows, window);
            }
        }
    }

    /// Hides tokens, and appends `targets` classes for each row: those of training rows anew in each
    /// step, those of held-out rows always alike.
    fn hide(&mut self, place: Place, targets: usize) -> Result<(), EngineError> {
        let Some(masks) = &self.masks else {
            return Ok(());
        };
        let first = place.shard * self.rows;
        let rows = self.features.chunks_exact_mut(self.table.width());
        for (index, (row, &id)) in rows.zip(&self.ids).enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
            let at = match place.pass {
                Pass::Train => {
                    let stream = Stream::new(self.seed, Purpose::MaskTrain, 0, place.step);
                    (stream, (first + index) as u32)
                }
                Pass::Test => {
                    let stream = Stream::new(self.seed, Purpose::MaskTest, 0, id >> 32);
                    (stream, id as u32)
                }
            };
            let there = (self.lengths.as_ref()).map_or(row.len(), |lengths| lengths.floats(id));
            masks.hide(&mut row[..there], &mut self.classes, at)?;
            self.classes.resize((index + 1) * targets, NOT_COUNTED);
        }
        Ok(())
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
        let width = self.table.width();
        for (site, (apply, step)) in (0..).zip(&mut self.steps) {
            if *apply == Apply::Train && place.pass == Pass::Test {
                continue;
            }
            match step {
                Step::Normalise(statistics) => statistics.apply(&mut self.features),
                Step::Augment(augment) => {
                    let first = place.shard * self.rows;
                    augment.apply(
                        &mut self.features,
                        width,
                        (self.seed, site, place.step),
                        first,
                    );
                }
                Step::Custom(transform) => {
                    let mut transform = transform.lock().unwrap_or_else(PoisonError::into_inner);
                    transform.apply(&mut self.features, &self.ids, seed)?;
                }
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

fn lost(what: &str) -> EngineError {
    let message = format!("the checkpoint has no statistics for {what}");
    EngineError::new(FailureKind::Data, message)
}
