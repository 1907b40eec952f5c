//! The job: a spec plus a state. `transition` is the state machine, `event` what it tells,
//! `failure` why an attempt ended badly.

mod demand;
mod event;
mod failure;
mod transition;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use demand::Demand;
pub use event::{Event, EventBody};
pub use failure::{Failure, FailureKind};
pub use transition::{
    Change, DEATHS_MAX, Holder, PLATFORM_FAILURES_MAX, Transition, TransitionError,
};

use crate::id::{JobId, PoolName, TenantId, WorkerId};
use crate::spec::JobSpec;
use crate::time::{Millis, Timestamp};

const MS_PER_HOUR: f64 = 3_600_000.0;

/// Version tag of stored job records.
pub const RECORD_VERSION: u16 = 1;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a slot.
    Queued,
    /// Given to a worker that hasn't begun.
    Dispatched,
    /// A worker runs it.
    Running,
    /// The worker saves a checkpoint and lets go.
    Pausing,
    /// Waits for someone to resume it.
    Paused,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Dispatched,
        Self::Running,
        Self::Pausing,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a worker holds a lease on the job.
    #[must_use]
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Dispatched | Self::Running | Self::Pausing)
    }

    /// The state as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What becomes of a job when its worker has saved a checkpoint and let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetGo {
    /// It waits for someone to resume it.
    Pause,
    /// It is queued again: another job, or its operator, needs the place.
    Preempt,
    /// It ends by request.
    Cancel,
}

/// The stored truth about a job. Written only through [`JobRecord::apply`], under the revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Version tag of this form.
    pub version: u16,
    /// The job's id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// The spec, with references pinned to versions.
    pub spec: JobSpec,
    /// What the references point at.
    pub inputs: Inputs,
    /// What it needs of its pool.
    #[serde(default)]
    pub demand: Demand,
    /// The job that this one runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<JobId>,
    /// Where it stands.
    pub state: JobState,
    /// What becomes of it when its worker lets go; only while it is pausing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letting_go: Option<LetGo>,
    /// Counts the writes of this record.
    pub revision: u64,
    /// Position of the next event.
    pub next_event: u64,
    /// The highest fencing token given out.
    pub token: u64,
    /// The present or last attempt.
    pub attempt: Option<Attempt>,
    /// Failed attempts that count against `retry.attempts`.
    pub failed_attempts: u32,
    /// Failed attempts by kind; those of the platform since the last new checkpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<FailureKind, u32>,
    /// What its ended attempts have used.
    #[serde(default)]
    pub used: Used,
    /// Workers that died over this job since its last new checkpoint.
    pub deaths: u32,
    /// Not to be started before this, after a failed attempt.
    pub not_before: Option<Timestamp>,
    /// The newest committed checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// What it produced.
    pub result: Option<Outcome>,
    /// Why the last attempt failed, or the job.
    pub failure: Option<Failure>,
    /// Engine build and device class of the first attempt: later ones must match for exactness.
    pub engine: Option<EngineIdentity>,
    /// Whether every attempt ran on the same engine build and device class.
    pub exact: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// What a job's references pointed at when it was created: content, not names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Inputs {
    /// BLAKE3 of the data set's bytes.
    pub dataset_blake3: String,
    /// BLAKE3 of each plugin's module, by `name@version`.
    pub plugins: BTreeMap<String, String>,
    /// The tokenizers that steps were given, by `name@version` of their data sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokenizers: BTreeMap<String, TokenizerInput>,
}

/// A tokenizer that a step was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizerInput {
    /// BLAKE3 of its file.
    pub blake3: String,
    /// Number of its ids: the largest, and one more.
    pub ids: u64,
}

/// What attempts have used, by the clocks of those who began and ended them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// Milliseconds in which an attempt ran.
    pub run_ms: u64,
    /// The same, times its devices.
    pub device_ms: u64,
    /// What that cost, at the pool's prices of the time.
    pub cost: f64,
}

/// A limit that a job's spec sets on its running.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// `resources.max_time`.
    Time(Millis),
    /// `resources.max_cost`.
    Cost(f64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(max) => write!(f, "resources.max_time, {max}"),
            Self::Cost(max) => write!(f, "resources.max_cost, {max}"),
        }
    }
}

