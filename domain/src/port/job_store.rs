//! The truth about jobs: records, events, leases, outbox, leadership and workers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Document, Message, QueueName, StoreError};
use crate::id::{JobId, PoolName, TenantId, WorkerId};
use crate::job::{Change, Event, JobRecord, JobState, Transition, TransitionError};
use crate::time::Timestamp;
use crate::worker::{Progress, WorkerRecord};

/// What makes a submit exactly-once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key, unique in the tenant.
    pub key: String,
    /// BLAKE3 of the request's body.
    pub body_blake3: String,
    /// The answer to give, now and to every repeat.
    pub answer: String,
}

/// What became of a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// The job was written.
    Created,
    /// The same request was answered before, with this.
    Replayed {
        /// The first answer.
        answer: String,
    },
    /// The key was used before with another body.
    Mismatch,
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Written.
    Written,
    /// Another write came first, or the job is gone: read again.
    Conflict,
    /// The writer isn't the pool's leader any more.
    Fenced,
}

/// Proof of leadership, checked inside the write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The pool.
    pub pool: PoolName,
    /// The epoch under which the writer leads.
    pub epoch: u64,
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// In this project.
    pub project: Option<String>,
    /// In one of these projects; in any when absent.
    pub visible: Option<Vec<String>>,
    /// With this name.
    pub name: Option<String>,
    /// With all of these tags.
    pub tags: BTreeMap<String, String>,
}

impl JobFilter {
    /// Whether the list shows this job.
    #[must_use]
    pub fn matches(&self, record: &JobRecord) -> bool {
        self.state.is_none_or(|state| record.state == state)
            && self
                .visible
                .as_ref()
                .is_none_or(|visible| visible.contains(&record.spec.project))
            && self
                .project
                .as_ref()
                .is_none_or(|project| record.spec.project == *project)
            && self
                .name
                .as_ref()
                .is_none_or(|name| record.spec.name == *name)
            && self
                .tags
                .iter()
                .all(|(key, value)| record.spec.tags.get(key) == Some(value))
    }
}

/// Jobs, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins; absent on the last.
    pub next: Option<JobId>,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The lease holds, and the job is in this state (`pausing` asks the worker to let go).
    Held(JobState),
    /// The lease is gone: stop at once, write nothing.
    Stale,
}

/// A lease, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseView {
    /// The job.
    pub job: JobId,
    /// The token of the last renewal.
    pub token: u64,
    /// Renewals so far. The scheduler watches it change, so that no clocks are compared.
    pub renewals: u64,
    /// How far the attempt is.
    pub progress: Progress,
}

/// A message that was written with a change and is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// `<job>:<revision>:<index>`: known before it is written.
    pub id: String,
    /// Where to.
    pub queue: QueueName,
    /// What.
    pub message: Message,
}

impl Change {
    /// The outbox entries that are written with this change.
    #[must_use]
    pub fn outbox(&self) -> Vec<OutboxEntry> {
        let (job, revision) = (self.record.id, self.record.revision);
        let entry = |(index, (queue, message)): (usize, &(QueueName, Message))| OutboxEntry {
            id: format!("{job}:{revision}:{index}"),
            queue: queue.clone(),
            message: message.clone(),
        };
        self.messages.iter().enumerate().map(entry).collect()
    }
}

