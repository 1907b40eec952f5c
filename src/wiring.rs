//! Opens the adapters that the settings name and hands them to the roles. Nothing else wires parts
//! together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::signer::Signer;
use stoker_domain::Clock;
use stoker_domain::plugin::PluginRole;
use stoker_domain::port::{
    Catalog, CompileError, CompiledPlugin, JobStore, PluginCompiler, PointStore, Telemetry,
    WorkQueue,
};
use stoker_infra::{
    DataDir, EmbeddedQueue, EmbeddedStore, ObjectConfig, OutboxRelay, RabbitQueue, RedisStore,
    SystemClock, TieredPoints,
};

use crate::config::Config;
use crate::keys::Keys;

/// Everything outside that the roles of one process use.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) data_dir: PathBuf,
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) telemetry: Arc<dyn Telemetry>,
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) relay: Arc<OutboxRelay>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Keeps the data dir ours, where it must be.
    _lock: Option<Arc<DataDir>>,
}

impl World {
    /// The embedded adapters: one process, one directory.
    pub(crate) async fn embedded(config: &Config, data_dir: &Path) -> anyhow::Result<Self> {
        if config.store.is_some() || config.queue.is_some() {
            bail!("store.url and queue.url are for roles that run apart; `stoker up` has its own");
        }
        let lock = DataDir::lock(data_dir)?;
        let store = Arc::new(EmbeddedStore::open(lock.join("stoker.db"))?);
        let queue = Arc::new(EmbeddedQueue::open(lock.join("queue.db"))?);
        let world = Self::assemble(config, data_dir, store, queue).await?;
        Ok(Self {
            _lock: Some(Arc::new(lock)),
            ..world
        })
    }

    /// The servers that the settings name.
    pub(crate) async fn services(config: &Config, data_dir: &Path) -> anyhow::Result<Self> {
        let store = config.store.as_ref().context(
            "store.url is needed (redis://…): a role that runs apart can't use the embedded store",
        )?;
        let queue = config.queue.as_ref().context(
            "queue.url is needed (amqp://…): a role that runs apart can't use the embedded queue",
        )?;
        let store = Arc::new(RedisStore::connect(store).await?);
        Self::assemble(config, data_dir, store, Arc::new(RabbitQueue::new(queue)?)).await
    }

    async fn assemble<S>(
        config: &Config,
        data_dir: &Path,
        store: Arc<S>,
        queue: Arc<dyn WorkQueue>,
    ) -> anyhow::Result<Self>
    where
        S: JobStore + Catalog + PointStore + 'static,
    {
        let objects = match config.objects.url.as_str() {
            "" => {
                let directory = std::path::absolute(data_dir.join("objects"))?;
                ObjectConfig {
                    url: format!("file://{}", directory.display()),
                    ..config.objects.clone()
                }
            }
            _ => config.objects.clone(),
        };
        let objects = stoker_infra::objects::open(&objects)?;
        objects.probe().await?;
        let relay = OutboxRelay::start(store.clone(), queue.clone(), &config.relay);
        Ok(Self {
            data_dir: data_dir.to_owned(),
            jobs: store.clone(),
            catalog: store.clone(),
            telemetry: Arc::new(TieredPoints::new(store, objects.store.clone())),
            queue,
            relay,
            objects: objects.store,
            signer: objects.signer,
            clock: Arc::new(SystemClock::new()),
            _lock: None,
        })
    }

    /// Lets the relay finish what it began.
    pub(crate) async fn close(&self) {
        self.relay.stop().await;
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::under(&self.data_dir)
    }
}

/// The plugin host's compiler behind the domain's port.
pub(crate) struct SandboxedCompiler {
    compiler: stoker_plugins::Compiler,
    engine_hash: String,
}

impl SandboxedCompiler {
    pub(crate) fn new(config: &stoker_plugins::Config, keys: &Keys) -> anyhow::Result<Self> {
        let compiler = stoker_plugins::Compiler::new(config.clone(), keys.sealing()?)?;
        let engine_hash = stoker_plugins::Host::new(config.clone())?.engine_hash();
        Ok(Self {
            compiler,
            engine_hash,
        })
    }
}

#[async_trait]
impl PluginCompiler for SandboxedCompiler {
    async fn compile(&self, module: &[u8]) -> Result<CompiledPlugin, CompileError> {
        let compiled = self
            .compiler
            .compile(module)
            .await
            .map_err(|error| match error {
                stoker_plugins::CompileError::Rejected(why) => {
                    CompileError::Rejected(why.to_string())
                }
                stoker_plugins::CompileError::Internal(why) => CompileError::Internal(why),
            })?;
        Ok(CompiledPlugin {
            role: match compiled.role {
                stoker_plugins::Role::Preprocess => PluginRole::Preprocess,
                stoker_plugins::Role::Metric => PluginRole::Metric,
            },
            config_schema: compiled.description.config_schema,
            artifact: compiled.artifact,
            engine_hash: compiled.engine_hash,
        })
    }

    fn engine_hash(&self) -> String {
        self.engine_hash.clone()
    }
}
