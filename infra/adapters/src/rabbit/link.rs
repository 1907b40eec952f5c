//! One connection to the broker: made when it is needed, and made again after it broke.

use std::future::Future;
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use stoker_domain::port::QueueError;
use tokio::sync::Mutex;
use tokio::time::{self, Instant};

/// After a try that failed, callers are told so at once for this long, rather than queue up for
/// tries of their own.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Link {
    uri: AMQPUri,
    name: &'static str,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    failed: Option<(Instant, QueueError)>,
}

impl Link {
    pub(super) fn new(uri: AMQPUri, name: &'static str, timeout: Duration) -> Self {
        Self {
            uri,
            name,
            timeout,
            state: Mutex::default(),
        }
    }

    /// A new channel. The lock is held while one caller connects for all.
    pub(super) async fn channel(&self) -> Result<Channel, QueueError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if connection.status().connected() {
                let channel = self.within(open(connection)).await;
                if channel.is_ok() {
                    return channel;
                }
            }
            state.connection = None;
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < RETRY_AFTER
        {
            return Err(error.clone());
        }
        let connected = async {
            let name = self.name.into();
            let properties = ConnectionProperties::default().with_connection_name(name);
            let connection = Connection::connect_uri(self.uri.clone(), properties).await;
            let connection = connection.map_err(|error| failed(&error))?;
            let channel = open(&connection).await?;
            Ok((connection, channel))
        };
        match self.within(connected).await {
            Ok((connection, channel)) => {
                state.connection = Some(connection);
                state.failed = None;
                Ok(channel)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Waits for the broker, but not for ever.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let late = || format!("rabbitmq didn't answer within {:?}", self.timeout);
        time::timeout(self.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(QueueError::Unavailable(late())))
    }
}

async fn open(connection: &Connection) -> Result<Channel, QueueError> {
    connection
        .create_channel()
        .await
        .map_err(|error| failed(&error))
}

pub(super) fn failed(error: &lapin::Error) -> QueueError {
    QueueError::Unavailable(error.to_string())
}
