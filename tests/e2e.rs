//! The main job through the built binary: what it leaves, how it is cancelled, what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod harness;

use std::process::Command;

use futures::StreamExt as _;
use harness::Bench;
use stoker_domain::job::Artifact;
use stoker_domain::{ErrorCode, JobId, JobState};
use stoker_sdk::{Client, IdempotencyKey, JobQuery, MetricQuery, SpecText};

/// That each file is what the platform committed.
async fn check_artifacts(client: &Client, id: JobId, artifacts: &[Artifact]) {
    for file in artifacts {
        let mut bytes = Vec::new();
        client
            .get_artifact(id, &file.name, &mut bytes)
            .await
            .unwrap();
        assert_eq!(bytes.len() as u64, file.size_bytes);
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), file.blake3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_leaves_what_it_promised() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let job = client.create_job_toml(stoker::digits::SPEC).await.unwrap();
    let events: Vec<_> = client.events(job.id, 0).map(Result::unwrap).collect().await;
    let types: Vec<_> = events
        .iter()
        .map(|event| event.body.type_name())
        .filter(|t| *t != "checkpointed")
        .collect();
    assert_eq!(types, ["queued", "dispatched", "started", "succeeded"]);

    let job = client.get_job(job.id).await.unwrap();
    let result = job.result.clone().unwrap();
    assert!(
        result.metrics["test.accuracy"] >= 0.98,
        "{:?}",
        result.metrics
    );
    assert!(
        result.metrics["test.macro-f1"] >= 0.97,
        "{:?}",
        result.metrics
    );
    assert!(result.submit_to_first_step_ms.unwrap() > 0.0);
    assert_eq!(
        job.spec.data.dataset.to_string(),
        "digits@1",
        "the version is pinned"
    );

    let names: Vec<_> = result
        .artifacts
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "weights.safetensors",
            "model.json",
            "card.md",
            "metrics.jsonl",
            "log.jsonl",
            "spec.json",
            "environment.json",
            "confusion.json",
            "model.onnx"
        ]
    );
    check_artifacts(client, job.id, &result.artifacts).await;

    let query = MetricQuery {
        metric: Some("train.loss".to_owned()),
        ..MetricQuery::default()
    };
    let points = client.list_metrics(job.id, &query).await.unwrap().points;
    assert_eq!(
        points.len() as u64,
        result.steps,
        "one loss per step, none doubled, none lost"
    );
    assert!(points.first().unwrap().value > 5.0 * points.last().unwrap().value);
    let log = client.list_logs(job.id, 0, None).await.unwrap().lines;
    assert!(
        log.iter()
            .any(|line| line.message.contains("attempt 1 on worker local"))
    );
    bench.platform.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_a_deleted_one_is_gone() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let job = bench.in_the_middle().await;
    assert_eq!(
        client.delete_job(job).await.unwrap_err().code(),
        ErrorCode::Conflict
    );
    assert_eq!(
        client.cancel_job(job).await.unwrap().state,
        JobState::Cancelled
    );
    // The slot is free again: another job runs.
    let next = client.create_job_toml(stoker::digits::SPEC).await.unwrap();
    assert_eq!(
        client.wait_job(next.id).await.unwrap().state,
        JobState::Succeeded
    );
    assert_eq!(
        client.cancel_job(next.id).await.unwrap_err().code(),
        ErrorCode::Conflict
    );
    client.delete_job(job).await.unwrap();
    assert_eq!(
        client.get_job(job).await.unwrap_err().code(),
        ErrorCode::NotFound
    );
    bench.platform.stop().await.unwrap();
}

/// Kuberay's users got two jobs from one retried submit; one key makes one job here.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_submit_makes_one_job() {
    let bench = Bench::embedded().await;
    let client = bench.client();
    let key = IdempotencyKey::generate();
    let spec = SpecText::Toml(stoker::digits::SPEC);
    let submits = (0..8).map(|_| client.create_job_under(spec, &key));
    let jobs = futures::future::join_all(submits).await;
    let ids: std::collections::BTreeSet<_> = jobs.into_iter().map(|job| job.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let other = stoker::digits::SPEC.replace("seed = 1", "seed = 2");
    let refused = client
        .create_job_under(SpecText::Toml(&other), &key)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::IdempotencyMismatch);
    assert_eq!(
        client
            .list_jobs(&JobQuery::default())
            .await
            .unwrap()
            .jobs
            .len(),
        1
    );
    bench.platform.stop().await.unwrap();
}

