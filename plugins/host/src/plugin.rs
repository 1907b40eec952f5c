//! A loaded plugin, from which instances are made.

use crate::bindings::metric::MetricPluginPre;
use crate::bindings::preprocess::PreprocessPluginPre;
use crate::config::RunLimits;
use crate::convert::specs;
use crate::description::{Better, Contract, Description, Role};
use crate::error::{PluginError, PluginErrorKind};
use crate::metric::Metric;
use crate::preprocess::Preprocess;
use crate::sandbox::{INSTANTIATE, Pacing, Sandbox, State};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

/// A plugin that is ready to be instantiated.
#[derive(Clone)]
pub struct Plugin {
    engine: Engine,
    exports: Exports,
    limits: RunLimits,
    pacing: Pacing,
}

#[derive(Clone)]
enum Exports {
    Preprocess(PreprocessPluginPre<State>),
    Metric(MetricPluginPre<State>),
}

impl Plugin {
    /// Checks imports and exports against the contract.
    pub(crate) fn link(
        component: &Component,
        role: Role,
        limits: &RunLimits,
        pacing: Pacing,
    ) -> wasmtime::Result<Self> {
        let engine = component.engine().clone();
        // The linker is empty: a plugin is given nothing.
        let linked = Linker::new(&engine).instantiate_pre(component)?;
        let exports = match role {
            Role::Preprocess => Exports::Preprocess(PreprocessPluginPre::new(linked)?),
            Role::Metric => Exports::Metric(MetricPluginPre::new(linked)?),
        };
        Ok(Self {
            engine,
            exports,
            limits: limits.clone(),
            pacing,
        })
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.exports {
            Exports::Preprocess(_) => Role::Preprocess,
            Exports::Metric(_) => Role::Metric,
        }
    }

    /// Asks the plugin what it is, in an instance of its own.
    ///
    /// # Errors
    /// If the call fails, or the schema isn't a JSON object.
    pub fn describe(&self) -> Result<Description, PluginError> {
        let mut sandbox = self.sandbox();
        let (name, contract, schema) = match &self.exports {
            Exports::Preprocess(pre) => {
                let plugin = sandbox.call(INSTANTIATE, |store| pre.instantiate(store))?;
                let guest = plugin.stoker_plugin_preprocess();
                let told = sandbox.call("describe", |store| guest.call_describe(store))?;
                let (inputs, outputs) = (specs(told.inputs), specs(told.outputs));
                (
                    told.name,
                    Contract::Preprocess { inputs, outputs },
                    told.config_schema,
                )
            }
            Exports::Metric(pre) => {
                use crate::bindings::metric::exports::stoker::plugin::metric;
                let plugin = sandbox.call(INSTANTIATE, |store| pre.instantiate(store))?;
                let guest = plugin.stoker_plugin_metric();
                let told = sandbox.call("describe", |store| guest.call_describe(store))?;
                let better = match told.better {
                    metric::Better::Smaller => Better::Smaller,
                    metric::Better::Larger => Better::Larger,
                };
                let (predictions, targets) = (specs(told.predictions), specs(told.targets));
                (
                    told.name,
                    Contract::Metric {
                        predictions,
                        targets,
                        better,
                    },
                    told.config_schema,
                )
            }
        };
        let config_schema = parse_schema(&schema)?;
        Ok(Description {
            name,
            contract,
            config_schema,
        })
    }

    /// Makes an instance of a preprocess plugin. `config` is JSON text.
    ///
    /// # Errors
    /// [`PluginErrorKind::InvalidConfig`] from the plugin, any failure of its start, or
    /// [`PluginErrorKind::Platform`] if it has another role.
    pub fn preprocess(&self, config: &str) -> Result<Preprocess, PluginError> {
        match &self.exports {
            Exports::Preprocess(pre) => Preprocess::create(self.sandbox(), pre, config),
            Exports::Metric(_) => Err(self.other_role(Role::Preprocess)),
        }
    }

    /// Makes an instance of a metric plugin, empty. `config` is JSON text.
    ///
    /// # Errors
    /// As [`Plugin::preprocess`].
    pub fn metric(&self, config: &str) -> Result<Metric, PluginError> {
        match &self.exports {
            Exports::Metric(pre) => Metric::create(self.sandbox(), pre, config),
            Exports::Preprocess(_) => Err(self.other_role(Role::Metric)),
        }
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::new(&self.engine, &self.limits, self.pacing)
    }

    fn other_role(&self, wanted: Role) -> PluginError {
        let message = format!("this is a {} plugin, not a {wanted} plugin", self.role());
        PluginError {
            kind: PluginErrorKind::Platform,
            call: INSTANTIATE,
            message,
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("role", &self.role())
            .finish_non_exhaustive()
    }
}

fn parse_schema(text: &str) -> Result<serde_json::Value, PluginError> {
    let told = |message| {
        let kind = PluginErrorKind::Output;
        PluginError {
            kind,
            call: "describe",
            message,
        }
    };
    match serde_json::from_str(text) {
        Ok(schema @ serde_json::Value::Object(_)) => Ok(schema),
        Ok(_) => Err(told("`config-schema` is not a JSON object".to_owned())),
        Err(e) => Err(told(format!("`config-schema` is not JSON: {e}"))),
    }
}
