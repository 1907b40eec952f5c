//! Every process is killed in mid-run, and the weights are those of the undisturbed run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod harness;

use futures::StreamExt as _;
use harness::Bench;
use stoker::launch::Role;
use stoker_domain::{JobId, JobState};

/// Events have no gaps, one end, and as many attempts as tokens.
async fn assert_told_truthfully(bench: &Bench, id: JobId) {
    let told: Vec<_> = bench
        .client()
        .events(id, 0)
        .map(Result::unwrap)
        .collect()
        .await;
    let positions = told.iter().map(|event| event.position);
    assert!(positions.eq(0..told.len() as u64), "gapless");
    let count = |name: &str| {
        told.iter()
            .filter(|event| event.body.type_name() == name)
            .count()
    };
    assert_eq!(count("succeeded"), 1);
    let job = bench.client().get_job(id).await.unwrap();
    assert_eq!(job.attempt.unwrap().token, count("dispatched") as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_whole_platform_changes_no_bit() {
    let mut bench = Bench::embedded().await;
    let reference = bench.reference().await;
    let job = bench.in_the_middle().await;
    bench.platform.kill(Role::Up).await.unwrap();
    bench.platform.start(Role::Up).await.unwrap();
    bench.past_checkpoint(job, 200).await;
    bench.platform.kill(Role::Up).await.unwrap();
    bench.platform.start(Role::Up).await.unwrap();
    assert_eq!(bench.weights(job).await, reference);
    assert_told_truthfully(&bench, job).await;
    assert_eq!(
        bench
            .client()
            .get_job(job)
            .await
            .unwrap()
            .attempt
            .unwrap()
            .number,
        3
    );
    bench.platform.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_each_role_and_each_server_changes_no_bit() {
    let mut bench = Bench::apart().await;
    let reference = bench.reference().await;
    for role in [Role::Worker, Role::Scheduler, Role::Api] {
        let job = bench.in_the_middle().await;
        bench.platform.kill(role).await.unwrap();
        bench.platform.start(role).await.unwrap();
        assert_eq!(
            bench.weights(job).await,
            reference,
            "after the death of {role:?}"
        );
        assert_told_truthfully(&bench, job).await;
    }

    let job = bench.in_the_middle().await;
    bench.services.as_mut().unwrap().redis.kill();
    bench.services.as_mut().unwrap().redis.restart().unwrap();
    assert_eq!(
        bench.weights(job).await,
        reference,
        "after the death of Redis"
    );
    assert_told_truthfully(&bench, job).await;

    let job = bench.in_the_middle().await;
    bench.services.as_mut().unwrap().rabbit.kill();
    // Submitted while the broker is away: accepted, and done once it is back.
    let blind = bench
        .client()
        .create_job_toml(&harness::long_job())
        .await
        .unwrap();
    assert_eq!(blind.state, JobState::Queued);
    bench.services.as_mut().unwrap().rabbit.restart().unwrap();
    assert_eq!(
        bench.weights(job).await,
        reference,
        "after the death of RabbitMQ"
    );
    assert_eq!(
        bench.weights(blind.id).await,
        reference,
        "submitted while RabbitMQ was away"
    );
    assert_told_truthfully(&bench, job).await;
    bench.platform.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_drain_change_no_bit() {
    let mut bench = Bench::embedded().await;
    let reference = bench.reference().await;
    let job = bench.in_the_middle().await;
    bench.client().pause_job(job).await.unwrap();
    while bench.client().get_job(job).await.unwrap().state != JobState::Paused {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    bench.client().resume_job(job).await.unwrap();
    bench.past_checkpoint(job, 200).await;
    bench
        .platform
        .restart_in_good_order(Role::Up)
        .await
        .unwrap();
    assert_eq!(bench.weights(job).await, reference);
    assert_told_truthfully(&bench, job).await;
    bench.platform.stop().await.unwrap();
}
