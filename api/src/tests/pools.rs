//! Pools and workers: what operators set, and what others see of it.

use serde_json::{Value, json};
use stoker_domain::job::EngineIdentity;
use stoker_domain::port::JobStore;
use stoker_domain::tenant::Role;
use stoker_domain::worker::WorkerRecord;

use super::harness::{Answer, SPEC, TestApp, send};

async fn register(app: &TestApp, id: &str, pool: &str) {
    let record = WorkerRecord {
        version: 1,
        id: id.parse().unwrap(),
        pool: pool.parse().unwrap(),
        incarnation: "first".to_owned(),
        engine: EngineIdentity {
            build: "test".to_owned(),
            device_class: "cpu".to_owned(),
        },
        slots: 2,
        memory_bytes: 1 << 30,
        place: vec!["rack-1".to_owned()],
        draining: false,
        beats: 0,
        registered_at: app.ports.clock.now(),
        profile: None,
    };
    app.store.put_worker(&record).await.unwrap();
}

async fn put(app: &TestApp, pool: &str, settings: &Value) -> Answer {
    let path = format!("/v1/pools/{pool}");
    let request = app.request_as("acme", Role::Operator, "PUT", &path);
    send(request.body(settings.to_string())).await
}

async fn operate(app: &TestApp, method: &str, path: &str) -> Answer {
    send(app.request_as("ops", Role::Operator, method, path)).await
}

#[tokio::test]
async fn a_pool_is_what_its_operator_says() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/v1/pools").await.json(), json!({ "pools": [] }));
    let settings = json!({
        "price_per_device_hour": 2.5,
        "min_run_time": "1m",
        "tenants": { "acme": { "weight": 3, "devices": 2, "jobs_max": 7 }, "other": {} },
    });
    let view = put(&app, "gpu", &settings).await.expect(200).json();
    assert_eq!(view["settings"]["price_per_device_hour"], 2.5);
    assert_eq!(view["settings"]["usage_half_life"], "86400s");
    assert_eq!(view["settings"]["tenants"]["other"]["weight"], 1);
    // Others see their own share alone.
    let own = app.get("/v1/pools/gpu").await.expect(200).json();
    let share = json!({ "weight": 3, "devices": 2, "jobs_max": 7 });
    assert_eq!(own["settings"]["tenants"], json!({ "acme": share }));
    let theirs = app.request_as("third", Role::Admin, "GET", "/v1/pools");
    let theirs = send(theirs).await.json();
    assert_eq!(theirs["pools"][0]["settings"]["tenants"], json!({}));
    // What is said anew replaces all of it.
    let bare = put(&app, "gpu", &json!({})).await.expect(200).json();
    assert_eq!(bare["settings"]["price_per_device_hour"], 0.0);
    app.get("/v1/pools/cpu")
        .await
        .expect_problem(404, "not_found", "");
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name() {
    let app = TestApp::start().await;
    for (settings, status, field) in [
        (json!({ "price": 1 }), 400, "price"),
        (
            json!({ "price_per_device_hour": "dear" }),
            400,
            "price_per_device_hour",
        ),
        (
            json!({ "price_per_device_hour": -1 }),
            422,
            "price_per_device_hour",
        ),
        (json!({ "usage_half_life": "1s" }), 422, "usage_half_life"),
        (json!({ "min_run_time": "200h" }), 422, "min_run_time"),
        (
            json!({ "tenants": { "a": { "weight": 0 } } }),
            422,
            "tenants.a.weight",
        ),
        (
            json!({ "tenants": { "a": { "devices": 3, "devices_max": 2 } } }),
            422,
            "tenants.a.devices_max",
        ),
    ] {
        let refused = put(&app, "gpu", &settings).await;
        refused.expect_problem(status, "invalid_input", field);
    }
    assert_eq!(app.get("/v1/pools").await.json(), json!({ "pools": [] }));
}

#[tokio::test]
async fn a_pool_counts_its_workers_and_jobs() {
    let app = TestApp::start().await;
    put(&app, "default", &json!({})).await.expect(200);
    register(&app, "worker-1", "default").await;
    register(&app, "worker-2", "default").await;
    let id = app.submitted().await;
    app.submit("second", SPEC).await.expect(202);
    app.run(id).await;
    let view = app.get("/v1/pools/default").await.expect(200).json();
    for (field, count) in [
        ("workers", 2),
        ("devices", 4),
        ("busy", 1),
        ("running", 1),
        ("queued", 1),
    ] {
        assert_eq!(view[field], count, "{field}");
    }
    let workers = operate(&app, "GET", "/v1/workers").await.expect(200).json();
    let listed = workers["workers"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["jobs"], json!([id.to_string()]));
    assert_eq!(listed[1]["jobs"], json!([]));
    let none = operate(&app, "GET", "/v1/workers?pool=other").await.json();
    assert_eq!(none, json!({ "workers": [] }));
}

#[tokio::test]
async fn orders_to_workers_are_kept() {
    let app = TestApp::start().await;
    put(&app, "default", &json!({})).await.expect(200);
    register(&app, "worker-1", "default").await;
    let standing = async || {
        let list = operate(&app, "GET", "/v1/workers").await.json();
        list["workers"][0]["standing"].clone()
    };
    assert_eq!(standing().await, "open");
    for (verb, expected) in [
        ("cordon", "cordoned"),
        ("drain", "draining"),
        ("drain", "draining"),
        ("uncordon", "open"),
    ] {
        let path = format!("/v1/pools/default/workers/worker-1/{verb}");
        let view = operate(&app, "POST", &path).await.expect(200).json();
        assert_eq!(view["standing"], expected);
        assert_eq!(standing().await, expected);
    }
    // A heartbeat doesn't undo it, nor does a new life of the worker.
    let path = "/v1/pools/default/workers/worker-1/cordon";
    operate(&app, "POST", path).await.expect(200);
    register(&app, "worker-1", "default").await;
    assert_eq!(standing().await, "cordoned");
    for missing in ["default/workers/worker-2", "other/workers/worker-1"] {
        let path = format!("/v1/pools/{missing}/drain");
        let answer = operate(&app, "POST", &path).await;
        answer.expect_problem(404, "not_found", "");
    }
}

#[tokio::test]
async fn a_job_for_a_pool_that_is_not_there_is_refused() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    put(&app, "gpu-large", &json!({})).await.expect(200);
    let spec = |pool: &str| format!("resources = {{ pool = \"{pool}\" }}\n{SPEC}");
    let refused = app.submit("k", &spec("gpu-larg")).await;
    let refused = refused.expect_problem(422, "invalid_input", "resources.pool");
    let told = refused.json()["detail"].to_string();
    assert!(told.contains("did you mean `gpu-large`?"), "{told}");
    app.submit("k", &spec("gpu-large")).await.expect(202);
    // Workers that came before anybody set their pool up are enough.
    register(&app, "worker-1", "new").await;
    app.submit("l", &spec("new")).await.expect(202);
}
