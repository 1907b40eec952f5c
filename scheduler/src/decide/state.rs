//! What the scheduler knows of its pool.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::job::{EngineIdentity, JobRecord, JobState};
use stoker_domain::port::LeaseView;
use stoker_domain::spec::Priority;
use stoker_domain::worker::WorkerRecord;
use stoker_domain::{JobId, Timestamp, WorkerId};

use super::Now;

/// What the scheduler knows of its pool. Rebuilt from the store by [`State::reconcile`]; nothing in
/// it outlives a take-over.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Queued jobs in the order in which they are to start. Ids sort by creation.
    pub(super) queue: BTreeSet<(Reverse<Priority>, JobId)>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Since when the store was seen without a gap.
    seen_since_ms: u64,
    last_seen_ms: Option<u64>,
    load: BTreeMap<WorkerId, u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) priority: Priority,
    pub(super) engine: Option<EngineIdentity>,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Queued {
        not_before: Option<Timestamp>,
        since: Timestamp,
    },
    Leased {
        worker: WorkerId,
        incarnation: String,
        token: u64,
        renewals: u64,
        /// When the lease was last seen to change.
        seen_at_ms: u64,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) incarnation: String,
    pub(super) engine: EngineIdentity,
    pub(super) slots: u32,
    pub(super) draining: bool,
    beats: u64,
    /// When a heartbeat was last seen.
    pub(super) seen_at_ms: u64,
}

impl State {
    /// For how long something that last changed at `seen_at_ms` was watched without change: time in
    /// which the store couldn't be seen doesn't count.
    pub(super) fn watched_ms(&self, seen_at_ms: u64, now: Now) -> u64 {
        let until = self
            .last_seen_ms
            .unwrap_or(now.monotonic_ms)
            .min(now.monotonic_ms);
        until.saturating_sub(seen_at_ms.max(self.seen_since_ms))
    }

    /// Leases that a worker holds.
    pub(super) fn load(&self, worker: &WorkerId) -> u32 {
        self.load.get(worker).copied().unwrap_or(0)
    }

    /// Jobs waiting for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// One job was read from the store, or written to it.
    pub fn observe_job(&mut self, record: &JobRecord, now: Now) {
        let before = self.forget_job(record.id);
        let phase = match (&record.state, &record.attempt) {
            (JobState::Queued, _) => Phase::Queued {
                not_before: record.not_before,
                since: record.updated_at,
            },
            (state, Some(attempt)) if state.is_leased() => {
                let (renewals, seen_at_ms) = match before.map(|job| job.phase) {
                    Some(Phase::Leased {
                        token,
                        renewals,
                        seen_at_ms,
                        ..
                    }) if token == attempt.token => (renewals, seen_at_ms),
                    _ => (0, now.monotonic_ms),
                };
                Phase::Leased {
                    worker: attempt.worker.clone(),
                    incarnation: attempt.incarnation.clone(),
                    token: attempt.token,
                    renewals,
                    seen_at_ms,
                }
            }
            _ => return,
        };
        let job = Job {
            priority: record.spec.priority,
            engine: record.engine.clone(),
            phase,
        };
        match &job.phase {
            Phase::Queued { .. } => {
                self.queue.insert((Reverse(job.priority), record.id));
            }
            Phase::Leased { worker, .. } => *self.load.entry(worker.clone()).or_default() += 1,
        }
        self.jobs.insert(record.id, job);
    }

    /// A job isn't there any more.
    pub fn observe_gone(&mut self, id: JobId) {
        self.forget_job(id);
    }

    /// A worker isn't there any more.
    pub fn observe_worker_gone(&mut self, id: &WorkerId) {
        self.workers.remove(id);
    }

    /// The whole pool was read from the store, which began at `now`. `gap_ms` is the longest time
    /// between two readings that still counts as seeing without a gap.
    pub fn reconcile(
        &mut self,
        jobs: &[JobRecord],
        leases: &[LeaseView],
        workers: &[WorkerRecord],
        gap_ms: u64,
        now: Now,
    ) {
        let unbroken = self
            .last_seen_ms
            .is_some_and(|last| now.monotonic_ms.saturating_sub(last) <= gap_ms);
        if !unbroken {
            self.seen_since_ms = now.monotonic_ms;
        }
        self.last_seen_ms = Some(now.monotonic_ms);
        let there: BTreeSet<JobId> = jobs.iter().map(|record| record.id).collect();
        let gone: Vec<JobId> = self
            .jobs
            .keys()
            .filter(|id| !there.contains(id))
            .copied()
            .collect();
        gone.into_iter().for_each(|id| self.observe_gone(id));
        jobs.iter().for_each(|record| self.observe_job(record, now));
        leases
            .iter()
            .for_each(|lease| self.observe_lease(lease, now));
        self.observe_workers(workers, now);
    }

    fn observe_lease(&mut self, lease: &LeaseView, now: Now) {
        let Some(Job {
            phase:
                Phase::Leased {
                    token,
                    renewals,
                    seen_at_ms,
                    ..
                },
            ..
        }) = self.jobs.get_mut(&lease.job)
        else {
            return;
        };
        if *token == lease.token && *renewals != lease.renewals {
            *renewals = lease.renewals;
            *seen_at_ms = now.monotonic_ms;
        }
    }

    fn observe_workers(&mut self, records: &[WorkerRecord], now: Now) {
        let mut before = std::mem::take(&mut self.workers);
        for record in records {
            let unchanged = before.remove(&record.id).filter(|known| {
                known.incarnation == record.incarnation && known.beats == record.beats
            });
            let seen_at_ms = unchanged.map_or(now.monotonic_ms, |known| known.seen_at_ms);
            let worker = Worker {
                incarnation: record.incarnation.clone(),
                engine: record.engine.clone(),
                slots: record.slots,
                draining: record.draining,
                beats: record.beats,
                seen_at_ms,
            };
            self.workers.insert(record.id.clone(), worker);
        }
    }

    fn forget_job(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        match &job.phase {
            Phase::Queued { .. } => {
                self.queue.remove(&(Reverse(job.priority), id));
            }
            Phase::Leased { worker, .. } => {
                let left = self.load(worker).saturating_sub(1);
                self.load.insert(worker.clone(), left);
                self.load.retain(|_, count| *count > 0);
            }
        }
        Some(job)
    }
}
