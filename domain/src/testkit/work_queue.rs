//! The contract of [`WorkQueue`].
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::fixture::pool;
use crate::JobId;
use crate::port::{Deliveries, Delivery, Message, QueueError, QueueName, WorkQueue};

/// Makes one test of each contract of the queue.
#[macro_export]
macro_rules! work_queue_suite {
    ($open:expr) => {
        $crate::contract_tests!(
            work_queue,
            $open,
            [
                messages_come_in_order,
                a_pools_messages_wait_for_a_consumer,
                what_is_published_while_waiting_is_delivered,
                a_workers_queue_begins_with_its_consumer,
                what_was_not_acknowledged_comes_again,
                what_was_acknowledged_does_not,
                a_pool_has_one_consumer_at_a_time,
                what_was_rejected_is_dead,
                concurrent_publishes_all_arrive,
                concurrent_publishes_know_which_has_no_route,
                removing_a_queue_ends_its_consumer,
            ]
        );
    };
}

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn pool_queue() -> QueueName {
    QueueName::Pool(pool("default"))
}

fn worker_queue(name: &str) -> QueueName {
    QueueName::Worker(name.parse().unwrap())
}

fn messages(count: u64) -> Vec<Message> {
    let job = JobId::generate();
    (1..=count).map(|token| Message::new(job, token)).collect()
}

async fn publish(queue: &dyn WorkQueue, name: &QueueName, messages: &[Message]) {
    for message in messages {
        queue.publish(name, message).await.unwrap();
    }
}

async fn next(consumer: &mut Box<dyn Deliveries>) -> Delivery {
    let delivery = timeout(PATIENCE, consumer.next()).await;
    delivery.expect("nothing was delivered").unwrap()
}

async fn take(consumer: &mut Box<dyn Deliveries>, count: usize) -> Vec<Message> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let delivery = next(consumer).await;
        taken.push(delivery.message);
        delivery.loan.ack().await.unwrap();
    }
    taken
}

/// First in, first out.
pub async fn messages_come_in_order(queue: &dyn WorkQueue) {
    let sent = messages(20);
    let mut consumer = queue.consume(&pool_queue()).await.unwrap();
    publish(queue, &pool_queue(), &sent).await;
    assert_eq!(take(&mut consumer, 20).await, sent);
}

/// A pool's queue is there before anybody consumes from it.
pub async fn a_pools_messages_wait_for_a_consumer(queue: &dyn WorkQueue) {
    let sent = messages(3);
    publish(queue, &pool_queue(), &sent).await;
    let mut consumer = queue.consume(&pool_queue()).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, sent);
}

/// A consumer that waits gets what comes.
pub async fn what_is_published_while_waiting_is_delivered(queue: &dyn WorkQueue) {
    let name = pool_queue();
    let mut consumer = queue.consume(&name).await.unwrap();
    for message in messages(5) {
        let (delivery, sent) = tokio::join!(next(&mut consumer), queue.publish(&name, &message));
        sent.unwrap();
        assert_eq!(delivery.message, message);
        delivery.loan.ack().await.unwrap();
    }
}

/// Until then, and after its removal, nothing takes its messages.
pub async fn a_workers_queue_begins_with_its_consumer(queue: &dyn WorkQueue) {
    let (name, sent) = (worker_queue("worker-1"), messages(2));
    let no_route = Err(QueueError::NoRoute(name.clone()));
    assert_eq!(queue.publish(&name, &sent[0]).await, no_route);
    let mut consumer = queue.consume(&name).await.unwrap();
    publish(queue, &name, &sent).await;
    assert_eq!(take(&mut consumer, 2).await, sent);
    drop(consumer);
    queue.publish(&name, &sent[0]).await.unwrap();
    queue.remove(&name).await.unwrap();
    assert_eq!(queue.publish(&name, &sent[0]).await, no_route);
    queue.remove(&name).await.unwrap();
}

