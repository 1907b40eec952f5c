//! The decisions: who starts where, who makes room, and whose lease is lost.
//!
//! No I/O, no clock, no randomness. The state is what the store said, plus when the scheduler saw
//! each lease and heartbeat change: it compares what it saw, never a worker's clock with its own.
//! A slot of a worker is a device. The order is in [`order`], places in [`placement`], what is kept
//! for the first that doesn't fit in [`reservation`], and who makes room in [`preemption`].

mod arrivals;
mod dispatch;
mod explain;
mod fleet;
mod forecast;
mod growth;
mod job;
mod order;
mod placement;
mod preemption;
mod queue;
mod reservation;
mod share;
mod spread;
mod state;

use stoker_domain::job::Holder;
use stoker_domain::{JobId, Timestamp, WorkerId};

pub use explain::explain;
pub use share::{USAGE_VERSION, UsageSnapshot};
pub use state::State;

use job::Job;

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
    /// Give a queued job to its workers, all at once.
    Dispatch {
        /// The job.
        job: JobId,
        /// The workers, one for each rank.
        holders: Vec<Holder>,
    },
    /// Keep places for a job, which the `victims` are asked to free. It concerns the state alone:
    /// [`State::observe_hold`].
    Hold {
        /// The job.
        job: JobId,
        /// Its workers to be.
        workers: Vec<WorkerId>,
        /// When the hold ends, on the monotonic clock.
        until_ms: u64,
        /// Who makes room.
        victims: Vec<JobId>,
    },
    /// Ask an attempt to save a checkpoint and let go; the job is queued again.
    Preempt {
        /// The job.
        job: JobId,
        /// The attempt's token.
        token: u64,
        /// What for.
        reason: String,
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

/// What is to be done now. Lost leases come first, so that their devices aren't counted as taken in
/// the next decision. Once all is carried out and observed there may be more to do: decide again
/// until nothing is left.
#[must_use]
pub fn decide(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let mut actions = lose_leases(state, config, now);
    actions.extend(forget_workers(state, config, now));
    actions.extend(drain(state));
    actions.extend(dispatch::dispatch(state, config, now));
    if actions.is_empty() {
        actions = growth::grow(state, config, now);
    }
    actions
}

fn lose_leases(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let lose = |id: &JobId, reason: Lost| {
        let token = state.jobs.get(id).and_then(Job::lease)?.token;
        Some(Action::LoseLease {
            job: *id,
            token,
            reason,
        })
    };
    let restarted = state.restarted.iter();
    let restarted = restarted.filter_map(|id| lose(id, Lost::Restarted));
    let silent_until = state.unchanged_for(millis(config.lease_ttl), now);
    let silent = silent_until.into_iter().flat_map(|until_ms| {
        let old = state.leases.iter();
        old.take_while(move |(seen_at_ms, _)| *seen_at_ms <= until_ms)
    });
    let silent = silent.filter(|(_, id)| !state.restarted.contains(id));
    restarted
        .chain(silent.filter_map(|(_, id)| lose(id, Lost::Silent)))
        .collect()
}

fn forget_workers(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let silent_until = state.unchanged_for(millis(config.lease_ttl), now);
    let silent = silent_until.into_iter();
    let silent = silent.flat_map(|until_ms| state.fleet.seen_until(until_ms));
    let idle = silent.filter(|id| state.fleet.devices_in_use(id) == 0);
    let forget = |id: &WorkerId| {
        Some(Action::ForgetWorker {
            worker: id.clone(),
            incarnation: state.fleet.workers.get(id)?.incarnation.clone(),
        })
    };
    idle.filter_map(forget).collect()
}

/// What runs on workers that their operators want to be empty goes on elsewhere.
fn drain(state: &State) -> Vec<Action> {
    let mut jobs: Vec<JobId> = (state.fleet.drained())
        .flat_map(|worker| state.fleet.jobs_of(worker))
        .filter(|id| !state.letting_go.contains(id))
        .collect();
    jobs.sort();
    jobs.dedup();
    dispatch::preempts(state, &jobs, "its worker is drained by its operator")
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
