//! [`WorkQueue`] in this process: lines in memory, and a durable table behind them.
//!
//! A message is handed on at once, while its row is being written; it is a wake-up, and acting on
//! one that a crash undoes is harmless. The file survives a killed process. A power loss may take
//! the newest messages; the store is the truth, and who leads a pool looks through it when it
//! begins.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::params;
use stoker_domain::port::{
    Acknowledge, Deliveries, Delivery, Message, QueueError, QueueName, StoreError, WorkQueue,
};
use stoker_domain::time::Clock;

use super::change::{integer, run};
use super::database::{Database, Schema, Sync, failed, open_reader};
use super::loans::Line;
use crate::clock::SystemClock;
use crate::codec::{decode, encode};
use crate::setup::SetupError;

/// Messages in one queue; more are refused until some are taken.
const MESSAGES_MAX: usize = 1_000_000;
/// A worker's queue goes away when nobody consumed from it for this long.
const WORKER_QUEUE_TTL_MS: u64 = 10 * 60 * 1_000;

const SCHEMA: Schema = Schema {
    version: 1,
    create: "
        CREATE TABLE queue (name TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE message (number INTEGER PRIMARY KEY, queue TEXT NOT NULL, message TEXT NOT NULL);
        CREATE INDEX message_of_queue ON message (queue);",
    open: "",
    sync: Sync::Normal,
};

/// The embedded [`WorkQueue`]. Clones share it; it is closed with the last clone and consumer.
#[derive(Clone)]
pub struct EmbeddedQueue(Arc<Shared>);

struct Shared {
    database: Database,
    lines: Mutex<HashMap<QueueName, Arc<Line>>>,
    next_number: AtomicU64,
    next_consumer: AtomicU64,
    clock: SystemClock,
}

impl EmbeddedQueue {
    /// Opens or makes the queues at `path`, as in `<data dir>/queue.db`.
    ///
    /// # Errors
    /// [`SetupError::File`] when the file can't be used, [`SetupError::Newer`] when a later version
    /// wrote it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = path.as_ref();
        let database = Database::open(path, &SCHEMA)?;
        let clock = SystemClock::new();
        let (lines, next_number) =
            load(path, clock.monotonic_ms()).map_err(|error| SetupError::File {
                path: path.to_owned(),
                message: error.to_string(),
            })?;
        Ok(Self(Arc::new(Shared {
            database,
            lines: Mutex::new(lines),
            next_number: AtomicU64::new(next_number),
            next_consumer: AtomicU64::new(1),
            clock,
        })))
    }
}

type Lines = HashMap<QueueName, Arc<Line>>;

/// What an earlier process left, and the first number that is free.
fn load(path: &Path, now_ms: u64) -> Result<(Lines, u64), StoreError> {
    let connection = open_reader(&path.to_owned())?;
    let mut lines = Lines::new();
    let mut names = connection
        .prepare("SELECT name FROM queue")
        .map_err(failed)?;
    let names = names
        .query_map([], |row| row.get::<_, String>(0))
        .map_err(failed)?;
    for name in names {
        let name: QueueName = decode(&name.map_err(failed)?)?;
        lines.insert(name.clone(), Arc::new(new_line(&name, now_ms)));
    }
    let sql = "SELECT number, queue, message FROM message ORDER BY number";
    let mut messages = connection.prepare(sql).map_err(failed)?;
    let mut rows = messages.query([]).map_err(failed)?;
    let mut next_number = 1;
    while let Some(row) = rows.next().map_err(failed)? {
        let number = row.get::<_, i64>(0).map_err(failed)?.unsigned_abs();
        let name: QueueName = decode(&row.get::<_, String>(1).map_err(failed)?)?;
        let message = decode(&row.get::<_, String>(2).map_err(failed)?)?;
        let line = lines
            .entry(name.clone())
            .or_insert_with(|| Arc::new(new_line(&name, now_ms)));
        line.push(number, message);
        next_number = number + 1;
    }
    Ok((lines, next_number))
}

fn new_line(name: &QueueName, now_ms: u64) -> Line {
    Line::new(matches!(name, QueueName::Pool(_)), now_ms)
}

