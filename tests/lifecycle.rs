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
use stoker_domain::job::FailureKind;
use stoker_domain::view::{BatchAction, BatchRequest};
use stoker_domain::{ErrorCode, JobId, JobState};

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

/// ClearML's users found a task "stopped" before its abort callback had saved anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_gentle_cancel_saves_a_checkpoint_first() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let spec = endless_job("").replace("every_steps = 20", "every_steps = 1000000");
    let job = client.create_job_toml(&spec).await.unwrap();
    while !client
        .get_job(job.id)
        .await
        .unwrap()
        .progress
        .is_some_and(|progress| progress.step > 5)
    {
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
