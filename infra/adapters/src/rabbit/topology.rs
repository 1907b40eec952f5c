//! Which queues there are, and with which arguments. A queue that is there with others can't be
//! declared again: these stay as they are.

use lapin::Channel;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use stoker_domain::port::{QueueError, QueueName};
use uuid::Uuid;

use super::config::RabbitConfig;
use super::link::failed;

/// Deliveries of one message before it goes to the dead-letter queue.
const DELIVERIES_MAX: i32 = 100;
/// Messages in one queue; more are refused, and wait in the outbox.
const MESSAGES_MAX: i32 = 1_000_000;

/// The queue that settles others goes away after this, if it wasn't removed.
const SETTLED_MS: i32 = 60_000;

#[derive(Debug, Clone)]
pub(super) struct Topology {
    prefix: String,
    worker_queue_ttl_ms: i64,
}

impl Topology {
    pub(super) fn new(config: &RabbitConfig) -> Self {
        let ttl_ms = i64::try_from(config.worker_queue_ttl.0);
        Self {
            prefix: config.queue_prefix.clone(),
            worker_queue_ttl_ms: ttl_ms.unwrap_or(i64::MAX),
        }
    }

    /// The broker's name for a queue.
    pub(super) fn name(&self, queue: &QueueName) -> String {
        let prefix = &self.prefix;
        match queue {
            QueueName::Pool(pool) => format!("{prefix}.pool.{pool}"),
            QueueName::Worker(worker) => format!("{prefix}.worker.{worker}"),
            QueueName::Dead => format!("{prefix}.dead"),
        }
    }

    /// Makes a queue, and the dead-letter queue that it needs.
    pub(super) async fn declare(
        &self,
        channel: &Channel,
        queue: &QueueName,
    ) -> Result<(), QueueError> {
        self.declare_one(channel, &QueueName::Dead).await?;
        if !matches!(queue, QueueName::Dead) {
            self.declare_one(channel, queue).await?;
        }
        if matches!(queue, QueueName::Pool(_)) {
            self.settle(channel).await?;
        }
        Ok(())
    }

    async fn declare_one(&self, channel: &Channel, queue: &QueueName) -> Result<(), QueueError> {
        let declared =
            channel.queue_declare(self.name(queue).into(), durable(), self.arguments(queue));
        declared.await.map(|_| ()).map_err(|error| failed(&error))
    }

    /// A broker up to 3.x writes down only with the next change which log belongs to a new quorum
    /// queue. Were it killed before that, the queue would begin again without its messages, and
    /// never find a leader. So another queue is made at once, and removed.
    async fn settle(&self, channel: &Channel) -> Result<(), QueueError> {
        let name = format!("{}.settle.{}", self.prefix, Uuid::now_v7().simple());
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        arguments.insert("x-expires".into(), AMQPValue::LongInt(SETTLED_MS));
        let made = channel.queue_declare(name.as_str().into(), durable(), arguments);
        made.await.map_err(|error| failed(&error))?;
        let removed = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        removed.await.map(|_| ()).map_err(|error| failed(&error))
    }

    fn arguments(&self, queue: &QueueName) -> FieldTable {
        let mut arguments = FieldTable::default();
        let text = |value: &str| AMQPValue::LongString(value.into());
        let mut set = |name: &str, value: AMQPValue| {
            arguments.insert(name.into(), value);
        };
        set("x-max-length", AMQPValue::LongInt(MESSAGES_MAX));
        set("x-overflow", text("reject-publish"));
        if matches!(queue, QueueName::Dead) {
            return arguments;
        }
        set("x-dead-letter-exchange", text(""));
        let dead = self.name(&QueueName::Dead);
        set("x-dead-letter-routing-key", text(&dead));
        if matches!(queue, QueueName::Pool(_)) {
            set("x-queue-type", text("quorum"));
            set("x-single-active-consumer", AMQPValue::Boolean(true));
            set("x-delivery-limit", AMQPValue::LongInt(DELIVERIES_MAX));
            set("x-dead-letter-strategy", text("at-least-once"));
        } else {
            set(
                "x-expires",
                AMQPValue::LongLongInt(self.worker_queue_ttl_ms),
            );
        }
        arguments
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}
