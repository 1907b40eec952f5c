//! Plugins: tenants' WebAssembly modules, immutable as `name@version`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Version tag of stored plugin records.
pub const RECORD_VERSION: u16 = 1;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginRole {
    /// Changes a batch before the model sees it.
    Preprocess,
    /// Measures predictions against targets.
    Metric,
}

/// How far an upload has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PluginState {
    /// Screened, compiled and probed.
    Ready {},
    /// Refused.
    Rejected {
        /// Why.
        reason: String,
    },
}

/// One version of a plugin, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The name.
    pub name: String,
    /// The version that its owner gave it.
    pub version: String,
    /// What it is for.
    pub role: PluginRole,
    /// Whether it can be used.
    #[serde(flatten)]
    pub state: PluginState,
    /// BLAKE3 of the uploaded module.
    pub blake3: String,
    /// Length of the uploaded module.
    pub size_bytes: u64,
    /// JSON Schema of its config, as the plugin describes it.
    #[schema(value_type = Object)]
    pub config_schema: serde_json::Value,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
