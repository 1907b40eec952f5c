//! Quotes: what a job would take, and nothing stored.

use serde_json::Value;
use stoker_domain::job::EngineIdentity;
use stoker_domain::tenant::Role;
use stoker_domain::worker::{DeviceProfile, WorkerRecord};

use super::harness::{Answer, SPEC, TestApp, send};

async fn quote(app: &TestApp, spec: &str) -> Answer {
    let request = app.request("POST", "/v1/jobs/quote");
    let request = request.header("Content-Type", "application/toml");
    send(request.body(spec.to_owned())).await
}

#[tokio::test]
async fn a_quote_says_what_a_job_would_take_and_stores_nothing() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let before = app.stored().await;
    let quoted = quote(&app, SPEC).await.expect(200).json();
    assert_eq!(quoted["dataset"], "points@1");
    let number = |field: &str| quoted[field].as_u64().unwrap();
    assert!(number("parameters") > 0 && number("flops_per_step") > 0);
    assert!(number("checkpoint_bytes") >= 4 * number("parameters"));
    let dataset = app.get("/v1/datasets/points@1").await.json();
    assert_eq!(quoted["dataset_bytes"], dataset["size_bytes"]);
    let rows = dataset["schema"]["rows"].as_u64().unwrap();
    let train = rows - rows.div_ceil(5);
    assert_eq!(number("steps_per_epoch"), train.div_ceil(2));
    assert_eq!(number("steps"), train.div_ceil(2));
    let parts: u64 = (quoted["memory"].as_object().unwrap().values())
        .map(|bytes| bytes.as_u64().unwrap())
        .sum();
    assert_eq!(number("peak_bytes"), parts);
    // The same spec as JSON is the same quote.
    let spec: Value = toml::from_str(SPEC).unwrap();
    let json = send(app.request("POST", "/v1/jobs/quote").json(&spec)).await;
    assert_eq!(json.expect(200).json(), quoted);
    assert_eq!(app.stored().await, before);
    let listed = app.get("/v1/jobs").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 0);
    assert!(app.relay.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn steps_follow_the_spec() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let steps = SPEC.replace("epochs = 1", "steps = 7");
    assert_eq!(quote(&app, &steps).await.expect(200).json()["steps"], 7);
    let epochs = SPEC.replace("epochs = 1", "epochs = 3");
    let quoted = quote(&app, &epochs).await.expect(200).json();
    let per_epoch = quoted["steps_per_epoch"].as_u64().unwrap();
    assert_eq!(quoted["steps"], 3 * per_epoch);
    let none = SPEC.replace("batch_size = 2", "batch_size = 1024\ndrop_last = true");
    let quoted = quote(&app, &none).await.expect(200).json();
    assert_eq!(
        [&quoted["steps"], &quoted["steps_per_epoch"]],
        [&Value::Null; 2]
    );
}

/// A worker of a pool, with so many operations and bytes per second.
async fn register(app: &TestApp, id: &str, pool: &str, per_s: Option<u64>) {
    let profile = per_s.map(|per_s| DeviceProfile {
        version: 1,
        device_class: "cpu-test".to_owned(),
        threads: 3,
        product_flops_per_s: per_s,
        convolution_flops_per_s: per_s,
        attention_flops_per_s: per_s,
        bytes_per_s: per_s,
        kernel_ns: 0,
    });
    let record = WorkerRecord {
        version: 1,
        id: id.parse().unwrap(),
        pool: pool.parse().unwrap(),
        incarnation: "1".to_owned(),
        engine: EngineIdentity {
            build: "b".to_owned(),
            device_class: "cpu-test".to_owned(),
        },
        slots: 1,
        memory_bytes: 0,
        place: Vec::new(),
        draining: false,
        beats: 0,
        registered_at: app.ports.clock.now(),
        profile,
    };
    app.ports.jobs.put_worker(&record).await.unwrap();
}

#[tokio::test]
async fn times_are_those_of_the_slowest_calibrated_worker_of_the_pool() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    register(&app, "bare", "default", None).await;
    register(&app, "elsewhere", "other", Some(1_000)).await;
    let quoted = quote(&app, SPEC).await.expect(200).json();
    assert_eq!(quoted["duration"], Value::Null);
    register(&app, "fast", "default", Some(1_000_000_000)).await;
    let fast = quote(&app, SPEC).await.expect(200).json();
    register(&app, "slow", "default", Some(1_000_000)).await;
    let slow = quote(&app, SPEC).await.expect(200).json();
    let number = |quoted: &Value, field: &str| quoted["duration"][field].as_u64().unwrap();
    let (fast, slow) = (number(&fast, "step_us"), number(&slow, "step_us"));
    assert!(
        slow > 500 * fast.saturating_sub(1) && slow > 0,
        "{slow} and {fast}"
    );
    // Twice the steps take about twice as long; without a step there is no time.
    let total = |epochs: u32| {
        let spec = SPEC.replace("epochs = 1", &format!("epochs = {epochs}"));
        let app = &app;
        async move { number(&quote(app, &spec).await.expect(200).json(), "total_ms") }
    };
    let (ten, twenty) = (total(10).await, total(20).await);
    assert!(twenty.abs_diff(2 * ten) <= 2, "{twenty} and {ten}");
    let none = SPEC.replace("batch_size = 2", "batch_size = 1024\ndrop_last = true");
    let none = quote(&app, &none).await.expect(200).json();
    assert_eq!(none["duration"]["total_ms"], Value::Null);
    assert_eq!(none["duration"]["threads"], 3);
}

#[tokio::test]
async fn what_a_submit_refuses_a_quote_refuses_alike() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    for (from, to, field) in [
        ("\"label\"", "\"lable\"", "data.target"),
        (
            "dataset = \"points\"",
            "dataset = \"point\"",
            "data.dataset",
        ),
        ("epochs = 1", "epoch = 1", "train.epoch"),
    ] {
        let wrong = SPEC.replace(from, to);
        let quoted = quote(&app, &wrong).await;
        let quoted = quoted.expect_problem(422, "invalid_input", field).json();
        let refused = app.submit("k", &wrong).await;
        let refused = refused.expect_problem(422, "invalid_input", field).json();
        assert_eq!(quoted["errors"], refused["errors"]);
    }
    // Another tenant's data set is not there.
    let request = app.request_as("other", Role::Developer, "POST", "/v1/jobs/quote");
    let request = request.header("Content-Type", "application/toml");
    let theirs = send(request.body(SPEC)).await;
    theirs.expect_problem(422, "invalid_input", "data.dataset");
    let bare = app.bare("POST", "/v1/jobs/quote");
    send(bare.body(SPEC))
        .await
        .expect_problem(401, "unauthenticated", "");
    assert_eq!(app.stored().await[0], 0);
}
