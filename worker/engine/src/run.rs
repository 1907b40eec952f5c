//! A run: from a plan and a table to weights and metrics.
//!
//! Each rank of a run is a run of its own, which owns some of the virtual shards and keeps all of
//! the weights. What it can't know by itself, it agrees on with the others: losses, gradients,
//! metrics, and what went wrong. All else follows from these alike on all ranks. The first rank
//! speaks for the run.

mod files;
mod start;
mod threads;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_model::Plan;

pub use start::RunInput;

use crate::device::{LossSum, Session};
use crate::error::EngineError;
use crate::evaluate::{Evaluation, Measured};
use crate::explain::explain;
use crate::feed::{Feed, Pass, Place};
use crate::gang::{Agreed, Gang};
use crate::loss_tree::LossTree;
use crate::metric::Sources;
use crate::monitor::Monitor;
use crate::observer::{Control, Observer, StepReport};
use crate::order::Split;
use crate::schedule::learning_rate;
use crate::tensors::{Metadata, VERSION, write_checkpoint, write_weights};

/// Hashes of the weights over a run, about.
const TRACES: u64 = 64;

/// A run in progress.
pub struct Run {
    plan: Arc<Plan>,
    session: Box<dyn Session>,
    gang: Gang,
    /// The other ranks, where they are threads of this process.
    others: Vec<Run>,
    feed: Feed,
    metrics: Arc<Sources>,
    rows: Arc<Split>,
    table_rows: u64,
    split: String,
    steps_per_epoch: u64,
    steps: u64,
    /// Steps made.
    step: u64,
    /// The training rows in the order of the epoch in progress, and which epoch that is.
    order: Vec<u64>,
    ordered: Option<u64>,
    train_loss: Option<f64>,
    /// The metric that the run goes by, and the weights where it was best.
    monitor: Option<Monitor>,
    best: Option<Vec<f32>>,
    /// The newest evaluation, and the step it was made after.
    evaluated: Option<(u64, Measured)>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps were made.
    Finished(Finished),
    /// Paused after this step; its checkpoint went to the observer.
    Paused {
        /// Steps made.
        step: u64,
    },
    /// Stopped after this step.
    Stopped {
        /// Steps made.
        step: u64,
    },
}

/// What a run made.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The weights as safetensors, with PyTorch's names and shapes: the last ones, their running
    /// average, or the best, as the spec has it. The same run gives the same bytes.
    pub weights: Vec<u8>,
    /// `train.loss` of the last step; `test.loss` and `test.<metric>` of these weights;
    /// `best.step` where the best were kept.
    pub metrics: BTreeMap<String, f64>,
    /// What metrics tell besides, by file name, of the same weights.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Optimiser steps made, over all attempts.
    pub steps: u64,
}

