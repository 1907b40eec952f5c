//! The contracts over the embedded adapters, and what else they promise: durability.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use stoker_domain::PoolName;
use stoker_domain::job::Transition;
use stoker_domain::port::{
    Catalog, CatalogKind, Creation, Expect, JobStore, Message, Point, PointStore, QueueName,
    WorkQueue,
};
use stoker_domain::testkit::fixture::{
    guard, holder, job, pool, request, running, step, submit, submitted, tenant,
};
use stoker_infra::{DataDir, EmbeddedQueue, EmbeddedStore, SetupError, TieredPoints};
use tempfile::TempDir;

async fn open_store() -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (
        EmbeddedStore::open(dir.path().join("stoker.db")).unwrap(),
        dir,
    )
}

async fn open_queue() -> (EmbeddedQueue, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (
        EmbeddedQueue::open(dir.path().join("queue.db")).unwrap(),
        dir,
    )
}

mod job_store {
    stoker_domain::job_store_suite!(super::open_store);
}

mod catalog {
    stoker_domain::catalog_suite!(super::open_store);
}

mod points {
    stoker_domain::point_store_suite!(super::open_store);
}

/// The telemetry over a store and a directory of files; four points more, and it spills.
async fn open_points() -> (TieredPoints, TempDir) {
    let (store, dir) = open_store().await;
    let files = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    let points = TieredPoints::new(Arc::new(store), Arc::new(files));
    (points.spill_after(4), dir)
}

mod telemetry {
    stoker_domain::telemetry_suite!(super::open_points);
}

