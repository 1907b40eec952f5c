//! An instance of a metric plugin.

use crate::batch::Batch;
use crate::bindings::metric::{MetricPlugin, MetricPluginPre};
use crate::error::{PluginError, PluginErrorKind};
use crate::meter::Usage;
use crate::sandbox::{INSTANTIATE, Sandbox, State};
use wasmtime::component::ResourceAny;

/// What a metric has seen so far. As with [`Preprocess`](crate::Preprocess), the plugin's own errors
/// leave it usable, and all others don't.
pub struct Metric {
    sandbox: Sandbox,
    plugin: MetricPlugin,
    accumulator: ResourceAny,
}

impl Metric {
    pub(crate) fn create(
        mut sandbox: Sandbox,
        pre: &MetricPluginPre<State>,
        config: &str,
    ) -> Result<Self, PluginError> {
        let plugin = sandbox.call(INSTANTIATE, |store| pre.instantiate(store))?;
        let accumulator = sandbox.try_call("create", |store| {
            plugin
                .stoker_plugin_metric()
                .accumulator()
                .call_create(store, config)
        })?;
        Ok(Self {
            sandbox,
            plugin,
            accumulator,
        })
    }

    /// Adds one virtual shard: real rows only, as many of predictions as of targets.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn update(&mut self, predictions: Batch, targets: Batch) -> Result<(), PluginError> {
        let invalid = |message| {
            let kind = PluginErrorKind::InvalidBatch;
            PluginError {
                kind,
                call: "update",
                message,
            }
        };
        predictions
            .check()
            .and_then(|()| targets.check())
            .map_err(invalid)?;
        if predictions.rows != targets.rows {
            let (left, right) = (predictions.rows, targets.rows);
            return Err(invalid(format!(
                "{left} rows of predictions, {right} of targets"
            )));
        }
        let (predictions, targets) = (predictions.into(), targets.into());
        let accumulator = self.plugin.stoker_plugin_metric().accumulator();
        self.sandbox.try_call("update", |store| {
            accumulator.call_update(store, self.accumulator, &predictions, &targets)
        })
    }

    /// The state as bytes, for a checkpoint or for [`Metric::merge`].
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn save(&mut self) -> Result<Vec<u8>, PluginError> {
        let accumulator = self.plugin.stoker_plugin_metric().accumulator();
        self.sandbox.call("save", |store| {
            accumulator.call_save(store, self.accumulator)
        })
    }

    /// Adds a state that [`Metric::save`] gave, under the same plugin version and configuration.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn merge(&mut self, state: &[u8]) -> Result<(), PluginError> {
        let accumulator = self.plugin.stoker_plugin_metric().accumulator();
        self.sandbox.try_call("merge", |store| {
            accumulator.call_merge(store, self.accumulator, state)
        })
    }

    /// The value over all that was added; finite.
    ///
    /// # Errors
    /// [`PluginError`].
    pub fn finish(&mut self) -> Result<f64, PluginError> {
        let accumulator = self.plugin.stoker_plugin_metric().accumulator();
        let value = self.sandbox.try_call("finish", |store| {
            accumulator.call_finish(store, self.accumulator)
        })?;
        if value.is_finite() {
            return Ok(value);
        }
        let message = format!("gave {value}; a metric must be finite");
        Err(PluginError {
            kind: PluginErrorKind::Output,
            call: "finish",
            message,
        })
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

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metric")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