/// In the old order, when its consumer is over.
pub async fn what_was_not_acknowledged_comes_again(queue: &dyn WorkQueue) {
    for name in [pool_queue(), worker_queue("worker-1")] {
        let sent = messages(3);
        let mut first = queue.consume(&name).await.unwrap();
        publish(queue, &name, &sent).await;
        let lent = [next(&mut first).await, next(&mut first).await];
        assert_eq!([&lent[0].message, &lent[1].message], [&sent[0], &sent[1]]);
        drop((lent, first));
        let mut second = queue.consume(&name).await.unwrap();
        assert_eq!(take(&mut second, 3).await, sent, "{name}");
    }
}

/// Not even to the next consumer.
pub async fn what_was_acknowledged_does_not(queue: &dyn WorkQueue) {
    let sent = messages(3);
    let mut first = queue.consume(&pool_queue()).await.unwrap();
    publish(queue, &pool_queue(), &sent).await;
    take(&mut first, 2).await;
    drop(first);
    let mut second = queue.consume(&pool_queue()).await.unwrap();
    assert_eq!(take(&mut second, 1).await, sent[2..]);
}

/// The second consumer waits for the first to end.
pub async fn a_pool_has_one_consumer_at_a_time(queue: &dyn WorkQueue) {
    let sent = messages(11);
    let mut first = queue.consume(&pool_queue()).await.unwrap();
    let mut second = queue.consume(&pool_queue()).await.unwrap();
    publish(queue, &pool_queue(), &sent[..10]).await;
    assert_eq!(
        take(&mut first, 10).await,
        sent[..10],
        "the first gets all of them"
    );
    drop(first);
    publish(queue, &pool_queue(), &sent[10..]).await;
    assert_eq!(take(&mut second, 1).await, sent[10..]);
}

/// It goes to the dead-letter queue, and doesn't come again.
pub async fn what_was_rejected_is_dead(queue: &dyn WorkQueue) {
    let sent = messages(3);
    let mut consumer = queue.consume(&pool_queue()).await.unwrap();
    publish(queue, &pool_queue(), &sent).await;
    let bad = next(&mut consumer).await;
    bad.loan.reject().await.unwrap();
    assert_eq!(take(&mut consumer, 2).await, sent[1..]);
    let mut dead = queue.consume(&QueueName::Dead).await.unwrap();
    assert_eq!(take(&mut dead, 1).await, sent[..1]);
}

/// Many at a time, none lost.
pub async fn concurrent_publishes_all_arrive(queue: &dyn WorkQueue) {
    let (name, sent) = (pool_queue(), messages(200));
    for published in join_all(sent.iter().map(|message| queue.publish(&name, message))).await {
        published.unwrap();
    }
    let mut consumer = queue.consume(&name).await.unwrap();
    let tokens = |messages: Vec<Message>| -> BTreeSet<u64> {
        messages.into_iter().map(|message| message.token).collect()
    };
    assert_eq!(tokens(take(&mut consumer, 200).await), tokens(sent));
}

/// Each learns its own outcome.
pub async fn concurrent_publishes_know_which_has_no_route(queue: &dyn WorkQueue) {
    let (there, missing) = (pool_queue(), worker_queue("nobody"));
    let sent = messages(100);
    let publishes = sent.iter().map(|message| async {
        let odd = message.token % 2 == 1;
        let name = if odd { &there } else { &missing };
        (odd, queue.publish(name, message).await)
    });
    for (odd, published) in join_all(publishes).await {
        match odd {
            true => assert_eq!(published, Ok(())),
            false => assert_eq!(published, Err(QueueError::NoRoute(missing.clone()))),
        }
    }
}

/// Its consumer is told rather than left to wait.
pub async fn removing_a_queue_ends_its_consumer(queue: &dyn WorkQueue) {
    let name = worker_queue("worker-1");
    let mut consumer = queue.consume(&name).await.unwrap();
    queue.remove(&name).await.unwrap();
    let ended = timeout(PATIENCE, consumer.next())
        .await
        .expect("the consumer still waits");
    assert!(matches!(ended, Err(QueueError::Unavailable(_))));
}