fn unavailable(error: StoreError) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue to publish to: made when it is a pool's or the dead-letter queue.
    fn line_to(&self, name: &QueueName) -> Result<Arc<Line>, QueueError> {
        let now_ms = self.clock.monotonic_ms();
        let mut lines = self.lines();
        if !matches!(name, QueueName::Worker(_)) {
            let line = lines.entry(name.clone());
            return Ok(Arc::clone(
                line.or_insert_with(|| Arc::new(new_line(name, now_ms))),
            ));
        }
        let line = lines
            .get(name)
            .filter(|line| !line.expired(now_ms, WORKER_QUEUE_TTL_MS));
        line.cloned()
            .ok_or_else(|| QueueError::NoRoute(name.clone()))
    }

    /// Worker queues that nobody uses any more.
    fn expired(&self) -> Vec<QueueName> {
        let now_ms = self.clock.monotonic_ms();
        let lines = self.lines();
        let expired = lines.iter().filter(|(name, line)| {
            matches!(name, QueueName::Worker(_)) && line.expired(now_ms, WORKER_QUEUE_TTL_MS)
        });
        expired.map(|(name, _)| name.clone()).collect()
    }

    async fn put(&self, name: &QueueName, message: &Message) -> Result<(), QueueError> {
        let line = self.line_to(name)?;
        if line.len() >= MESSAGES_MAX {
            let full = format!("{name} holds {MESSAGES_MAX} messages, and takes no more");
            return Err(QueueError::Unavailable(full));
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let row = integer(number).map_err(unavailable)?;
        let (queue, text) = (encode(name), encode(message));
        let (queue, text) = (queue.map_err(unavailable)?, text.map_err(unavailable)?);
        let insert = self.database.writer.submit(move |db| {
            let sql = "INSERT INTO message (number, queue, message) VALUES (?1, ?2, ?3)";
            run(db, sql, params![row, queue, text])
        });
        // The row is in line before anybody can acknowledge it: its removal comes after it.
        let written = insert.await.map_err(unavailable)?;
        line.push(number, message.clone());
        written.wait().await.map_err(unavailable)
    }

    async fn forget(&self, name: &QueueName) -> Result<(), QueueError> {
        let line = self.lines().remove(name);
        if let Some(line) = line {
            line.remove();
        }
        let queue = encode(name).map_err(unavailable)?;
        let forgotten = self.database.writer.write(move |db| {
            run(db, "DELETE FROM message WHERE queue = ?1", params![queue])?;
            run(db, "DELETE FROM queue WHERE name = ?1", params![queue])
        });
        forgotten.await.map_err(unavailable)
    }
}

#[async_trait]
impl WorkQueue for EmbeddedQueue {
    async fn publish(&self, queue: &QueueName, message: &Message) -> Result<(), QueueError> {
        self.0.put(queue, message).await
    }

    async fn consume(&self, queue: &QueueName) -> Result<Box<dyn Deliveries>, QueueError> {
        let shared = Arc::clone(&self.0);
        for expired in shared.expired() {
            shared.forget(&expired).await?;
        }
        let name = encode(queue).map_err(unavailable)?;
        let made = shared.database.writer.write(move |db| {
            let sql = "INSERT INTO queue (name) VALUES (?1) ON CONFLICT DO NOTHING";
            run(db, sql, params![name])
        });
        made.await.map_err(unavailable)?;
        let consumer = shared.next_consumer.fetch_add(1, Ordering::Relaxed);
        let now_ms = shared.clock.monotonic_ms();
        let line = {
            let mut lines = shared.lines();
            let line = lines.entry(queue.clone());
            let line = line.or_insert_with(|| Arc::new(new_line(queue, now_ms)));
            line.join(consumer);
            Arc::clone(line)
        };
        Ok(Box::new(Consumer {
            shared,
            line,
            consumer,
        }))
    }

    async fn remove(&self, queue: &QueueName) -> Result<(), QueueError> {
        match queue {
            QueueName::Worker(_) => self.0.forget(queue).await,
            QueueName::Pool(_) | QueueName::Dead => Ok(()),
        }
    }
}

struct Consumer {
    shared: Arc<Shared>,
    line: Arc<Line>,
    consumer: u64,
}

#[async_trait]
impl Deliveries for Consumer {
    async fn next(&mut self) -> Result<Delivery, QueueError> {
        let (number, message) = self.line.lend(self.consumer).await?;
        let loan = Loan {
            shared: Arc::clone(&self.shared),
            line: Arc::clone(&self.line),
            consumer: self.consumer,
            number,
        };
        Ok(Delivery {
            message,
            loan: Box::new(loan),
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.line
            .leave(self.consumer, self.shared.clock.monotonic_ms());
    }
}

struct Loan {
    shared: Arc<Shared>,
    line: Arc<Line>,
    consumer: u64,
    number: u64,
}

#[async_trait]
impl Acknowledge for Loan {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        self.line.end(self.consumer, self.number)?;
        let row = integer(self.number).map_err(unavailable)?;
        let delete = self
            .shared
            .database
            .writer
            .submit(move |db| run(db, "DELETE FROM message WHERE number = ?1", params![row]));
        // Not waited for: were it lost, the message would only come again.
        delete.await.map(drop).map_err(unavailable)
    }

    async fn reject(self: Box<Self>) -> Result<(), QueueError> {
        let message = self.line.end(self.consumer, self.number)?;
        let row = integer(self.number).map_err(unavailable)?;
        let dead = encode(&QueueName::Dead).map_err(unavailable)?;
        let moving = self.shared.database.writer.submit(move |db| {
            let sql = "UPDATE message SET queue = ?2 WHERE number = ?1";
            run(db, sql, params![row, dead])
        });
        let moved = moving.await.map_err(unavailable)?;
        self.shared
            .line_to(&QueueName::Dead)?
            .push(self.number, message);
        moved.wait().await.map_err(unavailable)
    }
}
