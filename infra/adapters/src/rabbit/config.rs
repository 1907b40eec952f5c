//! How to reach RabbitMQ.

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use stoker_domain::time::Millis;

use crate::setup::SetupError;

/// How to reach RabbitMQ.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitConfig {
    /// `amqp://user:password@host:port/vhost`, or `amqps`.
    pub url: SecretString,
    /// Every queue's name begins with this and a dot.
    pub queue_prefix: String,
    /// Longest wait for a connection, a confirm or another answer.
    pub timeout: Millis,
    /// Time between heartbeats, in seconds: a silent broker is noticed after two of them.
    pub heartbeat_s: u16,
    /// Messages that a consumer gets before it acknowledges the first.
    pub prefetch: u16,
    /// Messages being confirmed at a time; further ones wait.
    pub in_flight_max: u16,
    /// A worker's queue goes away when nobody consumed from it for this long.
    pub worker_queue_ttl: Millis,
}

impl Default for RabbitConfig {
    fn default() -> Self {
        Self {
            url: "amqp://127.0.0.1:5672/%2f".into(),
            queue_prefix: "stoker".to_owned(),
            timeout: Millis(5_000),
            heartbeat_s: 2,
            prefetch: 32,
            in_flight_max: 64,
            worker_queue_ttl: Millis(10 * 60 * 1_000),
        }
    }
}

impl RabbitConfig {
    /// The address with all that belongs to a connection.
    pub(super) fn uri(&self) -> Result<AMQPUri, SetupError> {
        self.check_ranges()?;
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|error| {
            // The error doesn't repeat the URL, which holds a password.
            SetupError::Config {
                field: "rabbit.url",
                message: format!("{error}; amqp://user:password@host:port/vhost is understood"),
            }
        })?;
        uri.query.heartbeat = Some(self.heartbeat_s);
        uri.query.connection_timeout = Some(self.timeout.0);
        Ok(uri)
    }

    fn check_ranges(&self) -> Result<(), SetupError> {
        let needs_one = [
            ("rabbit.timeout", self.timeout.0),
            ("rabbit.heartbeat_s", self.heartbeat_s.into()),
            ("rabbit.prefetch", self.prefetch.into()),
            ("rabbit.in_flight_max", self.in_flight_max.into()),
            ("rabbit.worker_queue_ttl", self.worker_queue_ttl.0),
        ];
        for (field, value) in needs_one {
            if value == 0 {
                let message = "0 given, more needed".to_owned();
                return Err(SetupError::Config { field, message });
            }
        }
        if u32::try_from(self.worker_queue_ttl.0).is_err() {
            return Err(SetupError::Config {
                field: "rabbit.worker_queue_ttl",
                message: "more than 49 days given".to_owned(),
            });
        }
        Ok(())
    }
}
