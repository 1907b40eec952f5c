//! Publishing with confirms.
//!
//! A message that no queue takes comes back, and the client gives it to whichever confirm of the
//! channel comes next, which needn't be its own. So each channel has one message on its way at a
//! time, and many channels are used side by side.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use stoker_domain::port::{Message, QueueError, QueueName};
use tokio::sync::Semaphore;

use super::config::RabbitConfig;
use super::link::{Link, failed};
use super::topology::Topology;

/// AMQP's mark of a message that is written to disk.
const PERSISTENT: u8 = 2;

pub(super) struct Publisher {
    link: Link,
    topology: Topology,
    /// Channels with nothing on its way.
    idle: Mutex<Vec<Channel>>,
    free: Semaphore,
    /// Queues that were declared, by this process. Locked while declaring: the broker gets confused
    /// by the same quorum queue being made many times at once.
    declared: tokio::sync::Mutex<HashSet<QueueName>>,
}

impl Publisher {
    pub(super) fn new(link: Link, topology: Topology, config: &RabbitConfig) -> Self {
        Self {
            link,
            topology,
            idle: Mutex::default(),
            free: Semaphore::new(config.in_flight_max.into()),
            declared: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn publish(
        &self,
        queue: &QueueName,
        message: &Message,
    ) -> Result<(), QueueError> {
        match self.try_publish(queue, message).await {
            // Somebody removed a queue that was declared: once more from there.
            Err(QueueError::NoRoute(_)) if !matches!(queue, QueueName::Worker(_)) => {
                self.declared.lock().await.remove(queue);
                self.try_publish(queue, message).await
            }
            outcome => outcome,
        }
    }

    async fn try_publish(&self, queue: &QueueName, message: &Message) -> Result<(), QueueError> {
        let closed = |_| QueueError::Unavailable("the publisher is closed".to_owned());
        let _permit = self.free.acquire().await.map_err(closed)?;
        let channel = self.channel().await?;
        let sent = self.link.within(self.send(&channel, queue, message)).await;
        // After any other outcome something may still come on the channel.
        if matches!(sent, Ok(()) | Err(QueueError::NoRoute(_))) {
            lock(&self.idle).push(channel);
        }
        sent
    }

    async fn channel(&self) -> Result<Channel, QueueError> {
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => break,
            }
        }
        let channel = self.link.channel().await?;
        let selected = async {
            let selected = channel
                .confirm_select(ConfirmSelectOptions::default())
                .await;
            selected.map_err(|error| failed(&error))
        };
        self.link.within(selected).await?;
        Ok(channel)
    }

    async fn send(
        &self,
        channel: &Channel,
        queue: &QueueName,
        message: &Message,
    ) -> Result<(), QueueError> {
        self.declare(channel, queue).await?;
        let body = serde_json::to_vec(message)
            .map_err(|error| QueueError::Unavailable(error.to_string()))?;
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(format!("{}:{}", message.job, message.token).into());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let name = self.topology.name(queue).into();
        let sent = channel
            .basic_publish("".into(), name, options, &body, properties)
            .await;
        let confirm = sent.map_err(|error| failed(&error))?;
        match confirm.await.map_err(|error| failed(&error))? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(QueueError::NoRoute(queue.clone())),
            Confirmation::Nack(_) => Err(QueueError::Unavailable(format!("{queue} took no more"))),
            Confirmation::NotRequested => Err(QueueError::Unavailable(
                "the channel confirms nothing".to_owned(),
            )),
        }
    }

    /// Makes the queue, if that is for publishers to do.
    async fn declare(&self, channel: &Channel, queue: &QueueName) -> Result<(), QueueError> {
        if matches!(queue, QueueName::Worker(_)) {
            return Ok(());
        }
        let mut declared = self.declared.lock().await;
        if !declared.contains(queue) {
            self.topology.declare(channel, queue).await?;
            declared.insert(queue.clone());
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
