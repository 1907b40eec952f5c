//! What a worker needs of the world.

use std::sync::Arc;

use object_store::ObjectStore;
use stoker_domain::Clock;
use stoker_domain::port::{Catalog, JobStore, Relay, Telemetry, WorkQueue};

/// What a worker needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The truth about jobs.
    pub jobs: Arc<dyn JobStore>,
    /// Where it is told what to run.
    pub queue: Arc<dyn WorkQueue>,
    /// Records of data sets.
    pub catalog: Arc<dyn Catalog>,
    /// Takes metric points.
    pub telemetry: Arc<dyn Telemetry>,
    /// Publishes what was written.
    pub relay: Arc<dyn Relay>,
    /// Data, plugins, checkpoints, artifacts, logs.
    pub objects: Arc<dyn ObjectStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