/// The promise is about bits, so it must not depend on how many cores happen to be there.
#[tokio::test(flavor = "multi_thread")]
async fn one_thread_and_two_give_the_same_weights() {
    let mut hashes = std::collections::BTreeSet::new();
    for threads in ["1", "2"] {
        let scratch = tempfile::tempdir().unwrap();
        let settings = [("STOKER__WORKER__THREADS", threads)];
        let platform =
            stoker::launch::Platform::embedded(harness::program(), scratch.path(), &settings)
                .await
                .unwrap();
        let client = platform.client().unwrap();
        stoker::digits::upload(client, &harness::plugins())
            .await
            .unwrap();
        let job = client.create_job_toml(stoker::digits::SPEC).await.unwrap();
        hashes.insert(harness::weights(&client.wait_job(job.id).await.unwrap()));
        platform.stop().await.unwrap();
    }
    assert_eq!(hashes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_platform_on_the_same_directory_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let first = stoker::launch::Platform::embedded(harness::program(), scratch.path(), &[])
        .await
        .unwrap();
    let second = Command::new(harness::program())
        .args(["up", "--bind", "127.0.0.1:0"])
        .env("STOKER__DATA_DIR", scratch.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains(&scratch.path().display().to_string()),
        "names the directory: {said}"
    );
    first.stop().await.unwrap();
}

/// What `stoker up` leaves for clients on the same machine.
fn local_client(data_dir: &std::path::Path) -> String {
    std::fs::read_to_string(data_dir.join("client.toml")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_first_token_until_it_is_revoked() {
    let scratch = tempfile::tempdir().unwrap();
    let start = || stoker::launch::Platform::embedded(harness::program(), scratch.path(), &[]);
    let token = || -> String {
        let text = local_client(scratch.path());
        let line = text.lines().find(|line| line.starts_with("token"));
        line.unwrap().to_owned()
    };
    let platform = start().await.unwrap();
    let first = token();
    platform.stop().await.unwrap();
    let platform = start().await.unwrap();
    assert_eq!(token(), first);
    let tokens = platform.client().unwrap().list_tokens().await.unwrap();
    platform
        .client()
        .unwrap()
        .revoke_token(&tokens.tokens[0].id)
        .await
        .unwrap();
    platform.stop().await.unwrap();
    let platform = start().await.unwrap();
    assert_ne!(token(), first);
    platform.client().unwrap().list_tokens().await.unwrap();
    platform.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_with_a_certificate_is_reached_by_those_who_trust_it() {
    let scratch = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificates, key) = (
        scratch.path().join("tls.pem"),
        scratch.path().join("tls.key"),
    );
    std::fs::write(&certificates, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let settings = [
        (
            "STOKER__API__TLS__CERTIFICATES",
            certificates.to_str().unwrap(),
        ),
        ("STOKER__API__TLS__KEY", key.to_str().unwrap()),
    ];
    let data_dir = scratch.path().join("state");
    let start = stoker::launch::Platform::embedded(harness::program(), &data_dir, &settings);
    let platform = start.await.unwrap();
    let local = local_client(&data_dir);
    assert!(local.contains("https://127.0.0.1:"), "{local}");
    let local: toml::Table = toml::from_str(&local).unwrap();
    let [server, secret] = ["server", "token"].map(|field| local[field].as_str().unwrap());
    let token = scratch.path().join("token");
    std::fs::write(&token, secret).unwrap();
    // A command of a user whose home is `home`; tells whether it succeeded, and what it complained of.
    let stoker = |home: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(harness::program());
        let command = command.args(arguments).env_clear();
        let command = command.env("STOKER_DATA_DIR", home).env("HOME", home);
        let token = std::fs::File::open(&token).unwrap();
        let output = command.stdin(token).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told)
    };
    let list = ["job", "list", "--json"];
    let (done, told) = stoker(&data_dir, &list);
    assert!(done, "what `stoker up` left on this machine: {told}");
    let elsewhere = scratch.path().join("elsewhere");
    let login = ["login", "--server", server, "--token-stdin"];
    let (done, told) = stoker(&elsewhere, &login);
    assert!(
        !done && told.contains("certificate"),
        "no certificate: {told}"
    );
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = scratch.path().join("other.pem");
    std::fs::write(&stranger, other.cert.pem()).unwrap();
    let login_with = |path: &std::path::Path| {
        let path = path.to_str().unwrap();
        stoker(&elsewhere, &[&login[..], &["--ca-cert", path]].concat())
    };
    let (done, told) = login_with(&stranger);
    assert!(!done && told.contains("certificate"), "another's: {told}");
    let (done, told) = login_with(&certificates);
    assert!(done, "the server's own: {told}");
    let (done, told) = stoker(&elsewhere, &list);
    assert!(done, "the saved context: {told}");
    platform.stop().await.unwrap();
}

#[test]
fn a_role_that_runs_apart_refuses_the_embedded_adapters() {
    for role in ["api", "scheduler", "worker"] {
        let scratch = tempfile::tempdir().unwrap();
        let ended = Command::new(harness::program())
            .arg(role)
            .env("STOKER__DATA_DIR", scratch.path())
            .output()
            .unwrap();
        assert!(!ended.status.success());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("store.url is needed"), "{said}");
    }
}
