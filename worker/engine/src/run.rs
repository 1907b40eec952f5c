//! A run: from a plan and a table to weights and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_domain::spec::SplitSpec;
use stoker_model::Plan;

use crate::device::{Device, LossSum, Session};
use crate::error::EngineError;
use crate::evaluate::evaluate;
use crate::explain::explain;
use crate::feed::{Feed, Pass, Place};
use crate::init::initial_weights;
use crate::lengths::Lengths;
use crate::metric::MetricSource;
use crate::monitor::Monitor;
use crate::observer::{Control, Observer, StepReport};
use crate::order::{Split, split};
use crate::schedule::learning_rate;
use crate::table::Table;
use crate::tensors::{Metadata, State, VERSION, read_checkpoint, write_checkpoint, write_weights};
use crate::transform::Preprocess;

/// What a run starts from.
pub struct RunInput<'a> {
    /// The compiled job.
    pub plan: Arc<Plan>,
    /// All rows.
    pub table: Arc<Table>,
    /// How rows are held out.
    pub split: &'a SplitSpec,
    /// Preprocessing steps, in order.
    pub preprocess: Vec<Preprocess>,
    /// What is measured on the held-out rows.
    pub metrics: Vec<MetricSource>,
    /// A checkpoint to go on from.
    pub resume: Option<&'a [u8]>,
}

/// A run in progress.
pub struct Run {
    plan: Arc<Plan>,
    session: Box<dyn Session>,
    feed: Feed,
    metrics: Vec<MetricSource>,
    rows: Split,
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
    evaluated: Option<(u64, Vec<(String, f64)>)>,
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
    /// Optimiser steps made, over all attempts.
    pub steps: u64,
}

impl Run {
    /// Prepares a run: splits the rows, fits `normalise`, and makes or restores the weights.
    ///
    /// # Errors
    /// `data` when the table doesn't fit the plan, `user` when the checkpoint is another run's.
    pub fn new(device: &dyn Device, input: RunInput<'_>) -> Result<Self, EngineError> {
        let RunInput {
            plan,
            table,
            split: spec,
            preprocess,
            metrics,
            resume,
        } = input;
        table.check(&plan.input)?;
        let mut rows = split(spec, table.targets(), table.rows())?;
        let lengths = Lengths::new(&plan, &table);
        if let Some(lengths) = &lengths {
            lengths.sort(&mut rows.test);
        }
        let (steps_per_epoch, steps) = count_steps(&plan, rows.train.len())?;
        let table_rows = table.rows() as u64;
        let spec = serde_json::to_string(spec).unwrap_or_default();
        let state = resume
            .map(|bytes| read_checkpoint(&plan, bytes))
            .transpose()?;
        if let Some(State { metadata, .. }) = &state
            && (metadata.rows != table_rows || metadata.split != spec || metadata.step > steps)
        {
            let message = "the checkpoint is of other data or another split";
            return Err(EngineError::new(FailureKind::User, message));
        }
        let saved = state
            .as_ref()
            .map(|state| state.metadata.normalise.as_slice());
        let shape = (plan.rows, plan.shards);
        let feed = Feed::new(
            table,
            plan.train.seed,
            shape,
            preprocess,
            &rows.train,
            saved,
            lengths,
        )?;
        let mut session = device.open(Arc::clone(&plan))?;
        match &state {
            Some(state) => session.write(&state.weights, &state.optimizer),
            None => session.write(&initial_weights(&plan), &[]),
        }
        let (mut step, mut train_loss, mut best, mut saved) = (0, None, None, None);
        if let Some(state) = state {
            (step, train_loss) = (state.metadata.step, state.metadata.train_loss);
            (best, saved) = (state.best, state.metadata.monitor);
        }
        Ok(Self {
            session,
            feed,
            metrics,
            table_rows,
            split: spec,
            steps_per_epoch,
            steps,
            step,
            order: Vec::with_capacity(rows.train.len()),
            ordered: None,
            train_loss,
            monitor: Monitor::new(&plan.train, saved),
            best,
            evaluated: None,
            rows,
            plan,
        })
    }

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

    /// Runs until all steps are made, or the observer says otherwise.
    ///
    /// # Errors
    /// `numeric` when a loss or gradient isn't finite: the weights are those before the step;
    /// else what a transform, a metric or the observer gave.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome, EngineError> {
        while self.step < self.steps && !self.is_over() {
            let report = self
                .train_step()
                .map_err(|error| error.at_step(self.step + 1))?;
            observer.step(&report);
            if self.evaluation_is_due() {
                self.evaluate(observer)?;
            }
            let control = observer.control();
            if control == Control::Stop {
                return Ok(Outcome::Stopped { step: self.step });
            }
            let every = self.plan.train.checkpoint.every_steps;
            let due = every > 0 && self.step.is_multiple_of(every) && self.step < self.steps;
            if due || control == Control::Pause {
                observer.checkpoint(self.step, self.checkpoint())?;
            }
            if control == Control::Pause {
                return Ok(Outcome::Paused { step: self.step });
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
        self.finish().map(Outcome::Finished)
    }

    /// The state after the last step, from which a run of the same plan and data can go on.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let (weights, optimizer) = self.session.read();
        let state = State {
            metadata: self.metadata(),
            weights,
            optimizer,
            best: self.best.clone(),
        };
        write_checkpoint(&self.plan, &state)
    }