mod work_queue {
    stoker_domain::work_queue_suite!(super::open_queue);
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let (store, dir) = open_store().await;
    let path = dir.path().join("stoker.db");
    let change = job("digits");
    let id = submit(&store, &change).await;
    let token = running(&store, id).await;
    store
        .renew_lease(id, token, &Default::default())
        .await
        .unwrap();
    let points = [Point {
        metric: "loss".to_owned(),
        step: 1,
        value: 0.5,
    }];
    store.append_points(id, token, &points).await.unwrap();
    let (acme, value) = (tenant("acme"), serde_json::json!({ "rows": 3 }));
    store
        .put(
            CatalogKind::Dataset,
            &acme,
            "a@1",
            &value,
            Expect::Absent,
            &[],
        )
        .await
        .unwrap();
    let (events, outbox) = (store.events(id, 0, 10).await, store.outbox(10).await);
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.events(id, 0, 10).await, events);
    assert_eq!(store.outbox(10).await, outbox);
    assert_eq!(store.leases(&pool("default")).await.unwrap().len(), 1);
    assert_eq!(
        store
            .stored_points(id, "loss", 0..=9, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    let entry = store.get(CatalogKind::Dataset, &acme, "a@1").await.unwrap();
    assert_eq!(entry.unwrap().value, value);
    let again = store
        .create_job(&job("digits"), &request(&id.to_string(), "body"))
        .await;
    assert!(matches!(again, Ok(Creation::Replayed { .. })));
}

#[tokio::test]
async fn a_leader_of_an_earlier_process_is_fenced() {
    let (store, dir) = open_store().await;
    let id = submitted(&store, "digits").await;
    let default: PoolName = pool("default");
    assert_eq!(store.lead(&default, "a", 3_600_000).await, Ok(Some(1)));
    drop(store);
    let store = EmbeddedStore::open(dir.path().join("stoker.db")).unwrap();
    assert_eq!(store.lead(&default, "b", 60_000).await, Ok(Some(2)));
    let change = store.job(id).await.unwrap().unwrap();
    let change = change
        .apply(Transition::Dispatch(holder()), change.created_at)
        .unwrap();
    let update = store.update_job(&change, Some(&guard("default", 1))).await;
    assert_eq!(update, Ok(stoker_domain::port::Update::Fenced));
}

#[tokio::test]
async fn queues_and_their_messages_are_there_after_reopening() {
    let (queue, dir) = open_queue().await;
    let (worker, name) = (
        "worker-1".parse().unwrap(),
        QueueName::Pool(pool("default")),
    );
    let worker = QueueName::Worker(worker);
    let sent: Vec<_> = (1..=4)
        .map(|token| Message::new(job("a").record.id, token))
        .collect();
    let mut consumer = queue.consume(&name).await.unwrap();
    for message in &sent {
        queue.publish(&name, message).await.unwrap();
    }
    drop(queue.consume(&worker).await.unwrap());
    queue.publish(&worker, &sent[0]).await.unwrap();
    let first = consumer.next().await.unwrap();
    let second = consumer.next().await.unwrap();
    second.loan.ack().await.unwrap();
    let third = consumer.next().await.unwrap();
    third.loan.reject().await.unwrap();
    drop((first, consumer, queue));
    let queue = EmbeddedQueue::open(dir.path().join("queue.db")).unwrap();
    for (name, left) in [
        (name, vec![&sent[0], &sent[3]]),
        (worker, vec![&sent[0]]),
        (QueueName::Dead, vec![&sent[2]]),
    ] {
        let mut consumer = queue.consume(&name).await.unwrap();
        for message in left {
            assert_eq!(consumer.next().await.unwrap().message, *message, "{name}");
        }
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let (store, dir) = open_store().await;
    drop(store);
    let path = dir.path().join("stoker.db");
    let later = rusqlite::Connection::open(&path).unwrap();
    later.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(later);
    let refused = EmbeddedStore::open(&path).err().unwrap();
    assert!(
        matches!(refused, SetupError::Newer { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_named() {
    let refused = EmbeddedStore::open("/nowhere/at/all/stoker.db")
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("/nowhere/at/all/stoker.db"),
        "{refused}"
    );
}

/// Set for the child process of the next test; the place of its store.
const VICTIM: &str = "STOKER_TEST_VICTIM";

/// Not a test by itself: what the child process of the next one does until it is killed. It prints
/// what the store has acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let dir = DataDir::lock(dir).unwrap();
    let store = EmbeddedStore::open(dir.join("stoker.db")).unwrap();
    let queue = EmbeddedQueue::open(dir.join("queue.db")).unwrap();
    let writers = (0..8).map(|_| {
        let (store, queue) = (store.clone(), queue.clone());
        tokio::spawn(async move {
            loop {
                let id = submitted(&store, "digits").await;
                let record = step(&store, id, Transition::Dispatch(holder())).await;
                let name = QueueName::Pool(pool("default"));
                queue
                    .publish(&name, &Message::new(id, record.token))
                    .await
                    .unwrap();
                println!("acknowledged {id}");
            }
        })
    });
    // Until one of them fails or, as is meant, this process is killed.
    futures::future::select_all(writers).await.0.unwrap();
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    use std::io::{BufRead, BufReader};

    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let note = |line: String, acknowledged: &mut Vec<String>| {
        if let Some((_, id)) = line.split_once("acknowledged ") {
            acknowledged.push(id.to_owned());
        }
    };
    while acknowledged.len() < 200 {
        note(
            lines.next().expect("the child ended").unwrap(),
            &mut acknowledged,
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had still printed; its last line may be cut off.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    rest.into_iter()
        .filter(|line| line.len() == "acknowledged job-".len() + 32)
        .for_each(|line| note(line, &mut acknowledged));

    let dir = DataDir::lock(dir.path()).unwrap();
    let store = EmbeddedStore::open(dir.join("stoker.db")).unwrap();
    for id in &acknowledged {
        let id = id.parse().unwrap();
        let record = store
            .job(id)
            .await
            .unwrap()
            .expect("an acknowledged job is lost");
        assert_eq!(record.revision, 2, "an acknowledged update is lost");
        assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 2);
    }
    let queue = EmbeddedQueue::open(dir.join("queue.db")).unwrap();
    let mut consumer = queue
        .consume(&QueueName::Pool(pool("default")))
        .await
        .unwrap();
    let mut missing: std::collections::HashSet<_> = acknowledged.into_iter().collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await;
        let delivery = next.expect("an acknowledged message is lost").unwrap();
        missing.remove(&delivery.message.job.to_string());
    }
}

#[tokio::test]
async fn a_changes_documents_are_written_with_it() {
    let (store, _dir) = open_store().await;
    stoker_domain::testkit::job_store::a_changes_documents_are_written_with_it(&store, &store)
        .await;
}