/// One try at running a job, under one lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// The fencing token.
    pub token: u64,
    /// The worker.
    pub worker: WorkerId,
    /// Which life of the worker; another one means that the lease is lost.
    pub incarnation: String,
    /// What each of its devices costs for an hour.
    #[serde(default)]
    pub price_per_device_hour: f64,
    /// When the scheduler gave it to the worker.
    #[schema(value_type = String, format = DateTime)]
    pub dispatched_at: Timestamp,
    /// When the worker began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended, however it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// A committed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// The token under which it was written; part of its place in object storage.
    pub token: u64,
    /// Optimiser steps done.
    pub step: u64,
    /// BLAKE3 of its bytes.
    pub blake3: String,
    /// Its length.
    pub size_bytes: u64,
}

/// What a job that succeeded has produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The token under which the artifacts were written.
    pub token: u64,
    /// BLAKE3 of the manifest; what no commit names is garbage.
    pub manifest_blake3: String,
    /// The files.
    pub artifacts: Vec<Artifact>,
    /// Last value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Optimiser steps done.
    pub steps: u64,
    /// Rows trained on per second, over the whole training loop of the last attempt.
    pub samples_per_s: f64,
    /// When the last attempt's first optimiser step was done.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_step_at: Option<Timestamp>,
    /// Milliseconds from the job's creation to its first optimiser step, over all attempts.
    pub submit_to_first_step_ms: Option<f64>,
}

/// One file that a job produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its name, such as `weights.safetensors`.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// BLAKE3 of its bytes.
    pub blake3: String,
}

/// What must be equal for two runs to give the same bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineIdentity {
    /// Version and build of the engine.
    pub build: String,
    /// Class of the device, such as `cpu-x86-64`.
    pub device_class: String,
}

/// What is needed to make a job.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The job's id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// The spec, with references pinned to versions.
    pub spec: JobSpec,
    /// What the references point at.
    pub inputs: Inputs,
    /// What it needs of its pool.
    pub demand: Demand,
    /// The job that it runs again.
    pub replay_of: Option<JobId>,
    /// When it is created.
    pub created_at: Timestamp,
}

impl JobRecord {
    /// A new job, queued, with its first event.
    #[must_use]
    pub fn create(new: NewJob) -> Change {
        let record = Self {
            version: RECORD_VERSION,
            id: new.id,
            tenant: new.tenant,
            spec: new.spec,
            inputs: new.inputs,
            demand: new.demand,
            replay_of: new.replay_of,
            state: JobState::Queued,
            letting_go: None,
            revision: 1,
            next_event: 1,
            token: 0,
            attempt: None,
            failed_attempts: 0,
            failures: BTreeMap::new(),
            used: Used::default(),
            deaths: 0,
            not_before: None,
            checkpoint: None,
            result: None,
            failure: None,
            engine: None,
            exact: true,
            created_at: new.created_at,
            updated_at: new.created_at,
            finished_at: None,
        };
        let event = Event {
            position: 0,
            at: new.created_at,
            token: 0,
            body: EventBody::Queued {},
        };
        Change::new(record, vec![event], None)
    }

    /// How many milliseconds the present attempt may run, and which limit it is that ends it.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float beyond the range becomes its end, and no cost is so exact"
    )]
    pub fn limit(&self) -> Option<(u64, Limit)> {
        let resources = &self.spec.resources;
        let by_time = resources.max_time.map(|max| {
            let left_ms = max.0.saturating_sub(self.used.run_ms);
            (left_ms, Limit::Time(max))
        });
        let price = self.attempt.as_ref().map_or(0.0, |attempt| {
            attempt.price_per_device_hour * f64::from(self.demand.devices)
        });
        let by_cost = resources.max_cost.filter(|_| price > 0.0).map(|max| {
            let left = (max - self.used.cost).max(0.0);
            ((left / price * MS_PER_HOUR) as u64, Limit::Cost(max))
        });
        by_time.into_iter().chain(by_cost).min_by_key(|(ms, _)| *ms)
    }

    /// The pool it is to run in.
    #[must_use]
    pub const fn pool(&self) -> &PoolName {
        &self.spec.resources.pool
    }
}
