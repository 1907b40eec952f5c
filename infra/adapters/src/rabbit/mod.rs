//! [`WorkQueue`] over RabbitMQ 3.10 to 4.x.
//!
//! `topology` says which queues there are, `link` keeps a connection, `publisher` and `consumer`
//! use one each: a broker that holds back publishers must not hold back acknowledgements.

mod config;
mod consumer;
mod link;
mod publisher;
mod topology;

use async_trait::async_trait;
use lapin::options::QueueDeleteOptions;
use stoker_domain::port::{Deliveries, Message, QueueError, QueueName, WorkQueue};

pub use config::RabbitConfig;
use consumer::Consumer;
use link::Link;
use publisher::Publisher;
use topology::Topology;

use crate::setup::SetupError;

/// The [`WorkQueue`] over RabbitMQ. It connects when it is first used, and again after an error.
pub struct RabbitQueue {
    publisher: Publisher,
    consuming: Link,
    topology: Topology,
    prefetch: u16,
}

impl RabbitQueue {
    /// A queue that will connect when it is first used.
    ///
    /// # Errors
    /// [`SetupError::Config`] when a setting can't be used.
    pub fn new(config: &RabbitConfig) -> Result<Self, SetupError> {
        let uri = config.uri()?;
        let timeout = config.timeout.into();
        let topology = Topology::new(config);
        let publishing = Link::new(uri.clone(), "stoker publishes", timeout);
        Ok(Self {
            publisher: Publisher::new(publishing, topology.clone(), config),
            consuming: Link::new(uri, "stoker consumes", timeout),
            topology,
            prefetch: config.prefetch,
        })
    }
}

#[async_trait]
impl WorkQueue for RabbitQueue {
    async fn publish(&self, queue: &QueueName, message: &Message) -> Result<(), QueueError> {
        self.publisher.publish(queue, message).await
    }

    async fn consume(&self, queue: &QueueName) -> Result<Box<dyn Deliveries>, QueueError> {
        let begun = async {
            let channel = self.consuming.channel().await?;
            self.topology.declare(&channel, queue).await?;
            Consumer::begin(channel, &self.topology.name(queue), self.prefetch).await
        };
        Ok(Box::new(self.consuming.within(begun).await?))
    }

    async fn remove(&self, queue: &QueueName) -> Result<(), QueueError> {
        if !matches!(queue, QueueName::Worker(_)) {
            return Ok(());
        }
        let name = self.topology.name(queue);
        let removed = async {
            let channel = self.consuming.channel().await?;
            let options = QueueDeleteOptions::default();
            let removed = channel.queue_delete(name.into(), options).await;
            removed.map_err(|error| link::failed(&error))
        };
        self.consuming.within(removed).await.map(|_| ())
    }
}
