//! The ports: what the parts need of the world, without saying whose.
//!
//! Each has an embedded adapter and one over a server, in `infra/adapters`; `testkit` holds the
//! suite that both pass. Every operation is idempotent or says otherwise: after a time-out its
//! outcome is unknown, and the caller repeats it.

mod catalog;
mod explainer;
mod job_store;
mod key_source;
mod plugin_compiler;
mod predictor;
mod relay;
mod sources;
mod telemetry;
mod vault;
mod work_queue;

pub use catalog::{Catalog, CatalogKind, Document, Entry, Expect, PLATFORM, Put, Submission};
pub use explainer::Explainer;
pub use job_store::{
    Creation, Guard, Idempotency, JobFilter, JobPage, JobStore, LeaseAnswer, LeaseView,
    OutboxEntry, TransitionFailed, Update, transition, transition_with,
};
pub use key_source::{KeySource, KeySourceError};
pub use plugin_compiler::{CompileError, CompiledPlugin, PluginCompiler};
pub use predictor::{PredictError, Predictor};
pub use relay::Relay;
pub use sources::{OpenSource, SourceError, SourceRequest, Sources};
pub use telemetry::{Point, PointStore, SAMPLE_MIN, Sample, StoredPoint, Telemetry};
pub use vault::{Vault, VaultError};
pub use work_queue::{
    Acknowledge, Deliveries, Delivery, Message, QueueError, QueueName, WorkQueue,
};

/// Why a store couldn't answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or didn't answer in time. The outcome of a write is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What it holds can't be read.
    #[error("the store holds what this version can't read: {0}")]
    Corrupt(String),
}
