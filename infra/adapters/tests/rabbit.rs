//! The contract over RabbitMQ, and what else its adapter promises.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use stoker_domain::JobId;
use stoker_domain::port::{Message, QueueError, QueueName, WorkQueue};
use stoker_domain::testkit::fixture::pool;
use stoker_domain::time::Millis;
use stoker_infra::testing::Rabbit;
use stoker_infra::{RabbitConfig, RabbitQueue, SetupError};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(rabbit: &Rabbit) -> RabbitConfig {
    RabbitConfig {
        url: rabbit.url().into(),
        queue_prefix: format!("test.{}", JobId::generate()),
        ..RabbitConfig::default()
    }
}

async fn shared_rabbit() -> &'static Rabbit {
    tokio::task::spawn_blocking(Rabbit::shared)
        .await
        .unwrap()
        .unwrap()
}

/// One broker for all; each adapter has queues of its own.
async fn open() -> (RabbitQueue, ()) {
    let rabbit = shared_rabbit().await;
    (RabbitQueue::new(&config(rabbit)).unwrap(), ())
}

mod work_queue {
    stoker_domain::work_queue_suite!(super::open);
}

fn pool_queue() -> QueueName {
    QueueName::Pool(pool("default"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_queue_goes_away_when_nobody_consumes() {
    let config = RabbitConfig {
        worker_queue_ttl: Millis(500),
        ..config(shared_rabbit().await)
    };
    let queue = RabbitQueue::new(&config).unwrap();
    let (name, message) = (
        QueueName::Worker("worker-1".parse().unwrap()),
        Message::new(JobId::generate(), 1),
    );
    drop(queue.consume(&name).await.unwrap());
    let gone = async {
        while queue.publish(&name, &message).await != Err(QueueError::NoRoute(name.clone())) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("the queue stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_dead() {
    let config = config(shared_rabbit().await);
    let queue = RabbitQueue::new(&config).unwrap();
    let mut consumer = queue.consume(&pool_queue()).await.unwrap();
    let url = shared_rabbit().await.url();
    let connection = lapin::Connection::connect(&url, Default::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let name = format!("{}.pool.default", config.queue_prefix);
    let garbage = b"{\"version\":9}";
    channel
        .basic_publish(
            "".into(),
            name.into(),
            Default::default(),
            garbage,
            Default::default(),
        )
        .await
        .unwrap();
    let message = Message::new(JobId::generate(), 1);
    queue.publish(&pool_queue(), &message).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.message, message);
    let dead = format!("{}.dead", config.queue_prefix);
    let buried = async {
        loop {
            let got = channel
                .basic_get(dead.as_str().into(), Default::default())
                .await
                .unwrap();
            if let Some(got) = got {
                return got.delivery.data;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(
        tokio::time::timeout(PATIENCE, buried).await.unwrap(),
        garbage
    );
}

/// One broker of its own for all that breaks it: it takes 10 s to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_broker_loses_nothing_it_confirmed() {
    let rabbit = tokio::task::spawn_blocking(Rabbit::start)
        .await
        .unwrap()
        .unwrap();
    let config = RabbitConfig {
        timeout: Millis(2_000),
        ..config(&rabbit)
    };
    let queue = Arc::new(RabbitQueue::new(&config).unwrap());
    let mut consumer = queue.consume(&pool_queue()).await.unwrap();
    let job = JobId::generate();
    queue
        .publish(&pool_queue(), &Message::new(job, 0))
        .await
        .unwrap();

    // A broker that hangs: no answer, in time; afterwards everything goes on.
    rabbit.pause();
    let (name, message) = (pool_queue(), Message::new(job, 1));
    let hung = tokio::time::timeout(PATIENCE, queue.publish(&name, &message)).await;
    let hung = hung.expect("publishing hangs with the broker");
    assert!(matches!(hung, Err(QueueError::Unavailable(_))), "{hung:?}");
    rabbit.resume();
    publish_in_the_end(&queue, &Message::new(job, 2)).await;

    // A broker that crashes while it is written to.
    let (rabbit, mut confirmed) = crash_while_publishing(rabbit, &queue, job).await;
    confirmed.extend([0, 2]);
    let ended = async { while consumer.next().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the consumer doesn't notice");
    drop(consumer);
    assert!(queue.consume(&pool_queue()).await.is_err());
    let mut rabbit = rabbit;
    let restarted = tokio::task::spawn_blocking(move || rabbit.restart().map(|()| rabbit));
    let _rabbit = restarted.await.unwrap().unwrap();
    let collected = collect(&queue, &mut confirmed);
    let collected = tokio::time::timeout(PATIENCE, collected).await;
    assert!(
        collected.is_ok(),
        "confirmed messages are lost: {confirmed:?}"
    );
}

/// Kills the broker under a publisher; answers the tokens that it had confirmed.
async fn crash_while_publishing(
    mut rabbit: Rabbit,
    queue: &Arc<RabbitQueue>,
    job: JobId,
) -> (Rabbit, HashSet<u64>) {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let publishing = Arc::clone(queue);
    let publisher = tokio::spawn(async move {
        for token in 3.. {
            match publishing
                .publish(&pool_queue(), &Message::new(job, token))
                .await
            {
                Ok(()) => tell.send(token).unwrap(),
                Err(_) => return,
            }
        }
    });
    let mut confirmed = HashSet::new();
    while confirmed.len() < 300 {
        confirmed.insert(told.recv().await.unwrap());
    }
    let killed = tokio::task::spawn_blocking(move || {
        rabbit.kill();
        rabbit
    });
    let rabbit = killed.await.unwrap();
    publisher.await.unwrap();
    while let Some(token) = told.recv().await {
        confirmed.insert(token);
    }
    (rabbit, confirmed)
}

/// Consumes until none of these is missing.
async fn collect(queue: &RabbitQueue, missing: &mut HashSet<u64>) {
    let mut consumer = loop {
        match queue.consume(&pool_queue()).await {
            Ok(consumer) => break consumer,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    while !missing.is_empty() {
        let delivery = consumer.next().await.unwrap();
        missing.remove(&delivery.message.token);
        delivery.loan.ack().await.unwrap();
    }
}

async fn publish_in_the_end(queue: &RabbitQueue, message: &Message) {
    let published = async {
        while queue.publish(&pool_queue(), message).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published)
        .await
        .expect("the broker doesn't come back");
}

#[tokio::test]
async fn a_broker_that_is_away_is_unavailable() {
    let config = RabbitConfig {
        url: "amqp://guest:guest@127.0.0.1:1/%2f".into(),
        ..RabbitConfig::default()
    };
    let queue = RabbitQueue::new(&config).unwrap();
    let published = queue
        .publish(&pool_queue(), &Message::new(JobId::generate(), 1))
        .await;
    assert!(matches!(published, Err(QueueError::Unavailable(_))));
    assert!(matches!(
        queue.consume(&pool_queue()).await.err(),
        Some(QueueError::Unavailable(_))
    ));
}

#[test]
fn settings_that_cannot_be_used_are_named_without_secrets() {
    let wrong = RabbitConfig {
        url: "http://user:hunter2@host".into(),
        ..RabbitConfig::default()
    };
    let refused = RabbitQueue::new(&wrong).err().unwrap();
    assert!(matches!(
        refused,
        SetupError::Config {
            field: "rabbit.url",
            ..
        }
    ));
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    assert!(!format!("{wrong:?}").contains("hunter2"));
    let refused = RabbitQueue::new(&RabbitConfig {
        prefetch: 0,
        ..RabbitConfig::default()
    });
    assert!(matches!(
        refused.err(),
        Some(SetupError::Config {
            field: "rabbit.prefetch",
            ..
        })
    ));
}
