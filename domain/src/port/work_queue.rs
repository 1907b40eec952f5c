//! The transport between the parts. Messages only say where to look; the store is the truth.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::id::{JobId, PoolName, WorkerId};

/// Version tag of messages.
const MESSAGE_VERSION: u16 = 1;

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueName {
    /// What the pool's scheduler must look at. Lives as long as the platform.
    Pool(PoolName),
    /// What a worker must look at. Goes away some time after the worker.
    Worker(WorkerId),
    /// What nobody could handle.
    Dead,
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(pool) => write!(f, "stoker.pool.{pool}"),
            Self::Worker(worker) => write!(f, "stoker.worker.{worker}"),
            Self::Dead => f.write_str("stoker.dead"),
        }
    }
}

/// "Look at this job."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Version tag of this form.
    pub version: u16,
    /// The job.
    pub job: JobId,
    /// The job's newest token when this was written.
    pub token: u64,
}

impl Message {
    /// "Look at this job."
    #[must_use]
    pub const fn new(job: JobId, token: u64) -> Self {
        Self {
            version: MESSAGE_VERSION,
            job,
            token,
        }
    }
}

/// Why the transport couldn't do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It can't be reached, or didn't confirm in time: the message may or may not be there.
    #[error("the queue is unavailable: {0}")]
    Unavailable(String),
    /// There is no such queue: the message was not taken.
    #[error("there is no queue {0}")]
    NoRoute(QueueName),
}

/// Takes a delivery off its queue for good.
#[async_trait]
pub trait Acknowledge: Send {
    /// The delivery's effect is in the store.
    async fn ack(self: Box<Self>) -> Result<(), QueueError>;
    /// The delivery can't be handled, now or ever: it goes to [`QueueName::Dead`].
    async fn reject(self: Box<Self>) -> Result<(), QueueError>;
}

/// A message on loan: it comes again unless it is acknowledged.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Ends the loan.
    pub loan: Box<dyn Acknowledge>,
}

/// A consumer.
#[async_trait]
pub trait Deliveries: Send {
    /// Waits for the next message. After an error the consumer is over: consume again.
    async fn next(&mut self) -> Result<Delivery, QueueError>;
}

/// The transport. Delivery is at least once, in order but for repeats.
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Puts a message on a queue; returns when the transport has made it durable. Pool queues come
    /// into being by this; a worker's queue exists once the worker has consumed from it.
    async fn publish(&self, queue: &QueueName, message: &Message) -> Result<(), QueueError>;

    /// Begins to consume; makes the queue when it isn't there. Of several consumers of a pool's
    /// queue one at a time gets messages. Dropping the consumer gives unacknowledged messages back.
    async fn consume(&self, queue: &QueueName) -> Result<Box<dyn Deliveries>, QueueError>;

    /// Removes a worker's queue.
    async fn remove(&self, queue: &QueueName) -> Result<(), QueueError>;
}
