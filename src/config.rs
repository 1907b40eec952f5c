//! The settings of every role: file, then environment (`STOKER__API__BIND`), then flags. All of it
//! is checked before anything starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use stoker_domain::{FieldError, PoolName};
use stoker_infra::{
    NotifierConfig, ObjectConfig, RabbitConfig, RedisConfig, RelayConfig, SourcesConfig,
};

/// The settings of every role.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where keys are kept, and for `stoker up` everything else.
    pub(crate) data_dir: Option<PathBuf>,
    /// The pool that `up`, `scheduler` and `worker` serve.
    pub(crate) pool: Option<PoolName>,
    /// Redis, the store of roles that run apart.
    pub(crate) store: Option<RedisConfig>,
    /// RabbitMQ, the queue of roles that run apart.
    pub(crate) queue: Option<RabbitConfig>,
    /// The outbox relay.
    pub(crate) relay: RelayConfig,
    /// Object storage; a directory under `data_dir` when no URL is given.
    pub(crate) objects: ObjectConfig,
    /// Where data sets may be fetched from.
    pub(crate) sources: SourcesConfig,
    /// Webhooks.
    pub(crate) notify: NotifierConfig,
    /// The HTTP API.
    pub(crate) api: stoker_api::Config,
    /// The scheduler.
    pub(crate) scheduler: stoker_scheduler::Config,
    /// Housekeeping, by `up` and by schedulers.
    pub(crate) housekeeping: stoker_housekeeper::Config,
    /// The worker.
    pub(crate) worker: stoker_worker::Config,
    /// The log.
    pub(crate) log: LogConfig,
}

/// The log, on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// What is logged, as in `info` or `stoker_scheduler=debug,warn`.
    pub(crate) filter: String,
    /// How it looks.
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}

impl Config {
    /// Reads file and environment.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("STOKER")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("sources.allow")
            .with_list_parse_key("sources.private")
            .with_list_parse_key("notify.private");
        let merged = builder
            .add_source(environment)
            .build()
            .context("can't read the settings")?;
        merged
            .try_deserialize()
            .context("the settings are not valid")
    }

    /// Checks everything, so that nothing starts with half of its settings wrong.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let under = |errors: Vec<FieldError>, parent: &'static str| {
            errors.into_iter().map(move |error| error.under(parent))
        };
        let errors: Vec<FieldError> = under(self.scheduler.validate(), "scheduler")
            .chain(under(self.housekeeping.validate(), "housekeeping"))
            .chain(under(self.worker.validate(), "worker"))
            .chain(under(self.sources.validate(), "sources"))
            .chain(under(self.notify.validate(), "notify"))
            .chain(under(self.api.validate().err().unwrap_or_default(), "api"))
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        bail!("the settings are not valid:\n  {}", lines.join("\n  "))
    }

    /// The pool to serve.
    pub(crate) fn pool(&self) -> anyhow::Result<PoolName> {
        self.pool.clone().map_or_else(|| Ok("default".parse()?), Ok)
    }
}
