//! Jobs: submitting exactly once, steering, lists, logs, metrics.

use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};
use stoker_domain::job::{Failure, FailureKind, Transition};
use stoker_domain::port::{JobStore, Point};
use stoker_domain::tenant::Role;
use stoker_domain::view::LogLine;
use stoker_domain::worker::Progress;
use stoker_domain::{Timestamp, object};

use super::harness::{SPEC, TestApp, send};

#[tokio::test]
async fn a_submit_stores_one_job_and_tells_the_relay() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let answer = app.submit("k", SPEC).await.expect(202);
    let job = answer.json();
    let id = job["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/jobs/{id}"));
    assert_eq!(job["state"], "queued");
    assert_eq!(job["spec"]["data"]["dataset"], "points@1");
    assert_eq!(job["inputs"]["dataset_blake3"].as_str().unwrap().len(), 64);
    let told = app.relay.0.lock().unwrap().clone();
    assert_eq!(told, app.store.outbox(10).await.unwrap());
    assert_eq!(told.len(), 1);
    assert_eq!(app.get(&format!("/v1/jobs/{id}")).await.json(), job);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_whatever_has_changed() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let first = app.submit("k", SPEC).await.expect(202);
    let id = first.json()["id"].as_str().unwrap().parse().unwrap();
    app.apply(id, Transition::Cancel).await;
    send(app.request("DELETE", "/v1/datasets/points@1"))
        .await
        .expect(204);
    let again = app.submit("k", SPEC).await.expect(202);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("location"), first.header("location"));
    let other = app
        .submit("k", &SPEC.replace("epochs = 1", "epochs = 2"))
        .await;
    other.expect_problem(422, "idempotency_mismatch", "");
    // Another tenant's key is another key.
    let request = app.request_as("other", Role::Developer, "POST", "/v1/jobs");
    let request = request.header("Idempotency-Key", "k");
    let request = request.header("Content-Type", "application/toml");
    let others = send(request.body(SPEC)).await;
    others.expect_problem(422, "invalid_input", "data.dataset");
    assert_eq!(app.stored().await[0], 1);
}

#[tokio::test]
async fn repeats_at_the_same_time_make_one_job() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let answers = futures::future::join_all((0..8).map(|_| app.submit("k", SPEC))).await;
    let ids: Vec<Value> = (answers.into_iter())
        .map(|answer| answer.expect(202).json()["id"].clone())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(app.stored().await[0], 1);
}

#[tokio::test]
async fn json_and_toml_are_the_same_spec() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let spec: Value = toml::from_str(SPEC).unwrap();
    let request = app
        .request("POST", "/v1/jobs")
        .header("Idempotency-Key", "json");
    let json = send(request.json(&spec)).await.expect(202).json();
    let toml = app.submit("toml", SPEC).await.expect(202).json();
    assert_eq!(json["spec"], toml["spec"]);
}

#[tokio::test]
async fn resuming_a_job_that_is_on_its_way_changes_nothing() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let before = app.stored().await;
    let resume = app.request("POST", &format!("/v1/jobs/{id}/resume"));
    let answer = send(resume).await.expect(202);
    assert_eq!(answer.json()["state"], "queued");
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn another_tenants_job_is_not_there() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let before = app.stored().await;
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("GET", "/logs"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/weights.safetensors"),
    ] {
        let path = format!("/v1/jobs/{id}{path}");
        let request = app.request_as("other", Role::Admin, method, &path);
        let theirs = send(request).await.expect_problem(404, "not_found", "");
        // The same answer as for a job that never was.
        let missing = path.replace(&id.to_string(), "job-00000000000000000000000000000000");
        let request = app.request_as("other", Role::Admin, method, &missing);
        let missing = send(request).await.expect_problem(404, "not_found", "");
        assert_eq!(theirs.json()["title"], missing.json()["title"]);
    }
    assert_eq!(app.stored().await, before);
    app.get("/v1/jobs/nonsense")
        .await
        .expect_problem(404, "not_found", "");
}

