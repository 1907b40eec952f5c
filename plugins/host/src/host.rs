//! The engine of a process, and its clock.

use crate::artifact::{self, ArtifactKey};
use crate::config::{Config, RunLimits};
use crate::engine::{engine_hash, run_engine};
use crate::error::LoadError;
use crate::load::load_component;
use crate::plugin::Plugin;
use crate::sandbox::Pacing;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::Engine;

/// Runs plugins. One a process is enough; plugins and instances may be used from any thread, and
/// must not outlive it: without its ticker no deadline is kept.
pub struct Host {
    engine: Engine,
    hash: blake3::Hash,
    limits: RunLimits,
    _ticker: Ticker,
}

impl Host {
    /// Starts the engine and the thread that keeps deadlines.
    ///
    /// # Errors
    /// If the engine can't be had on this machine, or no thread can be started.
    pub fn new(config: Config) -> Result<Self, LoadError> {
        let engine = run_engine(&config.run).map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        let ticker = Ticker::start(engine.clone(), config.run.epoch_tick)
            .map_err(|e| LoadError::Engine(e.to_string()))?;
        let hash = engine_hash(&engine);
        Ok(Self {
            engine,
            hash,
            limits: config.run,
            _ticker: ticker,
        })
    }

    /// Names what machine code this host can run: engine build, configuration and features of the
    /// CPU. 64 hexadecimal digits.
    #[must_use]
    pub fn engine_hash(&self) -> String {
        self.hash.to_hex().to_string()
    }

    /// Opens what [`Compiler::compile`](crate::Compiler::compile) sealed with the same key.
    ///
    /// # Errors
    /// [`LoadError`]: not an artifact, of another engine, or not sealed with this key.
    pub fn load(&self, artifact: &[u8], key: &ArtifactKey) -> Result<Plugin, LoadError> {
        let opened = artifact::open(artifact, self.hash, key)?;
        let component = load_component(&self.engine, &opened)
            .map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        Plugin::link(&component, opened.role, &self.limits, Pacing::Epoch)
            .map_err(|e| LoadError::Engine(format!("{e:#}")))
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("engine_hash", &self.engine_hash())
            .finish_non_exhaustive()
    }
}

/// Advances the engine's clock until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine, tick: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let run = move || {
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(run)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can't panic: it only waits and counts.
            let _ = thread.join();
        }
    }
}