/// The truth about jobs. The record's `revision` orders writes, its `token` fences workers, the
/// pool's epoch fences schedulers.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Writes a new job with its event, outbox entries, documents and idempotency record in one atomic
    /// step; nothing when the key was used before. Keys are remembered for at least 24 hours.
    async fn create_job(
        &self,
        change: &Change,
        idempotency: &Idempotency,
    ) -> Result<Creation, StoreError>;

    /// The answer to an earlier submit with this key, as [`JobStore::create_job`] would give it.
    async fn replayed(
        &self,
        tenant: &TenantId,
        key: &str,
        body_blake3: &str,
    ) -> Result<Option<Creation>, StoreError>;

    /// The job's record, whoever owns it.
    async fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError>;

    /// Writes a change with its events, outbox entries and documents in one atomic step, when the stored
    /// revision is the one before the change's and the guard, if any, still holds. A record whose
    /// state holds no lease has its lease removed in the same step.
    async fn update_job(
        &self,
        change: &Change,
        guard: Option<&Guard>,
    ) -> Result<Update, StoreError>;

    /// A tenant's jobs, newest first, from after `after`; at most `limit`.
    async fn list_jobs(
        &self,
        tenant: &TenantId,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<JobPage, StoreError>;

    /// Tenants that have jobs, or had some.
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError>;

    /// The pool's jobs that are queued or hold a lease, oldest first.
    async fn active_jobs(&self, pool: &PoolName) -> Result<Vec<JobRecord>, StoreError>;

    /// A job's events from position `from` on; at most `limit`.
    async fn events(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Removes a job with its events, lease and outbox entries, and writes `also` in the same step.
    /// `false` when there was none; then nothing is written.
    async fn delete_job(&self, id: JobId, also: &[Document]) -> Result<bool, StoreError>;

    /// Renews the lease under `token`, and stores how far the attempt is.
    async fn renew_lease(
        &self,
        id: JobId,
        token: u64,
        progress: &Progress,
    ) -> Result<LeaseAnswer, StoreError>;

    /// All leases of the pool that were renewed at least once.
    async fn leases(&self, pool: &PoolName) -> Result<Vec<LeaseView>, StoreError>;

    /// How far the job's present attempt is.
    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError>;

    /// Entries that wait to be published, oldest first; at most `limit`.
    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Removes published entries.
    async fn outbox_done(&self, ids: &[String]) -> Result<(), StoreError>;

    /// Takes or keeps the pool's leadership for `ttl_ms`, by the store's clock. `Some(epoch)` when
    /// `candidate` leads; the epoch grows by each change of leader.
    async fn lead(
        &self,
        pool: &PoolName,
        candidate: &str,
        ttl_ms: u64,
    ) -> Result<Option<u64>, StoreError>;

    /// Gives leadership up, if `candidate` has it.
    async fn resign(&self, pool: &PoolName, candidate: &str) -> Result<(), StoreError>;

    /// Registers a worker or stores its heartbeat.
    async fn put_worker(&self, worker: &WorkerRecord) -> Result<(), StoreError>;

    /// The pool's workers.
    async fn workers(&self, pool: &PoolName) -> Result<Vec<WorkerRecord>, StoreError>;

    /// Removes a worker, if it is still in that life.
    async fn remove_worker(
        &self,
        pool: &PoolName,
        id: &WorkerId,
        incarnation: &str,
    ) -> Result<(), StoreError>;
}

/// Why a transition wasn't written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionFailed {
    /// There is no such job.
    #[error("there is no such job")]
    Gone,
    /// The state machine refused it.
    #[error(transparent)]
    Refused(#[from] TransitionError),
    /// The writer isn't the pool's leader any more.
    #[error("another scheduler leads the pool")]
    Fenced,
    /// The store couldn't answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a job, applies `transition`, and writes it, again from the start when another write came
/// between.
///
/// # Errors
/// [`TransitionFailed`]; nothing was written, except that after [`StoreError::Unavailable`] the
/// outcome is unknown.
pub async fn transition(
    store: &dyn JobStore,
    id: JobId,
    transition: &Transition,
    guard: Option<&Guard>,
    now: Timestamp,
) -> Result<Change, TransitionFailed> {
    transition_with(store, id, transition, guard, now, |_, _| None).await
}

/// The same, with a document that tells of it: `also` gets the record before and after.
///
/// # Errors
/// As [`transition`].
pub async fn transition_with(
    store: &dyn JobStore,
    id: JobId,
    transition: &Transition,
    guard: Option<&Guard>,
    now: Timestamp,
    also: impl Fn(&JobRecord, &JobRecord) -> Option<Document>,
) -> Result<Change, TransitionFailed> {
    loop {
        let record = store.job(id).await?.ok_or(TransitionFailed::Gone)?;
        let mut change = record.apply(transition.clone(), now)?;
        change.documents.extend(also(&record, &change.record));
        match store.update_job(&change, guard).await? {
            Update::Written => return Ok(change),
            Update::Conflict => {}
            Update::Fenced => return Err(TransitionFailed::Fenced),
        }
    }
}