#[tokio::test]
async fn jobs_are_steered_where_their_state_allows_it() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let post = |verb: &str| send(app.request("POST", &format!("/v1/jobs/{id}/{verb}")));
    // A queued job waits until it is resumed.
    assert_eq!(post("pause").await.expect(202).json()["state"], "paused");
    assert_eq!(post("pause").await.expect(202).json()["state"], "paused");
    assert_eq!(post("resume").await.expect(202).json()["state"], "queued");
    let token = app.run(id).await;
    assert_eq!(post("pause").await.expect(202).json()["state"], "pausing");
    assert_eq!(post("pause").await.expect(202).json()["state"], "pausing");
    post("resume").await.expect_problem(409, "conflict", "");
    app.apply(id, Transition::Release { token }).await;
    assert_eq!(post("resume").await.expect(202).json()["state"], "queued");
    let delete = || send(app.request("DELETE", &format!("/v1/jobs/{id}")));
    delete().await.expect_problem(409, "conflict", "");
    assert_eq!(
        post("cancel").await.expect(202).json()["state"],
        "cancelled"
    );
    assert_eq!(
        post("cancel").await.expect(202).json()["state"],
        "cancelled"
    );
    post("pause").await.expect_problem(409, "conflict", "");
    assert_eq!(app.relay.0.lock().unwrap().len(), 6);
    let chunk = object::log_chunk(id, token, 0);
    let payload = PutPayload::from_static(b"{}");
    app.objects.put(&chunk.into(), payload).await.unwrap();
    delete().await.expect(204);
    delete().await.expect_problem(404, "not_found", "");
    // The data set's bytes alone are left.
    assert_eq!(app.stored().await[3], 1);
}

#[tokio::test]
async fn a_job_is_explained_as_it_is_and_as_it_would_be() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let ask = async |query: &str| app.get(&format!("/v1/jobs/{id}/explain{query}")).await;
    let told = ask("").await.expect(200).json();
    assert_eq!(told["queue"]["position"], 1);
    assert_eq!(told["sentence"], "Pool default, priority None.");
    assert_eq!(told["what_if"], Value::Null);
    let other = app.request_as("acme", Role::Operator, "PUT", "/v1/pools/gpu");
    send(other.body("{}")).await.expect(200);
    let what_if = ask("?priority=high&pool=gpu").await.expect(200).json();
    assert_eq!(what_if["what_if"]["rule"], "Pool gpu, priority Some(High).");
    for (query, status, field) in [
        ("?priority=urgent", 400, "priority"),
        ("?devices=0", 400, "devices"),
        ("?pool=nowhere", 422, "pool"),
        ("?colour=red", 400, "colour"),
    ] {
        ask(query)
            .await
            .expect_problem(status, "invalid_input", field);
    }
    let token = app.run(id).await;
    let told = ask("").await.expect(200).json();
    assert_eq!(told["queue"], Value::Null);
    assert_eq!(told["sentence"], "It runs, and prepares its rows.");
    let failure = Failure::new(FailureKind::Numeric, "the loss isn't finite at step 7");
    app.apply(id, Transition::Fail { token, failure }).await;
    let told = ask("").await.expect(200).json();
    let sentence = told["sentence"].as_str().unwrap();
    assert!(sentence.contains("step 7") && sentence.contains("learning rate"));
}

