//! The scheduler's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;

/// The scheduler's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two reconciliations with the store, and two renewals of leadership.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// How long leadership lasts without renewal, by the store's clock.
    #[serde(with = "humantime_serde")]
    pub leader_ttl: Duration,
    /// How long a lease may go unrenewed, in time during which the scheduler itself saw the store
    /// without a gap.
    #[serde(with = "humantime_serde")]
    pub lease_ttl: Duration,
    /// How long a worker may miss its heartbeats before it gets no more jobs.
    #[serde(with = "humantime_serde")]
    pub worker_silence: Duration,
    /// How long a job that began on an engine build and device class waits for the same, before it
    /// goes on elsewhere and loses its promise of exactness.
    #[serde(with = "humantime_serde")]
    pub upgrade_grace: Duration,
    /// How long places that were freed for a job are kept for it. Whoever frees them saves a
    /// checkpoint in that time.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    /// Jobs of a pool that are being preempted at a time, at most. A job that needs more to let go at
    /// once preempts none.
    pub preemptions_max: u32,
    /// Queued jobs that one decision looks at without being able to start them.
    pub backfill_depth: u32,
    /// Jobs that one decision starts at most; another decision follows at once.
    pub dispatches_max: u32,
    /// Queued and running jobs up to which it is said when a job will start.
    pub forecast_jobs: u32,
    /// Moments that one look ahead goes through. Where they don't suffice, nothing is said.
    pub forecast_steps: u32,
    /// Time between two writings of what tenants have used.
    #[serde(with = "humantime_serde")]
    pub usage_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            leader_ttl: Duration::from_secs(3),
            lease_ttl: Duration::from_secs(15),
            worker_silence: Duration::from_secs(6),
            upgrade_grace: Duration::from_secs(600),
            hold: Duration::from_secs(60),
            preemptions_max: 64,
            backfill_depth: 256,
            dispatches_max: 64,
            forecast_jobs: 2_000,
            forecast_steps: 1_000,
            usage_interval: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut at_least = |field: &str, value: Duration, least: Duration| {
            if value < least {
                errors.push(FieldError::new(
                    field,
                    format!("{value:?} given, at least {least:?} needed"),
                ));
            }
        };
        at_least("tick", self.tick, Duration::from_millis(10));
        at_least("leader_ttl", self.leader_ttl, self.tick * 2);
        at_least("lease_ttl", self.lease_ttl, self.tick * 3);
        at_least("worker_silence", self.worker_silence, self.tick * 2);
        at_least("hold", self.hold, self.tick);
        at_least("usage_interval", self.usage_interval, self.tick);
        for (field, value) in [
            ("preemptions_max", self.preemptions_max),
            ("backfill_depth", self.backfill_depth),
            ("dispatches_max", self.dispatches_max),
        ] {
            if value == 0 {
                errors.push(FieldError::new(field, "0 given, at least 1 needed"));
            }
        }
        errors
    }
}
