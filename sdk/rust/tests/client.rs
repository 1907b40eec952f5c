//! The client against servers that fail as servers do.
#![cfg(test)]

mod harness;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use harness::{Reply, Seen, Server, client, events, json, problem};
use serde_json::{Value, json};
use stoker_sdk::dataset::DataFormat;
use stoker_sdk::job::{Artifact, Event};
use stoker_sdk::{
    Error, ErrorCode, Header, IdempotencyKey, JobId, JobQuery, JobState, MetricQuery, NewDataset,
    SpecText, Upload,
};

const ID: &str = "job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e";
const AT: &str = "2026-01-02T03:04:05.678Z";

fn id() -> JobId {
    ID.parse().unwrap()
}

fn job(state: &str) -> Value {
    json!({
        "id": ID, "state": state, "exact": true, "created_at": AT, "updated_at": AT,
        "inputs": { "dataset_blake3": "", "plugins": {} },
        "spec": {
            "name": "digits", "data": { "dataset": "digits@1", "target": "label" },
            "model": { "family": "mlp" },
            "train": { "epochs": 1, "batch_size": 8, "loss": "cross_entropy" },
        },
    })
}

fn event(position: u64, kind: &str) -> String {
    let mut data = json!({ "position": position, "at": AT, "token": 1, "type": kind });
    match kind {
        "checkpointed" => {
            data["step"] = json!(position);
            data["blake3"] = json!("b3");
        }
        "succeeded" => data["manifest_blake3"] = json!("b3"),
        _ => {}
    }
    format!("id: {position}\ndata: {data}\n\n")
}

fn key_of(seen: &Seen) -> String {
    seen.header("idempotency-key").to_owned()
}

#[tokio::test]
async fn a_retry_carries_the_same_key_and_body_and_makes_one_job() {
    let server = Server::script(vec![
        problem(503, "unavailable", None),
        Reply::Nothing,
        json(202, &job("queued")),
    ])
    .await;
    let view = server
        .client()
        .create_job_toml("name = \"x\"")
        .await
        .unwrap();
    assert_eq!((view.id, view.state), (id(), JobState::Queued));

    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(!key_of(&seen[0]).is_empty());
    for request in &seen {
        assert_eq!(key_of(request), key_of(&seen[0]));
        assert_eq!(request.body, b"name = \"x\"");
        assert_eq!(request.header("content-type"), "application/toml");
        assert_eq!(request.header("authorization"), "Bearer secret-token");
        assert_eq!((&*request.method, &*request.target), ("POST", "/v1/jobs"));
    }
}

#[tokio::test]
async fn a_key_of_the_callers_is_sent_and_two_calls_differ_without_one() {
    let server = Server::script(vec![json(202, &job("queued"))]).await;
    let client = server.client();
    let key: IdempotencyKey = "nightly-2026-01-02".parse().unwrap();
    client
        .create_job_under(SpecText::Json("{}"), &key)
        .await
        .unwrap();
    let spec = serde_json::from_value(job("queued")["spec"].take()).unwrap();
    client.create_job(&spec).await.unwrap();
    client.create_job(&spec).await.unwrap();
    let keys: Vec<_> = server.seen().iter().map(key_of).collect();
    assert_eq!(keys[0], "nightly-2026-01-02");
    assert_ne!(keys[1], keys[2]);
    assert!("two words".parse::<IdempotencyKey>().is_err());
}

