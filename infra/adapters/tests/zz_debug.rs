//! debug
use std::time::{Duration, Instant};
use stoker_domain::JobId;
use stoker_domain::port::{Message, QueueName, WorkQueue};
use stoker_infra::testing::Rabbit;
use stoker_infra::{RabbitConfig, RabbitQueue};
#[tokio::test(flavor = "multi_thread")]
async fn dbg() {
    let mut rabbit = tokio::task::spawn_blocking(Rabbit::start).await.unwrap().unwrap();
    let config = RabbitConfig { url: rabbit.url().into(), ..RabbitConfig::default() };
    let queue = RabbitQueue::new(&config).unwrap();
    let name = if std::env::var("WORKER").is_ok() { QueueName::Worker("w".parse().unwrap()) } else { QueueName::Pool("default".parse().unwrap()) };
    let mut consumer = queue.consume(&name).await.unwrap();
    for t in 0..3 { queue.publish(&name, &Message::new(JobId::generate(), t)).await.unwrap(); }
    let rabbit = tokio::task::spawn_blocking(move || { rabbit.kill(); rabbit }).await.unwrap();
    let t0 = Instant::now();
    while consumer.next().await.is_ok() {}
    eprintln!("consumer ended {:?}", t0.elapsed());
    drop(consumer);
    let mut rabbit = rabbit;
    let rabbit = tokio::task::spawn_blocking(move || { rabbit.restart().unwrap(); rabbit }).await.unwrap();
    eprintln!("restarted {:?}", t0.elapsed());
    let mut consumer = loop { match tokio::time::timeout(Duration::from_secs(20), queue.consume(&name)).await { Ok(Ok(c)) => break c, e => { eprintln!("{:?} {:?}", t0.elapsed(), e.map(|r| r.err())); tokio::time::sleep(Duration::from_millis(500)).await; } } };
    eprintln!("consuming {:?}", t0.elapsed());
    for _ in 0..3 { let d = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await; eprintln!("{:?} {:?}", t0.elapsed(), d.map(|r| r.map(|d| d.message.token))); }
    drop(rabbit);
}
