//! What people ask of a job, and what its spec limits, through the built binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod harness;

use std::time::Duration;

use harness::Bench;
use stoker::launch::Platform;
use stoker_domain::job::FailureKind;
use stoker_domain::pool::PoolSettings;
use stoker_domain::spec::Priority;
use stoker_domain::time::Millis;
use stoker_domain::view::{BatchAction, BatchRequest};
use stoker_domain::worker::Standing;
use stoker_domain::{ErrorCode, JobId, JobState};
use stoker_sdk::ExplainQuery;

/// A job that would run for minutes, with a checkpoint every few steps.
fn endless_job(resources: &str) -> String {
    let job = harness::long_job().replace("epochs = 60", "epochs = 20000");
    format!("{job}\n[resources]\n{resources}\n")
}

async fn wait_for(bench: &Bench, id: JobId, state: JobState) {
    while bench.client().get_job(id).await.unwrap().state != state {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody runs longer than was said, and what was done isn't lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_reaches_its_time_ends_with_a_checkpoint() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let spec = endless_job("max_time = \"2s\"");
    let job = client.create_job_toml(&spec).await.unwrap();
    let ended = client.wait_job(job.id).await.unwrap();
    assert_eq!(ended.state, JobState::Failed);
    let failure = ended.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(
        failure.message.contains("resources.max_time, 2s"),
        "{}",
        failure.message
    );
    assert!(
        ended
            .checkpoint
            .is_some_and(|checkpoint| checkpoint.step > 0)
    );
    assert!(ended.used.run_ms >= 2_000, "{:?}", ended.used);
    // A second attempt would have nothing left; what a pause interrupts counts too.
    let spec = endless_job("max_time = \"4s\"");
    let job = client.create_job_toml(&spec).await.unwrap();
    bench.past_checkpoint(job.id, 1).await;
    client.pause_job(job.id).await.unwrap();
    wait_for(&bench, job.id, JobState::Paused).await;
    let before = client.get_job(job.id).await.unwrap().used.run_ms;
    assert!(before > 0);
    client.resume_job(job.id).await.unwrap();
    let ended = client.wait_job(job.id).await.unwrap();
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Timeout);
    assert!(ended.used.run_ms >= 4_000, "{:?}", ended.used);
    let usage = client
        .list_usage(&stoker_sdk::UsageQuery::default(), None)
        .await
        .unwrap();
    let of_job = usage
        .attempts
        .iter()
        .filter(|attempt| attempt.job == job.id);
    let run_ms: u64 = of_job.map(|attempt| attempt.used.run_ms).sum();
    assert_eq!(run_ms, ended.used.run_ms);
    bench.platform.stop().await.unwrap();
}

/// A copy that was made while the platform went on is a platform, where the copy was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_where_it_was_made() {
    let bench = Bench::embedded().await;
    let reference = bench.reference().await;
    let id = bench.in_the_middle().await;
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    let back_up = |to: &std::path::Path| {
        std::process::Command::new(harness::program())
            .args(["admin", "backup"])
            .arg(to)
            .env("STOKER__DATA_DIR", bench.data_dir())
            .output()
            .unwrap()
    };
    let done = back_up(&copy);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert_eq!(bench.weights(id).await, reference);
    let again = back_up(&copy);
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("isn't empty")
    );
    bench.platform.stop().await.unwrap();
    let platform = Platform::embedded(harness::program(), &copy, &[])
        .await
        .unwrap();
    let client = platform.client().unwrap();
    let job = client.wait_job(id).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    assert_eq!(harness::weights(&job), reference);
    let events = client.list_events(id, 0, None).await.unwrap().events;
    assert!(
        events
            .iter()
            .map(|event| event.position)
            .eq(0..events.len() as u64)
    );
    platform.stop().await.unwrap();
}

