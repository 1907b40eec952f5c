//! The relay, over the embedded store and a queue that fails when it is told to.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stoker_domain::port::{Deliveries, JobStore, Message, QueueError, QueueName, Relay, WorkQueue};
use stoker_domain::testkit::fixture::{dispatched, job, submit, submitted};
use stoker_domain::time::Millis;
use stoker_infra::{EmbeddedStore, OutboxRelay, RelayConfig};

#[derive(Default)]
struct Queue {
    away: AtomicBool,
    published: Mutex<Vec<Message>>,
}

#[async_trait]
impl WorkQueue for Queue {
    async fn publish(&self, queue: &QueueName, message: &Message) -> Result<(), QueueError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(QueueError::Unavailable("away".to_owned()));
        }
        if matches!(queue, QueueName::Worker(_)) {
            return Err(QueueError::NoRoute(queue.clone()));
        }
        self.published.lock().unwrap().push(message.clone());
        Ok(())
    }

    async fn consume(&self, _: &QueueName) -> Result<Box<dyn Deliveries>, QueueError> {
        unreachable!("the relay doesn't consume")
    }

    async fn remove(&self, _: &QueueName) -> Result<(), QueueError> {
        unreachable!("the relay removes nothing")
    }
}

fn open() -> (Arc<EmbeddedStore>, Arc<Queue>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("stoker.db")).unwrap();
    (Arc::new(store), Arc::default(), dir)
}

fn quick() -> RelayConfig {
    RelayConfig {
        sweep_every: Millis(20),
        ..RelayConfig::default()
    }
}

/// One that sweeps once, at its start.
fn unhurried() -> RelayConfig {
    RelayConfig {
        sweep_every: Millis(3_600_000),
        ..RelayConfig::default()
    }
}

async fn emptied(store: &EmbeddedStore) {
    let empty = async {
        while !store.outbox(1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), empty)
        .await
        .expect("the outbox isn't emptied");
}

#[tokio::test]
async fn what_it_is_told_of_is_published_and_cleared() {
    let (store, queue, _dir) = open();
    let relay = OutboxRelay::start(store.clone(), queue.clone(), &unhurried());
    let change = job("digits");
    submit(&*store, &change).await;
    relay.notify(change.outbox());
    emptied(&store).await;
    assert_eq!(
        *queue.published.lock().unwrap(),
        [change.messages[0].1.clone()]
    );
    relay.stop().await;
    relay.notify(change.outbox());
}

#[tokio::test]
async fn what_was_left_by_an_earlier_process_is_published() {
    let (store, queue, _dir) = open();
    let mut written = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        written.push(submitted(&*store, name).await);
    }
    let config = RelayConfig {
        sweep_limit: 2,
        ..unhurried()
    };
    // So little at a time that it takes several sweeps: they follow each other at once.
    let _relay = OutboxRelay::start(
        store.clone(),
        queue.clone(),
        &RelayConfig {
            sweep_every: Millis(200),
            ..config
        },
    );
    emptied(&store).await;
    let published = queue.published.lock().unwrap();
    let published: Vec<_> = published.iter().map(|message| message.job).collect();
    assert_eq!(published, written);
}

#[tokio::test]
async fn what_nobody_told_it_of_is_found() {
    let (store, queue, _dir) = open();
    let _relay = OutboxRelay::start(store.clone(), queue.clone(), &quick());
    submitted(&*store, "digits").await;
    emptied(&store).await;
    assert_eq!(queue.published.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_to_a_worker_that_is_gone_is_dropped() {
    let (store, queue, _dir) = open();
    let id = submitted(&*store, "digits").await;
    dispatched(&*store, id).await;
    assert_eq!(store.outbox(10).await.unwrap().len(), 2);
    let _relay = OutboxRelay::start(store.clone(), queue.clone(), &quick());
    emptied(&store).await;
    assert_eq!(queue.published.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn while_the_queue_is_away_messages_stay() {
    let (store, queue, _dir) = open();
    queue.away.store(true, Ordering::SeqCst);
    let relay = OutboxRelay::start(store.clone(), queue.clone(), &quick());
    for name in ["one", "two", "three"] {
        let change = job(name);
        submit(&*store, &change).await;
        relay.notify(change.outbox());
    }
    relay.stop().await;
    assert_eq!(store.outbox(10).await.unwrap().len(), 3);
    let _relay = OutboxRelay::start(store.clone(), queue.clone(), &quick());
    queue.away.store(false, Ordering::SeqCst);
    emptied(&store).await;
    assert_eq!(queue.published.lock().unwrap().len(), 3);
}
