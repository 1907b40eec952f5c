//! Consuming: each consumer has a channel of its own, whose end gives its messages back.

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{Acker, Channel};

use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use stoker_domain::port::{Acknowledge, Deliveries, Delivery, Message, QueueError};
use tokio::runtime::Handle;

use super::link::failed;

pub(super) struct Consumer {
    channel: Channel,
    deliveries: lapin::Consumer,
}

impl Consumer {
    pub(super) async fn begin(
        channel: Channel,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self, QueueError> {
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await
            .map_err(|error| failed(&error))?;
        let options = BasicConsumeOptions::default();
        // The broker makes a tag up.
        let begun = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let deliveries = begun.await.map_err(|error| failed(&error))?;
        Ok(Self {
            channel,
            deliveries,
        })
    }
}

#[async_trait]
impl Deliveries for Consumer {
    async fn next(&mut self) -> Result<Delivery, QueueError> {
        loop {
            let delivery = match self.deliveries.next().await {
                Some(delivery) => delivery.map_err(|error| failed(&error))?,
                None => {
                    let ended = "the broker ended the consumer".to_owned();
                    return Err(QueueError::Unavailable(ended));
                }
            };
            let loan = Box::new(Loan(delivery.acker));
            match serde_json::from_slice::<Message>(&delivery.data) {
                Ok(message) => return Ok(Delivery { message, loan }),
                Err(error) => {
                    tracing::warn!(%error, "a message can't be read: it goes to the dead-letter queue");
                    loan.reject().await?;
                }
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let channel = self.channel.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // Where this fails the channel is gone already, which is as good.
                let _ = channel.close(200, "the consumer is over".into()).await;
            });
        }
    }
}

struct Loan(Acker);

#[async_trait]
impl Acknowledge for Loan {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        let acknowledged = self.0.ack(BasicAckOptions::default()).await;
        outcome(acknowledged)
    }

    async fn reject(self: Box<Self>) -> Result<(), QueueError> {
        let options = BasicRejectOptions { requeue: false };
        outcome(self.0.reject(options).await)
    }
}

fn outcome(sent: lapin::Result<bool>) -> Result<(), QueueError> {
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(QueueError::Unavailable(
            "the delivery went back when its consumer ended".to_owned(),
        )),
        Err(error) => Err(failed(&error)),
    }
}
