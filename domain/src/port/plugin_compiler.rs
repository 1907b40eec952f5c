//! Turns an uploaded module into what workers may load.

use async_trait::async_trait;

use crate::plugin::PluginRole;

/// A plugin that was screened, compiled and probed.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledPlugin {
    /// What it is for.
    pub role: PluginRole,
    /// JSON Schema of its config.
    pub config_schema: serde_json::Value,
    /// Native code with its authentication tag: workers load nothing else.
    pub artifact: Vec<u8>,
    /// Names the engine build and CPU features that the artifact is for.
    pub engine_hash: String,
}

/// Why there is no compiled plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The module was refused: its owner must change it.
    #[error("{0}")]
    Rejected(String),
    /// The compiler itself failed: try again.
    #[error("the plugin compiler failed: {0}")]
    Internal(String),
}

/// Screens, compiles and probes modules, away from everything that a hostile one could harm.
#[async_trait]
pub trait PluginCompiler: Send + Sync {
    /// Makes a module ready for workers.
    async fn compile(&self, module: &[u8]) -> Result<CompiledPlugin, CompileError>;

    /// Names the engine build and CPU features of what [`PluginCompiler::compile`] makes.
    fn engine_hash(&self) -> String;
}