/// ClearML's users found a task "stopped" before its abort callback had saved anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_gentle_cancel_saves_a_checkpoint_first() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let spec = endless_job("").replace("every_steps = 20", "every_steps = 1000000");
    let job = client.create_job_toml(&spec).await.unwrap();
    loop {
        let progress = client.get_job(job.id).await.unwrap().progress;
        if progress.is_some_and(|progress| progress.step > 5) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = client.cancel_job_gently(job.id).await.unwrap();
    assert!(matches!(
        asked.state,
        JobState::Pausing | JobState::Cancelled
    ));
    let ended = client.wait_job(job.id).await.unwrap();
    assert_eq!(ended.state, JobState::Cancelled);
    assert!(
        ended
            .checkpoint
            .is_some_and(|checkpoint| checkpoint.step > 5)
    );
    bench.platform.stop().await.unwrap();
}

/// The slot runs one job; the other waits where people can hold it, and all can be ended at once.
#[tokio::test(flavor = "multi_thread")]
async fn queued_jobs_are_held_and_many_are_ended_at_once() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let running = client.create_job_toml(&endless_job("")).await.unwrap().id;
    bench.past_checkpoint(running, 1).await;
    let held = client.create_job_toml(&endless_job("")).await.unwrap().id;
    let paused = client.pause_job(held).await.unwrap();
    assert_eq!(paused.state, JobState::Paused);
    let mut request = BatchRequest {
        action: BatchAction::Cancel,
        state: None,
        project: None,
        name: None,
        tags: Default::default(),
        after: None,
        dry_run: false,
    };
    let done = client.batch_jobs(&request).await.unwrap();
    assert_eq!(done.done, [held, running]);
    for id in [held, running] {
        let job = client.wait_job(id).await.unwrap();
        assert_eq!(job.state, JobState::Cancelled);
    }
    request.action = BatchAction::Delete;
    assert_eq!(client.batch_jobs(&request).await.unwrap().done.len(), 2);
    let gone = client.get_job(held).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
    bench.platform.stop().await.unwrap();
}

/// What is dear ends when it has cost what it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_reaches_its_cost_ends_with_a_checkpoint() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    // One unit a second.
    let settings = PoolSettings {
        price_per_device_hour: 3_600.0,
        ..PoolSettings::default()
    };
    let pool = "default".parse().unwrap();
    client.put_pool(&pool, &settings).await.unwrap();
    // The scheduler reads it with its next look at the store.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spec = endless_job("max_cost = 2.0");
    let job = client.create_job_toml(&spec).await.unwrap();
    let ended = client.wait_job(job.id).await.unwrap();
    let failure = ended.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(
        failure.message.contains("resources.max_cost, 2"),
        "{}",
        failure.message
    );
    assert!(
        (2.0..3.0).contains(&ended.used.cost),
        "a little more than the limit: {:?}",
        ended.used
    );
    assert!(ended.checkpoint.is_some());
    bench.platform.stop().await.unwrap();
}

/// Kueue's users ask where in the queue they are, why, and when it will be their turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_told_its_place_and_a_running_one_how_far_it_is() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let running = client.create_job_toml(&endless_job("")).await.unwrap().id;
    bench.past_checkpoint(running, 1).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let job = client.create_job_toml(&endless_job("")).await.unwrap();
        waiting.push(job.id);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bare = ExplainQuery::default();
    let told = client.explain_job(waiting[1], &bare).await.unwrap();
    let queue = told.queue.unwrap();
    assert_eq!(queue.position, Some(2), "{queue:?}");
    assert_eq!(queue.ahead.unwrap().own, 1);
    assert_eq!(told.sentence, queue.rule);
    assert!(!queue.blockers.is_empty());
    let high = ExplainQuery {
        priority: Some(Priority::High),
        ..ExplainQuery::default()
    };
    let what_if = client.explain_job(waiting[1], &high).await.unwrap();
    assert_eq!(what_if.what_if.unwrap().position, Some(1));
    let told = client.explain_job(running, &bare).await.unwrap();
    assert!(
        told.sentence.starts_with("It runs: step "),
        "{}",
        told.sentence
    );
    assert!(told.progress.unwrap().eta_ms.is_some());
    client.cancel_job(running).await.unwrap();
    let told = client.explain_job(running, &bare).await.unwrap();
    assert_eq!(told.sentence, "It was ended by request.");
    bench.platform.stop().await.unwrap();
}