    /// Whether the monitored metric says to stop before the last step.
    fn is_over(&self) -> bool {
        self.monitor.as_ref().is_some_and(Monitor::is_over)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            version: VERSION,
            plan: self.plan.hash(),
            step: self.step,
            rows: self.table_rows,
            split: self.split.clone(),
            normalise: self.feed.statistics(),
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

    fn train_step(&mut self) -> Result<StepReport, EngineError> {
        let epoch = self.step / self.steps_per_epoch;
        if self.ordered != Some(epoch) {
            self.feed
                .order_epoch(epoch, &self.rows.train, &mut self.order);
            self.ordered = Some(epoch);
        }
        let (mut loss, mut rows) = (LossTree::default(), 0);
        self.session.start_step();
        for shard in 0..self.plan.shards {
            let place = self.place(shard);
            let shard = self.feed.load(&self.order, place)?;
            loss.add(self.session.train_shard(&shard));
            rows += self.feed.ids().len() as u64;
        }
        let LossSum { weight, .. } = loss.sum();
        let loss = loss.sum().mean();
        if !loss.is_finite() || !self.session.gradients_are_finite() {
            return Err(self.explain_bad_numbers(loss));
        }
        let lowered = self.monitor.as_ref().map_or(0, |m| m.state.lowered);
        let rate = learning_rate(&self.plan.train, self.step, self.steps, lowered);
        self.step += 1;
        self.session.update(weight, rate, self.step);
        self.train_loss = Some(loss);
        Ok(StepReport {
            step: self.step,
            steps: self.steps,
            epoch: epoch + 1,
            rows,
            loss,
            learning_rate: rate,
        })
    }

    /// Looks for the first number of the batch that isn't finite.
    fn explain_bad_numbers(&mut self, loss: f64) -> EngineError {
        for shard in 0..self.plan.shards {
            let place = self.place(shard);
            let found = match self.feed.load(&self.order, place) {
                Ok(shard) if !shard.features.is_empty() => self.session.diagnose(&shard),
                Ok(_) => None,
                Err(error) => return error,
            };
            if let Some(bad) = found {
                return explain(bad, self.feed.ids());
            }
        }
        let message = format!("the sum over the batch isn't finite; its loss is {loss}");
        EngineError::new(FailureKind::Numeric, message)
    }

    fn evaluation_is_due(&self) -> bool {
        let every = u64::from(self.plan.train.eval_every_epochs) * self.steps_per_epoch;
        self.step.is_multiple_of(every) || self.step == self.steps
    }

    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<(), EngineError> {
        let mut results = Vec::new();
        if !self.rows.test.is_empty() {
            let session = self.session.as_mut();
            let (feed, metrics) = (&mut self.feed, &mut self.metrics);
            session.swap_average();
            let evaluated = evaluate(
                &self.plan,
                session,
                feed,
                metrics,
                &self.rows.test,
                self.step,
            );
            session.swap_average();
            results = evaluated.map_err(|error| error.at_step(self.step))?;
            let epoch = self.step.div_ceil(self.steps_per_epoch);
            observer.evaluated(self.step, epoch, &results);
        }
        if let Some(monitor) = &mut self.monitor
            && monitor.take(self.step, &results)
            && self.plan.train.keep_best
        {
            self.best = Some(self.averaged_weights());
        }
        self.evaluated = Some((self.step, results));
        Ok(())
    }

    /// The weights that are evaluated: those of the last step, or their running average.
    fn averaged_weights(&self) -> Vec<f32> {
        let (weights, mut optimizer) = self.session.read();
        match &self.plan.train.ema {
            Some(_) => optimizer.pop().unwrap_or(weights),
            None => weights,
        }
    }

    fn finish(&self) -> Result<Finished, EngineError> {
        let weights = match &self.best {
            Some(best) => best.clone(),
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
                    .flat_map(|(_, results)| results.iter().cloned()),
            ),
        }
        metrics.extend(self.train_loss.map(|loss| ("train.loss".to_owned(), loss)));
        Ok(Finished {
            weights: write_weights(&self.plan, &metadata, &weights),
            metrics,
            steps: self.step,
        })
    }
}

/// Steps per epoch, and in all.
fn count_steps(plan: &Plan, rows: usize) -> Result<(u64, u64), EngineError> {
    stoker_model::count_steps(&plan.train, rows as u64).ok_or_else(|| {
        let batch = plan.train.step_rows();
        let message = format!(
            "drop_last leaves no step: {rows} training rows, {batch} (train.batch_size · train.accumulate) needed"
        );
        EngineError::new(FailureKind::User, message)
    })
}

/// Sums the shards' losses in the tree of their gradients.
#[derive(Default)]
struct LossTree {
    sums: Vec<LossSum>,
    added: usize,
}

impl LossTree {
    fn add(&mut self, loss: LossSum) {
        let mut sum = loss;
        for _ in 0..self.added.trailing_ones() {
            sum += self.sums.pop().unwrap_or_default();
        }
        self.sums.push(sum);
        self.added += 1;
    }

    fn sum(&self) -> LossSum {
        let mut total = LossSum::default();
        self.sums.iter().for_each(|sum| total += *sum);
        total
    }
}
