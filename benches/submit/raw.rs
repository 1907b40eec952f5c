//! The limit: for each job one transaction in Redis with the bytes of our record, then one message
//! to a quorum queue with its confirm. Nothing is parsed, checked or remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;
use stoker_domain::JobId;
use stoker_domain::port::Message;
use stoker_infra::testing::Services;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::CONNECTIONS;

/// Confirms are waited for on each of them apart.
const CHANNELS: usize = 4;
const QUEUE: &str = "raw";
const JOBS: &str = "raw:jobs";
/// Keys removed by one command.
const CHUNK: usize = 1_000;
/// Longest wait for the relay, and for a broker to count.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is written for one job.
#[derive(Default)]
pub(crate) struct Record {
    fields: Vec<(String, String)>,
    event: String,
}

impl Record {
    pub(crate) fn size_bytes(&self) -> usize {
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.len());
        fields.sum::<usize>() + self.event.len()
    }
}

/// Redis and RabbitMQ, without us between.
pub(crate) struct Servers {
    redis: MultiplexedConnection,
    broker: Connection,
    looking: Channel,
}

impl Servers {
    pub(crate) async fn connect(services: &Services) -> anyhow::Result<Self> {
        let settings = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let redis = redis::Client::open(services.redis.url())?
            .get_multiplexed_async_connection_with_config(&settings)
            .await?;
        let properties = ConnectionProperties::default();
        let broker = Connection::connect(&services.rabbit.url(), properties).await?;
        let looking = broker.create_channel().await?;
        let mut arguments = FieldTable::default();
        let kind = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), kind);
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        looking
            .queue_declare(QUEUE.into(), options, arguments)
            .await?;
        Ok(Self {
            redis,
            broker,
            looking,
        })
    }

    /// What our store wrote of a job.
    pub(crate) async fn record(&self, id: JobId) -> anyhow::Result<Record> {
        let mut redis = self.redis.clone();
        let (job, events) = (
            format!("{{stoker}}:job:{id}"),
            format!("{{stoker}}:events:{id}"),
        );
        let fields = redis::cmd("HGETALL").arg(job).to_owned();
        let fields: Vec<(String, String)> = fields.query_async(&mut redis).await?;
        let event = redis::cmd("LINDEX").arg(events).arg(0).to_owned();
        let event: String = event.query_async(&mut redis).await?;
        ensure!(!fields.is_empty(), "no record of job {id}");
        Ok(Record { fields, event })
    }

    /// Messages that wait to be published.
    pub(crate) async fn backlog(&self) -> anyhow::Result<u64> {
        let mut asked = redis::cmd("ZCARD");
        asked.arg("{stoker}:outbox:order");
        Ok(asked.query_async(&mut self.redis.clone()).await?)
    }

    /// Waits until the relay has published all; the time that took.
    pub(crate) async fn drained(&self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        while self.backlog().await? > 0 {
            ensure!(begun.elapsed() < PATIENCE, "the outbox doesn't get empty");
            sleep(LOOK_EVERY).await;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Checks that the queue holds as many messages, `or_more` where they may come twice, and
    /// removes them.
    pub(crate) async fn take(
        &self,
        queue: &str,
        count: usize,
        or_more: bool,
    ) -> anyhow::Result<()> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let begun = Instant::now();
        loop {
            let arguments = FieldTable::default();
            let found = self.looking.queue_declare(queue.into(), passive, arguments);
            let found = found.await?.message_count() as usize;
            if found == count || (or_more && found > count) {
                break;
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "{queue} holds {found} messages, not {count}"
            );
            sleep(LOOK_EVERY).await;
        }
        let options = QueuePurgeOptions::default();
        self.looking.queue_purge(queue.into(), options).await?;
        Ok(())
    }

    /// Submissions a second over all connections; what was written is counted, and removed.
    pub(crate) async fn load(&self, record: &Arc<Record>, length: Duration) -> anyhow::Result<f64> {
        let mut channels = Vec::with_capacity(CHANNELS);
        for _ in 0..CHANNELS {
            let channel = self.broker.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            channels.push(channel);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for index in 0..CONNECTIONS {
            let (redis, record) = (self.redis.clone(), Arc::clone(record));
            let channel = channels[index % CHANNELS].clone();
            tasks.spawn(submit(redis, channel, record, begun + length));
        }
        let mut ids = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            ids.append(&mut ended??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        for channel in channels {
            channel.close(200, "done".into()).await?;
        }
        self.take(QUEUE, ids.len(), false).await?;
        self.remove(&ids).await?;
        Ok(ids.len() as f64 / seconds)
    }

    /// Checks that all of these were written, and removes them.
    async fn remove(&self, ids: &[JobId]) -> anyhow::Result<()> {
        let mut redis = self.redis.clone();
        let listed: usize = redis::cmd("ZCARD")
            .arg(JOBS)
            .query_async(&mut redis)
            .await?;
        ensure!(listed == ids.len(), "{listed} jobs, not {}", ids.len());
        for chunk in ids.chunks(CHUNK) {
            let mut remove = redis::cmd("UNLINK");
            for id in chunk {
                remove.arg(job_key(*id)).arg(events_key(*id));
            }
            let removed: usize = remove.query_async(&mut redis).await?;
            ensure!(
                removed == 2 * chunk.len(),
                "{removed} keys of {}",
                chunk.len()
            );
        }
        Ok(redis::cmd("UNLINK")
            .arg(JOBS)
            .exec_async(&mut redis)
            .await?)
    }
}

async fn submit(
    mut redis: MultiplexedConnection,
    channel: Channel,
    record: Arc<Record>,
    end: Instant,
) -> anyhow::Result<Vec<JobId>> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let mut ids = Vec::new();
    while Instant::now() < end {
        let id = JobId::generate();
        let mut write = redis::pipe();
        write.atomic();
        write
            .cmd("HSET")
            .arg(job_key(id))
            .arg(&record.fields)
            .ignore();
        write
            .cmd("ZADD")
            .arg(JOBS)
            .arg(0)
            .arg(id.to_string())
            .ignore();
        write
            .cmd("RPUSH")
            .arg(events_key(id))
            .arg(&record.event)
            .ignore();
        write.exec_async(&mut redis).await?;
        let body = serde_json::to_vec(&Message::new(id, 0))?;
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish("".into(), QUEUE.into(), options, &body, properties.clone());
        let confirm = sent.await?.await?;
        ensure!(confirm == Confirmation::Ack(None), "it was refused");
        ids.push(id);
    }
    Ok(ids)
}

fn job_key(id: JobId) -> String {
    format!("raw:job:{id}")
}

fn events_key(id: JobId) -> String {
    format!("raw:events:{id}")
}