async fn standing(bench: &Bench) -> (Standing, usize) {
    let list = bench.client().list_workers(None).await.unwrap();
    (list.workers[0].standing, list.workers[0].jobs.len())
}

/// A drain lets jobs go on elsewhere, from where they were; here elsewhere is later.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_lets_go_and_gets_nothing_until_it_is_open() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let reference = bench.reference().await;
    let job = bench.in_the_middle().await;
    let (pool, worker) = ("default".parse().unwrap(), "local".parse().unwrap());
    client.drain_worker(&pool, &worker).await.unwrap();
    wait_for(&bench, job, JobState::Queued).await;
    assert_eq!(standing(&bench).await, (Standing::Draining, 0));
    let told = client
        .explain_job(job, &ExplainQuery::default())
        .await
        .unwrap();
    assert_eq!(told.sentence, "No worker of the pool takes jobs.");
    let view = client.get_pool(&pool).await.unwrap();
    assert_eq!((view.workers, view.busy, view.queued), (1, 0, 1));
    client.uncordon_worker(&pool, &worker).await.unwrap();
    assert_eq!(bench.weights(job).await, reference);
    let job = client.get_job(job).await.unwrap();
    assert!(job.attempt.unwrap().number >= 2);
    bench.platform.stop().await.unwrap();
}

/// A job of a higher class takes the place of a lower one, which goes on to the same bits.
#[tokio::test(flavor = "multi_thread")]
async fn a_preempted_job_ends_with_the_same_bits() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let settings = PoolSettings {
        min_run_time: Millis(0),
        ..PoolSettings::default()
    };
    let pool = "default".parse().unwrap();
    client.put_pool(&pool, &settings).await.unwrap();
    let reference = bench.reference().await;
    let job = bench.in_the_middle().await;
    let urgent = format!("priority = \"high\"\n{}", stoker::digits::SPEC);
    let urgent = client.create_job_toml(&urgent).await.unwrap();
    let urgent = client.wait_job(urgent.id).await.unwrap();
    assert_eq!(urgent.state, JobState::Succeeded);
    assert_eq!(bench.weights(job).await, reference);
    let events = client.list_events(job, 0, None).await.unwrap().events;
    let preempted = events
        .iter()
        .filter(|event| event.body.type_name() == "preempting");
    assert_eq!(preempted.count(), 1);
    let job = client.get_job(job).await.unwrap();
    assert_eq!(job.attempt.unwrap().number, 2);
    bench.platform.stop().await.unwrap();
}

/// Who waits for a job needn't ask again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_of_the_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let settings = [("STOKER__NOTIFY__PRIVATE", "127.0.0.0/8")];
    let bench = Bench::embedded_with(&settings).await;
    let client = bench.client();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    client.put_secret("hook", b"s3cret").await.unwrap();
    let hook = format!("[[notify.webhooks]]\nurl = \"{url}\"\nsecret = \"hook\"\n");
    let spec = format!("{}\n{hook}", stoker::digits::SPEC);
    let job = client.create_job_toml(&spec).await.unwrap();
    let told = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        while !text.contains("\"succeeded\"") {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let answer = b"HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        text
    };
    let told = tokio::time::timeout(Duration::from_secs(60), told).await;
    let told = told.unwrap();
    assert!(told.contains(&job.id.to_string()));
    assert!(
        told.to_lowercase().contains("stoker-signature: t="),
        "{told}"
    );
    bench.platform.stop().await.unwrap();
}
