//! How to reach Redis, and whether it keeps what it confirms.

use redis::aio::ConnectionManager;
use redis::{ErrorKind, RedisError};
use secrecy::SecretString;
use serde::Deserialize;
use stoker_domain::time::Millis;

use crate::setup::SetupError;

/// How to reach Redis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`.
    pub url: SecretString,
    /// Every key begins with this in braces, so that all lie in one slot of a cluster.
    pub key_prefix: String,
    /// Longest wait for one command or connection.
    pub timeout: Millis,
    /// Start even if the server may lose what it confirmed, or hides its settings.
    pub allow_unsafe_durability: bool,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".into(),
            key_prefix: "stoker".to_owned(),
            timeout: Millis(2_000),
            allow_unsafe_durability: false,
        }
    }
}

impl RedisConfig {
    pub(super) fn check(&self) -> Result<(), SetupError> {
        let prefix = &self.key_prefix;
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(SetupError::Config {
                field: "redis.key_prefix",
                message: format!("{prefix:?} given; it can't be empty or hold braces"),
            });
        }
        if self.timeout.0 == 0 {
            return Err(SetupError::Config {
                field: "redis.timeout",
                message: "0s given, at least 1ms needed".to_owned(),
            });
        }
        Ok(())
    }
}

pub(super) fn server(error: &RedisError) -> SetupError {
    SetupError::Server {
        server: "redis",
        message: error.to_string(),
    }
}

/// Refuses a server that may lose what it confirmed, unless that was allowed.
pub(super) async fn check_durability(
    connection: &mut ConnectionManager,
    config: &RedisConfig,
) -> Result<(), SetupError> {
    let wanted = [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    ];
    let mut wrong = Vec::new();
    for (setting, value) in wanted {
        match setting_of(connection, setting).await {
            Ok(Some(found)) if found == value => {}
            Ok(Some(found)) => wrong.push(format!("{setting} is {found}, not {value}")),
            Ok(None) => wrong.push(format!("{setting} is hidden, and should be {value}")),
            Err(error) => return Err(server(&error)),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false if config.allow_unsafe_durability => {
            tracing::warn!(
                settings = wrong.join(", "),
                "redis may lose what it confirmed"
            );
            Ok(())
        }
        false => Err(SetupError::Unsafe(wrong.join(", "))),
    }
}

/// A setting of the server; nothing when the server won't say.
async fn setting_of(
    connection: &mut ConnectionManager,
    setting: &str,
) -> Result<Option<String>, RedisError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(setting);
    match command.query_async::<Vec<String>>(connection).await {
        Ok(pair) => Ok(pair.into_iter().nth(1)),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