#[tokio::test]
async fn retry_after_is_waited_for_and_a_too_long_one_ends_the_call() {
    let server = Server::script(vec![
        problem(429, "rate_limited", Some(1)),
        json(200, &job("running")),
    ])
    .await;
    server.client().get_job(id()).await.unwrap();
    let seen = server.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));

    let server = Server::script(vec![problem(503, "unavailable", Some(3600))]).await;
    let error = server.client().get_job(id()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_names_the_fields() {
    let body = json!({
        "type": "/errors/invalid_input", "title": "t", "status": 422, "code": "invalid_input",
        "detail": "the spec is not valid", "request_id": "r",
        "errors": [{ "field": "train.epoch", "message": "unknown field" }],
    });
    let server = Server::script(vec![json(422, &body)]).await;
    let error = server.client().create_job_toml("").await.unwrap_err();
    assert_eq!(error.to_string(), "the spec is not valid");
    let Error::Problem(problem) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(problem.errors[0].field, "train.epoch");
    assert_eq!(server.seen().len(), 1);
    assert!(!format!("{error:?}").contains("secret-token"));
}

#[tokio::test]
async fn an_answer_that_is_no_problem_document_keeps_its_status() {
    let page = b"<html>bad gateway</html>".to_vec();
    let server = Server::script(vec![Reply::Full(502, vec![], page)]).await;
    let error = server.client().get_job(id()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(
        error.to_string().contains("502: <html>bad gateway"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 4, "tried as often as the retries say");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_clearly() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = client(&base_url).get_job(id()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.starts_with(&format!("can't connect to {base_url}/: "))
            && told.contains("Connection refused"),
        "{told}"
    );
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    let server = Server::script(vec![Reply::Silence]).await;
    let error = server.client().get_job(id()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_has_succeeded() {
    let gone = problem(404, "not_found", None);
    let server = Server::script(vec![Reply::Nothing, gone.clone()]).await;
    server.client().delete_job(id()).await.unwrap();

    let server = Server::script(vec![gone]).await;
    let error = server.client().delete_job(id()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn another_answer_than_the_operations_is_told() {
    let server = Server::script(vec![json(200, &json!({ "hello": 1 }))]).await;
    let error = server.client().get_job(id()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("can't read the server's answer: "),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let moved = Reply::Full(
        307,
        vec![("location", "http://127.0.0.1:9/".to_owned())],
        vec![],
    );
    let server = Server::script(vec![moved]).await;
    let error = server.client().get_job(id()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server answered 307");
}

#[tokio::test]
async fn events_are_taken_up_where_the_connection_broke() {
    let first = format!(
        ": hello\n\n{}{}",
        event(0, "queued"),
        event(1, "checkpointed")
    );
    // Repeats what was told, as a server may, and breaks in the middle of a message.
    let second = format!(
        "{}{}id: 3\ndata: {{\"posi",
        event(1, "checkpointed"),
        event(2, "checkpointed")
    );
    let third = format!("{}{}", event(3, "checkpointed"), event(4, "succeeded"));
    let server = Server::script(vec![
        Reply::Broken("text/event-stream", first.into_bytes()),
        problem(503, "unavailable", None),
        Reply::Broken("text/event-stream", second.into_bytes()),
        events(&third),
    ])
    .await;
    let told: Vec<Event> = server.client().events(id(), 0).try_collect().await.unwrap();
    let positions: Vec<_> = told.iter().map(|event| event.position).collect();
    assert_eq!(positions, [0, 1, 2, 3, 4]);

    let asked: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| (seen.target.clone(), seen.header("last-event-id").to_owned()))
        .collect();
    let target = |from| format!("/v1/jobs/{ID}/events?from={from}");
    let expected = [
        (target(0), String::new()),
        (target(2), "1".to_owned()),
        (target(2), "1".to_owned()),
        (target(3), "2".to_owned()),
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn events_of_a_job_that_ended_long_ago_end() {
    let server = Server::start(|_, seen| match seen.target.contains("/events") {
        true => events(""),
        false => json(200, &job("succeeded")),
    })
    .await;
    let told: Vec<Event> = server.client().events(id(), 9).try_collect().await.unwrap();
    assert!(told.is_empty());
    assert_eq!(
        server.seen().len(),
        3,
        "the stream, the job, the stream again"
    );
}

#[tokio::test]
async fn events_end_with_an_error_when_the_server_stays_away() {
    let server = Server::script(vec![problem(503, "unavailable", None)]).await;
    let told: Result<Vec<Event>, Error> = server.client().events(id(), 0).try_collect().await;
    assert_eq!(told.unwrap_err().code(), ErrorCode::Unavailable);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn waiting_follows_the_events_and_gives_back_the_job_that_ended() {
    let ended = Arc::new(Mutex::new(false));
    let server = Server::start(move |_, seen| {
        let mut ended = ended.lock().unwrap();
        if seen.target.contains("/events") {
            *ended = true;
            return events(&format!("{}{}", event(0, "queued"), event(1, "succeeded")));
        }
        json(200, &job(if *ended { "succeeded" } else { "running" }))
    })
    .await;
    let view = server.client().wait_job(id()).await.unwrap();
    assert_eq!(view.state, JobState::Succeeded);
    assert!(
        server.seen().len() <= 4,
        "looks only when there was an event"
    );
}

#[tokio::test]
async fn watching_falls_back_to_looking_and_outlasts_a_server_that_is_away() {
    let looks = Arc::new(Mutex::new(0));
    let server = Server::start(move |_, seen| {
        if seen.target.contains("/events") {
            return json(200, &json!({ "events": [], "next": 0 }));
        }
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        match *looks {
            1 | 2 => json(200, &job("running")),
            // More refusals than one call has tries.
            3..=8 => problem(503, "unavailable", None),
            _ => json(200, &job("failed")),
        }
    })
    .await;
    let every = Duration::from_millis(5);
    let views: Vec<_> = server
        .client()
        .watch_job(id(), every)
        .try_collect()
        .await
        .unwrap();
    let states: Vec<_> = views.iter().map(|view| view.state).collect();
    assert_eq!(
        states,
        [JobState::Running, JobState::Running, JobState::Failed]
    );
}

#[tokio::test]
async fn an_artifact_is_checked_against_its_hash() {
    let bytes = b"weights".to_vec();
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    let list = json!([{ "name": "weights.safetensors", "size_bytes": 7, "blake3": blake3 }]);
    let server = Server::start(move |_, seen| match &*seen.target {
        target if target.ends_with("/artifacts") => json(200, &list),
        _ => Reply::Full(200, vec![], bytes.clone()),
    })
    .await;
    let client = server.client();
    let mut got = Vec::new();
    let artifact = client
        .get_artifact(id(), "weights.safetensors", &mut got)
        .await
        .unwrap();
    assert_eq!((&*got, artifact.size_bytes), (&b"weights"[..], 7));
    let missing = client.get_artifact(id(), "x", &mut got).await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::NotFound);

    let dir = tempfile::tempdir().unwrap();
    let wrong = Artifact {
        blake3: "00".repeat(32),
        ..artifact.clone()
    };
    let path = dir.path().join("weights.safetensors");
    let error = client
        .download_artifact(id(), &wrong, &path, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::HashMismatch { .. }), "{error:?}");
    let left = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left(), 0, "nothing half-done is left");
    client
        .download_artifact(id(), &artifact, &path, |_| {})
        .await
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"weights");
    assert_eq!(left(), 1);
}

#[tokio::test]
async fn a_broken_download_begins_anew() {
    let bytes = b"weights".to_vec();
    let artifact = Artifact {
        name: "w".to_owned(),
        size_bytes: 7,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    };
    let server = Server::script(vec![
        Reply::Broken("application/octet-stream", b"weig".to_vec()),
        Reply::Full(200, vec![], bytes.clone()),
    ])
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    server
        .client()
        .download_artifact(id(), &artifact, &path, |_| {})
        .await
        .unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

fn dataset() -> Value {
    json!({
        "record_version": 1, "name": "digits", "version": 1, "format": "csv", "header": true,
        "blake3": "b3", "size_bytes": 1, "created_at": AT, "schema": { "rows": 0, "columns": [] },
    })
}

fn new_dataset() -> NewDataset {
    NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::Csv,
        header: Header::Yes,
    }
}

#[tokio::test]
async fn a_file_is_uploaded_with_its_hash_and_again_in_full_after_a_failure() {
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let server = Server::script(vec![Reply::Nothing, json(201, &dataset())]).await;
    let last = Arc::new(Mutex::new((0, 0)));
    let told = Arc::clone(&last);
    let upload = Upload::from_path(file.path()).with_progress(move |progress| {
        *told.lock().unwrap() = (progress.bytes, progress.total_bytes);
    });
    let record = server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap();
    assert_eq!(record.name, "digits");
    assert_eq!(*last.lock().unwrap(), (600_000, 600_000));

    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        assert_eq!(
            request.target,
            "/v1/datasets?name=digits&format=csv&header=yes"
        );
        assert_eq!(request.header("content-length"), "600000");
        let hash = blake3::hash(&bytes).to_hex().to_string();
        assert_eq!(request.header("content-blake3"), hash);
        assert_eq!(key_of(request), key_of(&seen[0]));
        assert!(request.body == bytes, "the body arrived as it was");
    }
}

#[tokio::test]
async fn an_upload_without_an_answer_is_a_timeout_and_a_missing_file_is_named() {
    let server = Server::script(vec![Reply::Silence]).await;
    let upload = Upload::from_bytes(&b"a,b\n1,2\n"[..]);
    let error = server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);

    let upload = Upload::from_path("/nonexistent/digits.csv");
    let error = server
        .client()
        .create_dataset(&new_dataset(), &upload)
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("/nonexistent/digits.csv: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_plugin_needs_a_version() {
    let server = Server::script(vec![problem(422, "plugin_rejected", None)]).await;
    let upload = Upload::from_bytes(&b"\0asm"[..]);
    let client = server.client();
    let error = client
        .create_plugin(&"noise".parse().unwrap(), &upload)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("name@version"), "{error}");
    assert!(server.seen().is_empty());
    let error = client
        .create_plugin(&"noise@1".parse().unwrap(), &upload)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::PluginRejected);
    assert_eq!(server.seen()[0].target, "/v1/plugins?name=noise&version=1");
}

#[tokio::test]
async fn lists_go_on_from_page_to_page() {
    let server = Server::start(|n, _| match n {
        0 => json(
            200,
            &json!({ "jobs": [job("queued"), job("running")], "next": ID }),
        ),
        _ => json(200, &json!({ "jobs": [job("failed")] })),
    })
    .await;
    let query = JobQuery {
        project: Some("a b".to_owned()),
        tags: vec![("team".to_owned(), "vision".to_owned())],
        ..JobQuery::default()
    };
    let jobs: Vec<_> = server.client().jobs(query).try_collect().await.unwrap();
    assert_eq!(jobs.len(), 3);
    let targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        [
            "/v1/jobs?project=a+b&tag=team%3Avision".to_owned(),
            format!("/v1/jobs?project=a+b&after={ID}&tag=team%3Avision"),
        ]
    );
}

#[tokio::test]
async fn a_log_is_read_to_its_end() {
    let line = json!({ "at": AT, "token": 1, "level": "info", "message": "hello" });
    let server = Server::start(move |_, seen| match &*seen.target {
        target if target.ends_with("from=0") => json(200, &json!({ "lines": [line], "next": 1 })),
        _ => json(200, &json!({ "lines": [], "next": 1 })),
    })
    .await;
    let lines: Vec<_> = server.client().logs(id(), 0).try_collect().await.unwrap();
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn metrics_are_asked_for_by_name_and_step() {
    let points = json!({ "points": [{ "metric": "train.loss", "step": 5, "value": 0.5 }] });
    let server = Server::script(vec![json(200, &points)]).await;
    let query = MetricQuery {
        metric: Some("train.loss".to_owned()),
        from_step: 5,
        limit: Some(10),
        ..MetricQuery::default()
    };
    let list = server.client().list_metrics(id(), &query).await.unwrap();
    assert_eq!(list.points[0].step, 5);
    let expected = format!("/v1/jobs/{ID}/metrics?metric=train.loss&from_step=5&limit=10");
    assert_eq!(server.seen()[0].target, expected);
}

#[tokio::test]
async fn a_curve_is_asked_for_thinned() {
    let sample = json!({ "points": [], "totals": { "train.loss": 7 } });
    let server = Server::script(vec![json(200, &sample)]).await;
    let query = MetricQuery {
        to_step: Some(9),
        sample: Some(50),
        ..MetricQuery::default()
    };
    let list = server.client().list_metrics(id(), &query).await.unwrap();
    assert_eq!(list.totals.unwrap()["train.loss"], 7);
    let expected = format!("/v1/jobs/{ID}/metrics?from_step=0&to_step=9&sample=50");
    assert_eq!(server.seen()[0].target, expected);
}