#[tokio::test]
async fn a_cancel_may_wait_for_a_checkpoint() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let token = app.run(id).await;
    let cancel = |query: &str| {
        let path = format!("/v1/jobs/{id}/cancel{query}");
        send(app.request("POST", &path))
    };
    cancel("?checkpoint=maybe")
        .await
        .expect_problem(400, "invalid_input", "checkpoint");
    for _ in 0..2 {
        let view = cancel("?checkpoint=true").await.expect(202).json();
        assert_eq!(view["state"], "pausing");
        assert_eq!(view["letting_go"], "cancel");
    }
    let pause = send(app.request("POST", &format!("/v1/jobs/{id}/pause"))).await;
    pause.expect_problem(409, "conflict", "");
    app.apply(id, Transition::Release { token }).await;
    let view = cancel("?checkpoint=true").await.expect(202).json();
    assert_eq!(view["state"], "cancelled");
    assert_eq!(view["letting_go"], Value::Null);
}

#[tokio::test]
async fn repeats_at_the_same_time_are_all_answered_as_done() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let token = app.run(id).await;
    let eight = |verb: &'static str| {
        let posts = (0..8).map(|_| app.request("POST", &format!("/v1/jobs/{id}/{verb}")));
        futures::future::join_all(posts.map(send).collect::<Vec<_>>())
    };
    for (verb, state) in [
        ("pause", "pausing"),
        ("resume", "queued"),
        ("cancel", "cancelled"),
    ] {
        for answer in eight(verb).await {
            assert_eq!(answer.expect(202).json()["state"], state);
        }
        if verb == "pause" {
            app.apply(id, Transition::Release { token }).await;
        }
    }
    // One event for each change: made and resumed, paused, cancelled.
    let events = app.store.events(id, 0, 100).await.unwrap();
    let asked = ["queued", "pausing", "cancelled"].map(|kind| {
        let is = |event: &&stoker_domain::job::Event| {
            serde_json::to_value(event).unwrap()["type"] == kind
        };
        events.iter().filter(is).count()
    });
    assert_eq!(asked, [2, 1, 1]);
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let mut ids = Vec::new();
    for (index, team) in ["a", "b", "a"].iter().enumerate() {
        let named = SPEC.replace(
            "\"points\"\n[data]",
            &format!("\"job-{index}\"\ntags = {{ team = \"{team}\" }}\n[data]"),
        );
        let answer = app.submit(&format!("k{index}"), &named).await.expect(202);
        ids.push(answer.json()["id"].clone());
    }
    let list = async |query: &str| {
        let page = app
            .get(&format!("/v1/jobs?{query}"))
            .await
            .expect(200)
            .json();
        let jobs = page["jobs"].as_array().unwrap();
        let ids: Vec<Value> = jobs.iter().map(|job| job["id"].clone()).collect();
        (ids, page["next"].clone())
    };
    let newest_first: Vec<Value> = ids.iter().rev().cloned().collect();
    assert_eq!(list("").await.0, newest_first);
    assert_eq!(list("tag=team:a").await.0, [ids[2].clone(), ids[0].clone()]);
    assert_eq!(list("name=job-1").await.0, [ids[1].clone()]);
    assert_eq!(list("state=running").await.0, Vec::<Value>::new());
    assert_eq!(list("project=default&limit=500").await.0.len(), 3);
    let (page, next) = list("limit=2").await;
    assert_eq!(page, newest_first[..2]);
    let after = format!("limit=2&after={}", next.as_str().unwrap());
    assert_eq!(
        list(&after).await,
        (newest_first[2..].to_vec(), Value::Null)
    );
}

#[tokio::test]
async fn a_running_job_shows_its_progress() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let token = app.run(id).await;
    let progress = Progress {
        step: 3,
        steps: 10,
        ..Progress::default()
    };
    app.store.renew_lease(id, token, &progress).await.unwrap();
    let job = app.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["progress"]["step"], 3);
    assert_eq!(app.get("/v1/jobs").await.json()["jobs"][0], job);
}

