//! A job, as the decisions see it.

use stoker_domain::job::{Demand, JobRecord, LetGo};
use stoker_domain::spec::Priority;
use stoker_domain::{Timestamp, WorkerId};

use super::Now;

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) revision: u64,
    /// Place of its tenant in [`super::share::Tenants`].
    pub(super) tenant: u32,
    pub(super) priority: Priority,
    /// Place of the engine that it began on in [`super::fleet::Fleet`].
    pub(super) engine: Option<u32>,
    pub(super) demand: Demand,
    /// `resources.max_time`: no run is longer, all attempts together.
    pub(super) max_ms: Option<u64>,
    /// What its ended attempts have run.
    pub(super) used_ms: u64,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Queued {
        not_before: Option<Timestamp>,
        since: Timestamp,
    },
    Leased(Box<Lease>),
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) ranks: Vec<Rank>,
    pub(super) token: u64,
    pub(super) renewals: u64,
    /// When the lease was last seen to change.
    pub(super) seen_at_ms: u64,
    /// When the attempt was first seen.
    pub(super) leased_ms: u64,
    /// When the attempt began, on the monotonic clock; it may be before that clock's start.
    pub(super) began_ms: Option<i64>,
    pub(super) letting_go: Option<LetGo>,
    /// Since when it does, where its beginning was seen.
    pub(super) letting_go_ms: Option<u64>,
    /// When the attempt says that it ends, on the monotonic clock.
    pub(super) says_end_ms: Option<u64>,
}

/// One worker of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) worker: WorkerId,
    pub(super) incarnation: String,
}

impl Job {
    pub(super) fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Leased(lease) => Some(lease),
            Phase::Queued { .. } => None,
        }
    }

    /// Devices of a run on `workers` workers.
    pub(super) fn devices_on(&self, workers: u32) -> u32 {
        self.demand.devices.saturating_mul(workers)
    }

    /// Devices that it has.
    pub(super) fn devices_held(&self) -> u32 {
        let ranks = self.lease().map_or(0, |lease| lease.ranks.len());
        self.devices_on(u32::try_from(ranks).unwrap_or(u32::MAX))
    }

    /// How much longer it may run at most, from a new attempt's beginning.
    pub(super) fn bound_ms(&self) -> Option<u64> {
        self.max_ms.map(|max| max.saturating_sub(self.used_ms))
    }

    /// How long an attempt on `workers` workers is expected to take, from its beginning. The
    /// expectation is for as many workers as it makes use of.
    pub(super) fn expected_ms(&self, workers: usize) -> Option<u64> {
        let most = u64::from(self.demand.workers_max.max(1));
        let workers = u64::try_from(workers).unwrap_or(1).clamp(1, most);
        let whole = self.demand.expected_ms?.saturating_sub(self.used_ms);
        Some(whole.saturating_mul(most) / workers)
    }

    /// When its run ends at the latest: by its limit, else by what is expected. `None` when nothing
    /// is known; 0 when it lets go.
    pub(super) fn end_ms(&self) -> Option<u64> {
        let lease = self.lease()?;
        if lease.letting_go.is_some() {
            return Some(0);
        }
        let expected = || self.expected_ms(lease.ranks.len());
        let length = self.bound_ms().or_else(expected)?;
        let began = lease.began_ms.unwrap_or_else(|| signed(lease.leased_ms));
        u64::try_from(began.saturating_add(signed(length))).ok()
    }

    /// Numbers of workers that it may run on, the best first: powers of two, then the least.
    pub(super) fn worker_counts(&self) -> impl Iterator<Item = u32> + use<> {
        let least = self.demand.workers_min.max(1);
        let most = self.demand.workers_max.max(least);
        let powers = (0..u32::BITS).rev().map(|bit| 1_u32 << bit);
        let powers = powers.filter(move |count| (least..=most).contains(count));
        powers.chain((!least.is_power_of_two()).then_some(least))
    }
}

/// When the attempt began, on the monotonic clock.
pub(super) fn began_ms(record: &JobRecord, now: Now) -> Option<i64> {
    let started_at = record.attempt.as_ref()?.started_at?;
    let age_ms = now.wall.millis_since(started_at);
    Some(signed(now.monotonic_ms).saturating_sub(signed(age_ms)))
}

pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
