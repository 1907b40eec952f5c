//! An instance of a preprocess plugin.

use crate::batch::Batch;
use crate::bindings::preprocess::{PreprocessPlugin, PreprocessPluginPre};
use crate::error::{PluginError, PluginErrorKind};
use crate::meter::Usage;
use crate::sandbox::{INSTANTIATE, Sandbox, State};
use wasmtime::component::ResourceAny;

/// A configured transformation of batches.
pub struct Preprocess {
    sandbox: Sandbox,
    plugin: PreprocessPlugin,
    transform: ResourceAny,
}

impl Preprocess {
    pub(crate) fn create(
        mut sandbox: Sandbox,
        pre: &PreprocessPluginPre<State>,
        config: &str,
    ) -> Result<Self, PluginError> {
        let plugin = sandbox.call(INSTANTIATE, |store| pre.instantiate(store))?;
        let transform = sandbox.try_call("create", |store| {
            plugin
                .stoker_plugin_preprocess()
                .transform()
                .call_create(store, config)
        })?;
        Ok(Self {
            sandbox,
            plugin,
            transform,
        })
    }

    /// Transforms one virtual shard: real rows only. The result has as many rows, and is a function
    /// of the configuration, `batch` and `seed` alone.
    ///
    /// # Errors
    /// [`PluginError`]. After the plugin's own errors (`InvalidConfig`, `InvalidBatch`, `Failed`) the
    /// instance may be used again; after all others it refuses.
    pub fn run(&mut self, batch: Batch, seed: u64) -> Result<Batch, PluginError> {
        let told = |kind, message| PluginError {
            kind,
            call: "run",
            message,
        };
        batch
            .check()
            .map_err(|why| told(PluginErrorKind::InvalidBatch, why))?;
        let rows = batch.rows;
        let batch = batch.into();
        let transform = self.plugin.stoker_plugin_preprocess().transform();
        let result: Batch = self
            .sandbox
            .try_call("run", |store| {
                transform.call_run(store, self.transform, &batch, seed)
            })?
            .into();
        if result.rows != rows {
            let message = format!("gave back {} rows for {rows}", result.rows);
            return Err(told(PluginErrorKind::Output, message));
        }
        result
            .check()
            .map_err(|why| told(PluginErrorKind::Output, why))?;
        Ok(result)
    }

    /// What this instance has used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.sandbox.usage()
    }

    pub(crate) fn fuel_used(&self) -> u64 {
        self.sandbox.fuel_used()
    }
}

impl std::fmt::Debug for Preprocess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preprocess")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
