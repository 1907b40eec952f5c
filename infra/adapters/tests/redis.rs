//! The contracts over Redis, and what else its adapter promises.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is a failed test"
)]

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use stoker_domain::JobId;
use stoker_domain::port::{JobStore, Point, PointStore, StoreError};
use stoker_domain::testkit::fixture::{job, request, running, submitted};
use stoker_domain::time::Millis;
use stoker_infra::testing::Redis;
use stoker_infra::{RedisConfig, RedisStore, SetupError, TieredPoints};

fn config(redis: &Redis) -> RedisConfig {
    RedisConfig {
        url: redis.url().into(),
        key_prefix: JobId::generate().to_string(),
        ..RedisConfig::default()
    }
}

async fn own_redis() -> Redis {
    tokio::task::spawn_blocking(Redis::start)
        .await
        .unwrap()
        .unwrap()
}

async fn shared_redis() -> &'static Redis {
    tokio::task::spawn_blocking(Redis::shared)
        .await
        .unwrap()
        .unwrap()
}

/// One server for all; each store has keys of its own.
async fn open() -> (RedisStore, ()) {
    let redis = shared_redis().await;
    (RedisStore::connect(&config(redis)).await.unwrap(), ())
}

mod job_store {
    stoker_domain::job_store_suite!(super::open);
}

mod catalog {
    stoker_domain::catalog_suite!(super::open);
}

mod points {
    stoker_domain::point_store_suite!(super::open);
}

/// The telemetry over the server and files of its own.
async fn open_points() -> (TieredPoints, ()) {
    let (store, ()) = open().await;
    (
        TieredPoints::new(Arc::new(store), Arc::new(InMemory::new())),
        (),
    )
}

mod telemetry {
    stoker_domain::telemetry_suite!(super::open_points);
}

/// Repeats until it is answered.
async fn in_the_end<T, F: Future<Output = Result<T, StoreError>>>(attempt: impl Fn() -> F) -> T {
    let answered = async {
        loop {
            match attempt().await {
                Ok(answer) => return answer,
                Err(StoreError::Unavailable(_)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered)
        .await
        .expect("redis doesn't come back")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_it_acknowledged() {
    let mut redis = own_redis().await;
    let store = RedisStore::connect(&config(&redis)).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (store, tell) = (store.clone(), tell.clone());
            tokio::spawn(async move {
                loop {
                    let change = job("digits");
                    let id = change.record.id;
                    let created = store
                        .create_job(&change, &request(&id.to_string(), "body"))
                        .await;
                    if created.is_err() || tell.send(id).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(tell);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 500 {
        acknowledged.push(told.recv().await.unwrap());
    }
    let redis = tokio::task::spawn_blocking(move || {
        redis.kill();
        redis
    });
    let mut redis = redis.await.unwrap();
    while let Some(id) = told.recv().await {
        acknowledged.push(id);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(matches!(
        store.outbox(1).await,
        Err(StoreError::Unavailable(_))
    ));
    let _redis = tokio::task::spawn_blocking(move || redis.restart().map(|()| redis))
        .await
        .unwrap()
        .unwrap();
    for id in acknowledged {
        let record = in_the_end(|| store.job(id)).await;
        assert!(record.is_some(), "an acknowledged job is lost");
    }
    // The same store goes on, scripts included.
    let id = submitted(&store, "after").await;
    running(&store, id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_unavailable_in_time_and_then_goes_on() {
    let redis = own_redis().await;
    let config = RedisConfig {
        timeout: Millis(200),
        ..config(&redis)
    };
    let store = RedisStore::connect(&config).await.unwrap();
    let id = submitted(&store, "digits").await;
    redis.pause();
    let answer = tokio::time::timeout(Duration::from_secs(5), store.job(id)).await;
    assert!(
        matches!(answer, Ok(Err(StoreError::Unavailable(_)))),
        "{answer:?}"
    );
    redis.resume();
    assert!(in_the_end(|| store.job(id)).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_writes_is_refused_unless_allowed() {
    let start = || Redis::start_with(&[("appendonly", "yes"), ("maxmemory-policy", "allkeys-lru")]);
    let redis = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let mut config = config(&redis);
    let refused = RedisStore::connect(&config).await.err().unwrap();
    assert!(matches!(refused, SetupError::Unsafe(_)));
    let said = refused.to_string();
    for part in [
        "appendfsync is everysec, not always",
        "maxmemory-policy is allkeys-lru",
    ] {
        assert!(said.contains(part), "{said}");
    }
    config.allow_unsafe_durability = true;
    let store = RedisStore::connect(&config).await.unwrap();
    submitted(&store, "digits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_later_version_are_refused() {
    let redis = shared_redis().await;
    let config = config(redis);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{{{}}}:form", config.key_prefix);
    redis::Cmd::set(key, 99)
        .exec_async(&mut connection)
        .await
        .unwrap();
    let refused = RedisStore::connect(&config).await.err().unwrap();
    assert!(
        matches!(refused, SetupError::Newer { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_earlier_version_are_brought_up_to_date() {
    let redis = shared_redis().await;
    let config = config(redis);
    let store = RedisStore::connect(&config).await.unwrap();
    let id = submitted(&store, "digits").await;
    let points = [Point {
        metric: "loss".to_owned(),
        step: 1,
        value: 0.5,
    }];
    store.append_points(id, 1, &points).await.unwrap();
    let known = (store.tenants().await, store.jobs_with_points(None, 9).await);
    // As form 1 left it.
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = |name: &str| format!("{{{}}}:{name}", config.key_prefix);
    let mut older = redis::pipe();
    older
        .set(key("form"), 1)
        .del(key("tenants"))
        .del(key("jobs-with-points"));
    older.exec_async(&mut connection).await.unwrap();
    assert_eq!(store.tenants().await, Ok(Vec::new()));
    for _ in 0..2 {
        let store = RedisStore::connect(&config).await.unwrap();
        let again = (store.tenants().await, store.jobs_with_points(None, 9).await);
        assert_eq!(again, known);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named_without_secrets() {
    let cases = [
        ("http://user:hunter2@host", "stoker", "redis.url"),
        ("redis://host", "", "redis.key_prefix"),
        ("redis://host", "a}b", "redis.key_prefix"),
    ];
    for (url, key_prefix, field) in cases {
        let config = RedisConfig {
            url: url.into(),
            key_prefix: key_prefix.to_owned(),
            ..RedisConfig::default()
        };
        let said = RedisStore::connect(&config)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.starts_with(field) && !said.contains("hunter2"),
            "{said}"
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changes_documents_are_written_with_it() {
    let (store, ()) = open().await;
    stoker_domain::testkit::job_store::a_changes_documents_are_written_with_it(&store, &store)
        .await;
}
