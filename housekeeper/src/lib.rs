//! Keeps the store and the object storage tidy: moves the metric points of ended jobs to files,
//! removes what the policy doesn't keep, and collects objects that nothing names.
//!
//! Every task looks at what is there and can be cut off anywhere: the next sweep does the rest.
//! Several processes may sweep at a time; they do the same twice, and nothing wrong.

mod config;
mod garbage;
mod points;
mod removal;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use stoker_domain::Clock;
use stoker_domain::port::{Catalog, JobStore, StoreError, Telemetry};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use config::{Config, Keep};
pub use removal::delete_job;

/// What housekeeping needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The truth about jobs.
    pub jobs: Arc<dyn JobStore>,
    /// Data sets, plugins, audit entries, usage.
    pub catalog: Arc<dyn Catalog>,
    /// Metric points.
    pub telemetry: Arc<dyn Telemetry>,
    /// Object storage.
    pub objects: Arc<dyn ObjectStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a task couldn't be finished.
#[derive(Debug, thiserror::Error)]
pub enum HousekeepingError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Object storage.
    #[error("object storage: {0}")]
    Objects(#[from] object_store::Error),
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs whose metric points were moved to files.
    pub compacted: u64,
    /// Jobs, audit entries and usage records that were kept long enough.
    pub expired: u64,
    /// Objects that nothing named.
    pub collected: u64,
}

/// Sweeps until `stop` turns true.
pub async fn run(config: Config, ports: Ports, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from(config.every).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collected: Option<Instant> = None;
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        let every = Duration::from(config.collect_every);
        let collect = collected.is_none_or(|last| last.elapsed() >= every);
        if collect {
            collected = Some(Instant::now());
        }
        tokio::select! {
            swept = sweep(&config, &ports, collect) => tell(&swept),
            _ = stop.changed() => break,
        }
    }
}

fn tell((swept, errors): &(Swept, Vec<HousekeepingError>)) {
    for error in errors {
        tracing::warn!(%error, "housekeeping will try again");
    }
    if *swept != Swept::default() {
        let Swept {
            compacted,
            expired,
            collected,
        } = swept;
        tracing::info!(compacted, expired, collected, "housekeeping");
    }
}

/// One sweep: every task, whatever becomes of the others. Objects are collected only where
/// `collect` says so: that looks at all of them.
pub async fn sweep(
    config: &Config,
    ports: &Ports,
    collect: bool,
) -> (Swept, Vec<HousekeepingError>) {
    let (mut swept, mut errors) = (Swept::default(), Vec::new());
    let mut count = |done: Result<u64, HousekeepingError>| {
        done.unwrap_or_else(|error| {
            errors.push(error);
            0
        })
    };
    swept.compacted = count(points::compact(config, ports).await);
    swept.expired = count(retention::expire_jobs(config, ports).await)
        + count(retention::expire_entries(config, ports).await);
    if collect {
        swept.collected = count(garbage::collect_jobs(config, ports).await)
            + count(garbage::collect_inputs(config, ports).await)
            + count(garbage::collect_uploads(ports).await);
    }
    (swept, errors)
}
