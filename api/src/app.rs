//! What requests share: the ports, the configuration, and a few bounded counters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use object_store::ObjectStore;
use object_store::signer::Signer;
use stoker_domain::Clock;
use stoker_domain::port::{
    Catalog, Explainer, JobStore, KeySource, PluginCompiler, Predictor, Relay, Sources, Telemetry,
    Vault,
};
use tokio::sync::Semaphore;

use crate::auth::{SigningKey, Verifier};
use crate::config::Config;
use crate::rate::Rate;

/// The ports that the API stands on.
#[derive(Clone)]
pub struct Ports {
    /// Jobs.
    pub jobs: Arc<dyn JobStore>,
    /// Data sets, plugins, tokens.
    pub catalog: Arc<dyn Catalog>,
    /// Metric points.
    pub telemetry: Arc<dyn Telemetry>,
    /// Bytes.
    pub objects: Arc<dyn ObjectStore>,
    /// Makes presigned URLs, where the object storage can.
    pub signer: Option<Arc<dyn Signer>>,
    /// Screens and compiles plugins.
    pub compiler: Arc<dyn PluginCompiler>,
    /// Predicts with finished models.
    pub predictor: Arc<dyn Predictor>,
    /// Says why jobs wait.
    pub explainer: Arc<dyn Explainer>,
    /// Where data sets are fetched from.
    pub sources: Arc<dyn Sources>,
    /// Seals tenants' secrets.
    pub vault: Arc<dyn Vault>,
    /// Publishes what was written.
    pub relay: Arc<dyn Relay>,
    /// Where the keys of another issuer are, where tokens of one are accepted.
    pub keys: Option<Arc<dyn KeySource>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What requests share. Handlers get at it through [`crate::extract::Authorized`] only.
pub(crate) struct App {
    pub(crate) ports: Ports,
    pub(crate) config: Config,
    pub(crate) verifier: Verifier,
    pub(crate) signing_key: Option<Arc<SigningKey>>,
    pub(crate) rate: Rate,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) predictions: Arc<Semaphore>,
    pub(crate) explanations: Arc<Semaphore>,
    pub(crate) log_lines: LineCounts,
}

/// Lines of log chunks that were read before, so that a page far into a log doesn't read all that
/// is before it. A chunk that grew has another size and is counted anew.
#[derive(Default)]
pub(crate) struct LineCounts(Mutex<HashMap<(String, u64), u64>>);

impl LineCounts {
    const ENTRIES_MAX: usize = 50_000;

    pub(crate) fn get(&self, chunk: &str, size_bytes: u64) -> Option<u64> {
        let counts = self.0.lock().ok()?;
        counts.get(&(chunk.to_owned(), size_bytes)).copied()
    }

    pub(crate) fn put(&self, chunk: &str, size_bytes: u64, lines: u64) {
        if let Ok(mut counts) = self.0.lock() {
            if counts.len() >= Self::ENTRIES_MAX {
                counts.clear();
            }
            counts.insert((chunk.to_owned(), size_bytes), lines);
        }
    }
}