impl Run {
    /// Optimiser steps in all.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Optimiser steps made, those before a resumed checkpoint included.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.step
    }

    fn train(&mut self, observer: &mut dyn Observer) -> Result<Outcome, EngineError> {
        while !self.is_at_end() {
            let made = self.train_step();
            let Some(report) = made.map_err(|error| error.at_step(self.step + 1))? else {
                return Ok(Outcome::Stopped { step: self.step });
            };
            observer.step(&report);
            if self.evaluation_is_due() {
                self.evaluate(observer)?;
            }
            if !self.gang.is_first() {
                continue;
            }
            if self.step.is_multiple_of(self.steps.div_ceil(TRACES)) || self.step == self.steps {
                observer.trace(self.step, self.hash_weights());
            }
            if let Some(outcome) = self.ask(observer)? {
                // The others are in the next step already, or at the end by themselves. What went
                // wrong there is no matter any more.
                if !self.is_at_end() {
                    let _ = self.gang.end();
                }
                return Ok(outcome);
            }
        }
        // Again after a resume at the very end, where the values were lost with the last attempt.
        if self
            .evaluated
            .as_ref()
            .is_none_or(|(step, _)| *step != self.step)
        {
            self.evaluate(observer)?;
        }
        if !self.gang.is_first() {
            return Ok(Outcome::Stopped { step: self.step });
        }
        self.finish().map(Outcome::Finished)
    }

    /// The BLAKE3 of the weights as they are in memory.
    fn hash_weights(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let weights = self.session.read(0);
        let mut bytes = [0; 4 * 1024];
        for numbers in weights.chunks(1024) {
            for (into, number) in bytes.chunks_exact_mut(4).zip(numbers) {
                into.copy_from_slice(&number.to_le_bytes());
            }
            hasher.update(&bytes[..4 * numbers.len()]);
        }
        hasher.finalize()
    }

    /// Asks the observer how to go on, and gives it a checkpoint when one is due.
    fn ask(&self, observer: &mut dyn Observer) -> Result<Option<Outcome>, EngineError> {
        let step = self.step;
        let control = observer.control();
        if control == Control::Stop {
            return Ok(Some(Outcome::Stopped { step }));
        }
        let every = self.plan.train.checkpoint.every_steps;
        let due = every > 0 && step.is_multiple_of(every) && step < self.steps;
        if due || control == Control::Pause {
            observer.checkpoint(step, self.checkpoint())?;
        }
        Ok((control == Control::Pause).then_some(Outcome::Paused { step }))
    }

    /// The state after the last step, from which a run of the same plan and data can go on, with
    /// any number of workers.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let buffers = 0..=self.plan.optimizer_slots();
        let buffers: Vec<Cow<'_, [f32]>> = buffers.map(|index| self.session.read(index)).collect();
        let buffers: Vec<&[f32]> = (buffers.iter().map(Cow::as_ref))
            .chain(self.best.as_deref())
            .collect();
        write_checkpoint(&self.plan, &self.metadata(), &buffers)
    }

    /// Whether all steps are made, or the monitored metric says to stop before.
    fn is_at_end(&self) -> bool {
        self.step >= self.steps || self.monitor.as_ref().is_some_and(Monitor::is_over)
    }

    fn metadata(&self) -> Metadata {
        let fitted = self.feed.fitted();
        Metadata {
            version: VERSION,
            plan: self.plan.hash(),
            step: self.step,
            rows: self.table_rows,
            split: self.split.clone(),
            normalise: fitted.features,
            target: fitted.target,
            train_loss: self.train_loss,
            monitor: self.monitor.as_ref().map(|monitor| monitor.state.clone()),
            best: self.best.is_some(),
        }
    }

    fn place(&self, shard: usize) -> Place {
        Place {
            pass: Pass::Train,
            epoch: self.step / self.steps_per_epoch,
            batch: self.step % self.steps_per_epoch,
            shard,
            step: self.step,
        }
    }

    /// Makes a step; nothing when the first rank has ended the run.
    fn train_step(&mut self) -> Result<Option<StepReport>, EngineError> {
        let epoch = self.step / self.steps_per_epoch;
        if self.ordered != Some(epoch) {
            self.feed
                .order_epoch(epoch, &self.rows.train, &mut self.order);
            self.ordered = Some(epoch);
        }
        let own = self.train_shards();
        let mut message = [0; 24];
        if let Ok((loss, rows)) = &own {
            message[..16].copy_from_slice(&loss.to_bytes());
            message[16..].copy_from_slice(&rows.to_le_bytes());
        }
        let (mut losses, mut rows) = (LossTree::default(), 0);
        let own = own.as_ref().map(|_| message.as_slice());
        let agreed = self.gang.agree(own, &mut |_, bytes| {
            let (own, count) = bytes.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
            losses.add(LossSum::from_bytes(*own));
            rows += count
                .first_chunk()
                .map_or(0, |count| u64::from_le_bytes(*count));
        })?;
        if agreed == Agreed::Ended {
            return Ok(None);
        }
        self.session.sum_over(self.gang.collective())?;
        let LossSum { weight, .. } = losses.sum();
        let loss = losses.sum().mean();
        if !loss.is_finite() || !self.session.gradients_are_finite() {
            return Err(self.explain_bad_numbers(loss));
        }
        let lowered = self.monitor.as_ref().map_or(0, |m| m.state.lowered);
        let rate = learning_rate(&self.plan.train, self.step, self.steps, lowered);
        self.step += 1;
        self.session.update(weight, rate, self.step);
        self.train_loss = Some(loss);
        Ok(Some(StepReport {
            step: self.step,
            steps: self.steps,
            epoch: epoch + 1,
            rows,
            loss,
            learning_rate: rate,
        }))
    }

    /// Runs this rank's shards forward and back. Their loss, and how many rows they have.
    fn train_shards(&mut self) -> Result<(LossSum, u64), EngineError> {
        let (mut loss, mut rows) = (LossTree::default(), 0);
        self.session.start_step();
        for shard in self.gang.owned(self.plan.shards) {
            let place = self.place(shard);
            let shard = self.feed.load(&self.order, place)?;
            loss.add(self.session.train_shard(&shard));
            rows += self.feed.ids().len() as u64;
        }
        Ok((loss.sum(), rows))
    }

    /// Looks for the first number of the batch that isn't finite.
    fn explain_bad_numbers(&mut self, loss: f64) -> EngineError {
        let found = self.find_bad_numbers();
        let told = match &found {
            Some(error) => Err(error),
            None => Ok(&[][..]),
        };
        let message = format!("the sum over the batch isn't finite; its loss is {loss}");
        match self.gang.agree(told, &mut |_, _| ()) {
            Err(error) => error,
            Ok(_) => EngineError::new(FailureKind::Numeric, message),
        }
    }

    /// The same among this rank's shards.
    fn find_bad_numbers(&mut self) -> Option<EngineError> {
        for shard in self.gang.owned(self.plan.shards) {
            let place = self.place(shard);
            let found = match self.feed.load(&self.order, place) {
                Ok(shard) if !shard.features.is_empty() => self.session.diagnose(&shard),
                Ok(_) => None,
                Err(error) => return Some(error),
            };
            if let Some(bad) = found {
                return Some(explain(bad, self.feed.ids()));
            }
        }
        None
    }

    fn evaluation_is_due(&self) -> bool {
        let every = u64::from(self.plan.train.eval_every_epochs) * self.steps_per_epoch;
        self.step.is_multiple_of(every) || self.step == self.steps
    }

    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<(), EngineError> {
        self.evaluated = None;
        let mut measured = Measured::default();
        if !self.rows.test.is_empty() {
            self.session.swap_average();
            let evaluated = Evaluation {
                plan: &self.plan,
                session: self.session.as_mut(),
                feed: &mut self.feed,
                sources: &self.metrics,
                gang: &mut self.gang,
                order: &self.rows.test,
                step: self.step,
            }
            .run();
            self.session.swap_average();
            measured = evaluated.map_err(|error| error.at_step(self.step))?;
            let epoch = self.step.div_ceil(self.steps_per_epoch);
            observer.evaluated(self.step, epoch, &measured.values);
            if !measured.undefined.is_empty() {
                observer.undefined(self.step, epoch, &measured.undefined);
            }
        }
        if let Some(monitor) = &mut self.monitor
            && monitor.take(self.step, &measured.values)
            && self.plan.train.keep_best
            && self.gang.is_first()
        {
            let mut best = self.best.take().unwrap_or_default();
            best.clear();
            best.extend_from_slice(&self.averaged_weights());
            self.best = Some(best);
        }
        self.evaluated = Some((self.step, measured));
        Ok(())
    }

    /// The weights that are evaluated: those of the last step, or their running average. Running
    /// statistics are those of the last step.
    fn averaged_weights(&self) -> Cow<'_, [f32]> {
        let mut weights = self.session.read(0);
        if self.plan.train.ema.is_some() {
            let average = self.session.read(self.plan.optimizer_slots());
            if average.len() == weights.len() {
                return average;
            }
            weights.to_mut()[..average.len()].copy_from_slice(&average);
        }
        weights
    }

    fn finish(&mut self) -> Result<Finished, EngineError> {
        let files = self.files()?;
        let weights = match &self.best {
            Some(best) => Cow::Borrowed(best.as_slice()),
            None => self.averaged_weights(),
        };
        for parameter in &self.plan.parameters {
            let numbers = &weights[parameter.offset..][..parameter.floats];
            if numbers.iter().any(|number| !number.is_finite()) {
                let layer = parameter.name.clone();
                let message = format!("`{layer}` isn't finite after the last step");
                let error = EngineError::new(FailureKind::Numeric, message).at_step(self.step);
                return Err(EngineError {
                    layer: Some(layer),
                    ..error
                });
            }
        }
        let metadata = Metadata {
            best: false,
            ..self.metadata()
        };
        let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
        let best = self.monitor.as_ref().and_then(Monitor::best);
        match best.filter(|_| self.best.is_some()) {
            Some(best) => {
                metrics.insert("best.step".to_owned(), best.step as f64);
                metrics.extend(best.metrics());
            }
            None => metrics.extend(
                self.evaluated
                    .iter()
                    .flat_map(|(_, measured)| measured.values.iter().cloned()),
            ),
        }
        metrics.extend(self.train_loss.map(|loss| ("train.loss".to_owned(), loss)));
        Ok(Finished {
            weights: write_weights(&self.plan, &metadata, &weights),
            metrics,
            files,
            steps: self.step,
        })
    }
}
