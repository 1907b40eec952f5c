//! The stores over Redis, which is a system of record here: it must sync every write to disk and
//! evict nothing. Failover to an asynchronous replica is outside the promise.

mod catalog;
mod changes;
mod config;
mod form;
mod jobs;
mod keys;
mod points;
mod script;

use std::future::Future;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, Pipeline, RedisError, ScriptInvocation};
use secrecy::ExposeSecret;
use stoker_domain::port::StoreError;

pub use config::RedisConfig;
use keys::Keys;

use crate::setup::SetupError;

/// Commands that may wait to be written to the connection.
const PIPELINE_MAX: usize = 1_024;
/// Wait before the second try to connect; doubled for each later one.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// Longest wait between tries to connect.
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// Tries to connect again before the commands that wait for it fail. Later commands try anew.
const RECONNECTS_MAX: usize = 3;

/// The [`JobStore`](stoker_domain::port::JobStore), [`Catalog`](stoker_domain::port::Catalog) and
/// [`PointStore`](stoker_domain::port::PointStore) over Redis. Clones share one connection, which
/// comes back by itself.
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    keys: Keys,
    timeout: Duration,
}

impl RedisStore {
    /// Connects, and checks that the server keeps what it confirms.
    ///
    /// # Errors
    /// [`SetupError::Config`] when a setting can't be used, [`SetupError::Server`] when the server
    /// can't be reached, [`SetupError::Unsafe`] when it may lose writes, [`SetupError::Newer`] when
    /// a later version wrote its keys.
    pub async fn connect(config: &RedisConfig) -> Result<Self, SetupError> {
        config.check()?;
        let timeout = Duration::from(config.timeout);
        let client = Client::open(config.url.expose_secret()).map_err(|error| {
            // The error doesn't repeat the URL, which may hold a password.
            SetupError::Config {
                field: "redis.url",
                message: format!("{error}; redis://[user:password@]host[:port] is understood"),
            }
        })?;
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_pipeline_buffer_size(PIPELINE_MAX)
            .set_min_delay(RECONNECT_MIN)
            .set_max_delay(RECONNECT_MAX)
            .set_number_of_retries(RECONNECTS_MAX);
        let mut connection = client
            .get_connection_manager_with_config(settings)
            .await
            .map_err(|error| config::server(&error))?;
        let keys = Keys::new(&config.key_prefix);
        config::check_durability(&mut connection, config).await?;
        form::check(&mut connection, &keys).await?;
        Ok(Self {
            connection,
            keys,
            timeout,
        })
    }

    /// Waits for an answer, but not for ever.
    async fn within<T>(
        &self,
        command: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, command).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(StoreError::Unavailable(format!(
                "redis didn't answer within {:?}",
                self.timeout
            ))),
        }
    }

    async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.within(script.invoke_async(&mut connection)).await
    }

    async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.within(pipeline.query_async(&mut connection)).await
    }

    async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.within(command.query_async(&mut connection)).await
    }
}

fn failed(error: &RedisError) -> StoreError {
    match error.kind() {
        redis::ErrorKind::UnexpectedReturnType => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// An answer that a script doesn't give.
fn unexpected(what: &str) -> StoreError {
    StoreError::Corrupt(format!("redis answered {what:?}, which isn't expected"))
}
