//! The decisions: first in, first out within a priority class; one job per slot; a lease that its
//! holder doesn't renew is lost.
//!
//! No I/O, no clock, no randomness. The state is what the store said, plus when the scheduler saw
//! each lease and heartbeat change: it compares what it saw, never a worker's clock with its own.

mod state;

use std::collections::BTreeMap;

use stoker_domain::job::Holder;
use stoker_domain::{JobId, Timestamp, WorkerId};

pub use state::State;
use state::{Phase, Worker};

use crate::Config;

/// The time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, for what users see.
    pub wall: Timestamp,
    /// Milliseconds on a clock that never goes back, for time-outs.
    pub monotonic_ms: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Give a queued job to a worker.
    Dispatch {
        /// The job.
        job: JobId,
        /// The worker.
        holder: Holder,
    },
    /// End a lease whose holder is gone.
    LoseLease {
        /// The job.
        job: JobId,
        /// The lost token.
        token: u64,
        /// How it was seen.
        reason: Lost,
    },
    /// Remove a worker that has been silent for a whole lease.
    ForgetWorker {
        /// The worker.
        worker: WorkerId,
        /// Which life of it.
        incarnation: String,
    },
}

/// How a lease was seen to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Not renewed for the whole of its time.
    #[error("its worker stopped renewing the lease")]
    Silent,
    /// The worker has started anew.
    #[error("its worker was restarted")]
    Restarted,
}

/// What is to be done now. Lost leases come first, so that their slots aren't counted as taken in
/// the next decision.
#[must_use]
pub fn decide(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let mut actions = lose_leases(state, config, now);
    actions.extend(forget_workers(state, config, now));
    actions.extend(dispatch(state, config, now));
    actions
}

fn lose_leases(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let ttl_ms = millis(config.lease_ttl);
    let lost = state.jobs.iter().filter_map(|(&job, known)| {
        let Phase::Leased {
            worker,
            incarnation,
            token,
            seen_at_ms,
            ..
        } = &known.phase
        else {
            return None;
        };
        let registered = state.workers.get(worker);
        let restarted = registered.is_some_and(|worker| worker.incarnation != *incarnation);
        let reason = if restarted {
            Lost::Restarted
        } else if state.watched_ms(*seen_at_ms, now) >= ttl_ms {
            Lost::Silent
        } else {
            return None;
        };
        Some(Action::LoseLease {
            job,
            token: *token,
            reason,
        })
    });
    lost.collect()
}

fn forget_workers(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let ttl_ms = millis(config.lease_ttl);
    let silent = state.workers.iter().filter(|(id, worker)| {
        state.watched_ms(worker.seen_at_ms, now) >= ttl_ms && state.load(id) == 0
    });
    silent
        .map(|(id, worker)| Action::ForgetWorker {
            worker: id.clone(),
            incarnation: worker.incarnation.clone(),
        })
        .collect()
}

fn dispatch(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let mut free = free_slots(state, config, now);
    let mut actions = Vec::new();
    for &(_, job) in &state.queue {
        if free.is_empty() {
            break;
        }
        let Some(known) = state.jobs.get(&job) else {
            continue;
        };
        let Phase::Queued { not_before, since } = &known.phase else {
            continue;
        };
        if not_before.is_some_and(|at| at > now.wall) {
            continue;
        }
        let may_move = now.wall.millis_since(*since) >= millis(config.upgrade_grace);
        let fits = |worker: &Worker| {
            may_move
                || known
                    .engine
                    .as_ref()
                    .is_none_or(|engine| *engine == worker.engine)
        };
        let most_free = free
            .iter()
            .filter(|(id, _)| state.workers.get(*id).is_some_and(fits))
            .max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)))
            .map(|(id, _)| id.clone());
        let Some(id) = most_free else { continue };
        let Some(worker) = state.workers.get(&id) else {
            continue;
        };
        actions.push(Action::Dispatch {
            job,
            holder: Holder {
                worker: id.clone(),
                incarnation: worker.incarnation.clone(),
                engine: worker.engine.clone(),
                price_per_device_hour: 0.0,
            },
        });
        free.entry(id).and_modify(|slots| *slots -= 1);
        free.retain(|_, slots| *slots > 0);
    }
    actions
}

/// Slots by worker, of those workers that may get a job.
fn free_slots(state: &State, config: &Config, now: Now) -> BTreeMap<WorkerId, u32> {
    let silence_ms = millis(config.worker_silence);
    let able = state.workers.iter().filter(|(_, worker)| {
        !worker.draining && state.watched_ms(worker.seen_at_ms, now) < silence_ms
    });
    able.map(|(id, worker)| (id.clone(), worker.slots.saturating_sub(state.load(id))))
        .filter(|(_, slots)| *slots > 0)
        .collect()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
