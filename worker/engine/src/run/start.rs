//! How a run starts: from data, or from a checkpoint.

use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_domain::spec::SplitSpec;
use stoker_model::Plan;

use super::Run;
use crate::collective::{Alone, Collective, connect};
use crate::device::Device;
use crate::error::EngineError;
use crate::feed::Feed;
use crate::gang::Gang;
use crate::init::initialise;
use crate::lengths::Lengths;
use crate::masking::Masks;
use crate::metric::{MetricSource, Sources};
use crate::monitor::Monitor;
use crate::order::{Split, split};
use crate::table::Table;
use crate::tensors::Checkpoint;
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

impl Run {
    /// Prepares a run of one worker: splits the rows, fits `normalise`, and makes or restores the
    /// weights.
    ///
    /// # Errors
    /// `data` when the table doesn't fit the plan, `user` when the checkpoint is another run's.
    pub fn new(device: &dyn Device, input: RunInput<'_>) -> Result<Self, EngineError> {
        Self::with_workers(device, input, 1)
    }

    /// The same with this many workers in this process, a power of two up to the plan's shards:
    /// threads that each have weights, an arena and gradients of their own. Their number changes no
    /// bit, and a run may be resumed with another.
    ///
    /// # Errors
    /// As [`Run::new`]; `user` for another number of workers.
    pub fn with_workers(
        device: &dyn Device,
        input: RunInput<'_>,
        workers: usize,
    ) -> Result<Self, EngineError> {
        let RunInput {
            plan,
            table,
            split: spec,
            preprocess,
            metrics,
            resume,
        } = input;
        check_workers(workers, &plan)?;
        table.check(&plan.input)?;
        let mut rows = split(spec, &table)?;
        let lengths = Lengths::new(&plan, &table)?;
        if let Some(lengths) = &lengths {
            let windows = table.windows(plan.rows * plan.shards);
            (windows.cut(&mut rows.test)).for_each(|window| lengths.sort(window));
        }
        let (steps_per_epoch, steps) = count_steps(&plan, rows.train.len())?;
        let table_rows = table.rows() as u64;
        let spec = serde_json::to_string(spec).unwrap_or_default();
        let state = resume
            .map(|bytes| Checkpoint::read(&plan, bytes))
            .transpose()?;
        if let Some(Checkpoint { metadata, .. }) = &state
            && (metadata.rows != table_rows || metadata.split != spec || metadata.step > steps)
        {
            let message = "the checkpoint is of other data or another split";
            return Err(EngineError::new(FailureKind::User, message));
        }
        let saved = state.as_ref().map(|state| state.metadata.fitted());
        let shape = (plan.rows, plan.shards);
        let feed = Feed::new(
            table,
            plan.train.seed,
            shape,
            preprocess,
            (&rows.train, &plan.ids()),
            saved.as_ref(),
            lengths,
        )?;
        let classes = plan.outputs / plan.input.target.positions();
        let masks = plan.masking.map(|masking| Masks::new(masking, classes));
        let feed = feed.with_masks(masks);
        let shared = Shared {
            metrics: Arc::new(Sources::new(metrics)),
            rows: Arc::new(rows),
            table_rows,
            split: spec,
            steps: (steps_per_epoch, steps),
            plan,
        };
        let ends = if workers == 1 {
            vec![Box::new(Alone) as Box<dyn Collective>]
        } else {
            connect(workers)
        };
        let others: Vec<Feed> = (1..workers).map(|_| feed.fork()).collect();
        let feeds = std::iter::once(feed).chain(others);
        let mut ranks = (ends.into_iter().zip(feeds))
            .map(|(end, feed)| shared.rank(device, Gang::new(end), feed, state.as_ref()));
        let first = ranks.next().unwrap_or_else(|| Err(no_rank()))?;
        Ok(Self {
            others: ranks.collect::<Result<_, _>>()?,
            ..first
        })
    }
}

/// What the ranks of a run start from.
struct Shared {
    plan: Arc<Plan>,
    metrics: Arc<Sources>,
    rows: Arc<Split>,
    table_rows: u64,
    split: String,
    /// Per epoch, and in all.
    steps: (u64, u64),
}

impl Shared {
    fn rank(
        &self,
        device: &dyn Device,
        gang: Gang,
        feed: Feed,
        state: Option<&Checkpoint<'_>>,
    ) -> Result<Run, EngineError> {
        let plan = Arc::clone(&self.plan);
        let mut session = device.open(Arc::clone(&plan), gang.ranks())?;
        match state {
            None => session.write(0, &mut |weights| initialise(&plan, weights)),
            Some(state) => {
                for index in 0..=plan.optimizer_slots() {
                    session.write(index, &mut |buffer| state.copy(&plan, index, buffer));
                }
            }
        }
        let metadata = state.map(|state| &state.metadata);
        let best = state.filter(|_| gang.is_first());
        Ok(Run {
            session,
            others: Vec::new(),
            feed,
            metrics: Arc::clone(&self.metrics),
            table_rows: self.table_rows,
            split: self.split.clone(),
            steps_per_epoch: self.steps.0,
            steps: self.steps.1,
            step: metadata.map_or(0, |metadata| metadata.step),
            order: Vec::with_capacity(self.rows.train.len()),
            ordered: None,
            train_loss: metadata.and_then(|metadata| metadata.train_loss),
            monitor: Monitor::new(&plan.train, metadata.and_then(|m| m.monitor.clone())),
            best: best.and_then(|state| state.best(&plan)),
            evaluated: None,
            rows: Arc::clone(&self.rows),
            gang,
            plan,
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

fn check_workers(workers: usize, plan: &Plan) -> Result<(), EngineError> {
    if workers.is_power_of_two() && workers <= plan.shards {
        return Ok(());
    }
    let message = format!(
        "{workers} workers given, a power of two up to {} (train.virtual_shards · train.accumulate) needed",
        plan.shards
    );
    Err(EngineError::new(FailureKind::User, message))
}

fn no_rank() -> EngineError {
    EngineError::new(FailureKind::Platform, "a run has no rank: our bug")
}