#[tokio::test]
async fn metrics_are_listed_by_metric_and_step() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let token = app.run(id).await;
    let point = |metric: &str, step| Point {
        metric: metric.to_owned(),
        step,
        value: 0.5,
    };
    let points = [point("a", 1), point("a", 2), point("b", 1)];
    app.ports
        .telemetry
        .append_points(id, token, &points)
        .await
        .unwrap();
    let path = format!("/v1/jobs/{id}/metrics");
    let all = app.get(&path).await.expect(200).json();
    assert_eq!(all["points"].as_array().unwrap().len(), 3);
    let some = app
        .get(&format!("{path}?metric=a&from_step=2"))
        .await
        .json();
    assert_eq!(
        some["points"],
        json!([{ "metric": "a", "step": 2, "value": 0.5 }])
    );
    let one = app.get(&format!("{path}?limit=1")).await.json();
    assert_eq!(one["points"].as_array().unwrap().len(), 1);
    let early = app.get(&format!("{path}?to_step=1")).await.json();
    assert_eq!(early["points"].as_array().unwrap().len(), 2);
    app.ports.telemetry.compact(id).await.unwrap();
    assert_eq!(app.get(&path).await.expect(200).json(), all);
}

#[tokio::test]
async fn a_sample_of_a_long_curve_keeps_its_ends_and_tells_its_length() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let token = app.run(id).await;
    let points: Vec<_> = (1..=3_000_u32)
        .map(|step| Point {
            metric: "train.loss".to_owned(),
            step: step.into(),
            value: 1.0 / f64::from(step),
        })
        .collect();
    let telemetry = &app.ports.telemetry;
    telemetry.append_points(id, token, &points).await.unwrap();
    let path = format!("/v1/jobs/{id}/metrics");
    let sampled = app.get(&format!("{path}?sample=50")).await.expect(200);
    let sampled = sampled.json();
    assert_eq!(sampled["totals"], json!({ "train.loss": 3_000 }));
    let kept = sampled["points"].as_array().unwrap();
    assert!((25..=50).contains(&kept.len()), "{} points", kept.len());
    assert_eq!(kept[0]["step"], 1);
    assert_eq!(kept[kept.len() - 1]["step"], 3_000);
    for (query, field) in [
        ("sample=3", "sample"),
        ("sample=10001", "sample"),
        ("sample=50&limit=9", "limit"),
        ("from_step=5&to_step=4", "to_step"),
    ] {
        let refused = app.get(&format!("{path}?{query}")).await;
        refused.expect_problem(400, "invalid_input", field);
    }
}

#[tokio::test]
async fn logs_of_all_attempts_are_one_list() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let put = async |token: u64, chunk: u64, numbers: std::ops::Range<u64>| {
        let line = |n: u64| LogLine {
            at: Timestamp::from_millis(0),
            token,
            level: "info".to_owned(),
            message: format!("line {n}"),
        };
        let lines = numbers.map(|n| serde_json::to_string(&line(n)).unwrap() + "\n");
        let bytes = lines.collect::<String>();
        let key = object::log_chunk(id, token, chunk);
        app.objects.put(&key.into(), bytes.into()).await.unwrap();
    };
    // Token 10 comes after token 2, though not as text.
    put(10, 0, 7..8).await;
    put(2, 1, 4..7).await;
    put(2, 0, 0..4).await;
    let list = async |query: &str| {
        let page = app
            .get(&format!("/v1/jobs/{id}/logs{query}"))
            .await
            .expect(200)
            .json();
        let lines = page["lines"].as_array().unwrap().iter();
        let messages: Vec<String> = lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect();
        (messages, page["next"].as_u64().unwrap())
    };
    let expected: Vec<String> = (0..8).map(|n| format!("line {n}")).collect();
    assert_eq!(list("").await, (expected.clone(), 8));
    assert_eq!(list("?from=3&limit=3").await, (expected[3..6].to_vec(), 6));
    assert_eq!(list("?from=6").await, (expected[6..].to_vec(), 8));
    assert_eq!(list("?from=8").await, (vec![], 8));
    put(10, 0, 7..9).await;
    assert_eq!(list("?from=8").await, (vec!["line 8".to_owned()], 9));
}
