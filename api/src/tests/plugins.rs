//! Plugins: versions, repeats, refusals, use in jobs.

use std::sync::atomic::Ordering;

use object_store::ObjectStoreExt;
use stoker_domain::job::Transition;
use stoker_domain::object;

use super::harness::{Answer, SPEC, TestApp, send};

async fn create(app: &TestApp, reference: &str, module: &str) -> Answer {
    let key = uuid::Uuid::now_v7().to_string();
    create_as(app, &key, reference, module).await
}

async fn create_as(app: &TestApp, key: &str, reference: &str, module: &str) -> Answer {
    let (name, version) = reference.split_once('@').unwrap();
    let path = format!("/v1/plugins?name={name}&version={version}");
    let request = app.request("POST", &path).header("Idempotency-Key", key);
    send(request.body(module.to_owned())).await
}

#[tokio::test]
async fn a_plugin_is_compiled_and_stored_once() {
    let app = TestApp::start().await;
    let record = create(&app, "scale@1.0", "preprocess")
        .await
        .expect(201)
        .json();
    assert_eq!(record["role"], "preprocess");
    assert_eq!(record["state"], "ready");
    let tenant = "acme".parse().unwrap();
    let hash = record["blake3"].as_str().unwrap();
    let artifact = object::plugin_artifact(&tenant, hash, "engine1");
    for key in [object::plugin_module(&tenant, hash), artifact.clone()] {
        app.objects.head(&key.into()).await.unwrap();
    }
    let again = create(&app, "scale@1.0", "preprocess").await.expect(200);
    assert_eq!(again.json(), record);
    assert_eq!(app.compiler.0.load(Ordering::SeqCst), 1);
    let other = create(&app, "scale@1.0", "preprocess 2").await;
    other.expect_problem(409, "conflict", "");
    assert_eq!(app.get("/v1/plugins/scale@1.0").await.json(), record);
    assert_eq!(app.get("/v1/plugins").await.json()["plugins"][0], record);
    // Native code for this engine build is made again where it is missing.
    app.objects.delete(&artifact.clone().into()).await.unwrap();
    create(&app, "scale@1.0", "preprocess").await.expect(200);
    app.objects.head(&artifact.into()).await.unwrap();
}

#[tokio::test]
async fn a_refused_plugin_leaves_nothing() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    let refused = create(&app, "evil@1", "evil").await;
    let refused = refused.expect_problem(422, "plugin_rejected", "");
    assert_eq!(refused.json()["detail"], "it imports `wasi:clocks`");
    let broken = create(&app, "evil@1", "!").await;
    let broken = broken.expect_problem(503, "unavailable", "");
    assert!(!String::from_utf8_lossy(&broken.body).contains("secret"));
    for query in [
        "name=a",
        "version=1",
        "name=a&version=a/b",
        "name=a&version=1&x=1",
    ] {
        let path = format!("/v1/plugins?{query}");
        let request = app.request("POST", &path).header("Idempotency-Key", "k");
        let answer = send(request.body("p")).await;
        answer.expect_problem(400, "invalid_input", "");
    }
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn a_job_pins_its_plugins_and_checks_their_role() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    create(&app, "scale@1.0", "preprocess").await.expect(201);
    app.clock.advance_ms(1);
    let newest = create(&app, "scale@0.9", "preprocess new")
        .await
        .expect(201);
    create(&app, "f1@1", "metric").await.expect(201);
    let with = |step: &str, metric: &str| {
        let steps = format!(
            "[[preprocess]]\nplugin = \"{step}\"\n[[metrics]]\nplugin = \"{metric}\"\n[model]"
        );
        SPEC.replace("[model]", &steps)
    };
    for (spec, field) in [
        (with("f1", "f1"), "preprocess[0].plugin"),
        (with("scale", "scale"), "metrics[0].plugin"),
        (with("scael", "f1"), "preprocess[0].plugin"),
        (with("scale@2", "f1"), "preprocess[0].plugin"),
    ] {
        let answer = app.submit("k", &spec).await;
        answer.expect_problem(422, "invalid_input", field);
    }
    let job = app
        .submit("k", &with("scale", "f1@1"))
        .await
        .expect(202)
        .json();
    assert_eq!(job["spec"]["preprocess"][0]["plugin"], "scale@0.9");
    assert_eq!(job["spec"]["metrics"][0]["plugin"], "f1@1");
    assert_eq!(
        job["inputs"]["plugins"]["scale@0.9"],
        newest.json()["blake3"]
    );

    let delete = |key: &str| send(app.request("DELETE", &format!("/v1/plugins/{key}")));
    delete("scale@0.9")
        .await
        .expect_problem(409, "conflict", "");
    delete("scale@1.0").await.expect(204);
    let id = job["id"].as_str().unwrap().parse().unwrap();
    app.apply(id, Transition::Cancel).await;
    delete("scale@0.9").await.expect(204);
    delete("f1@1").await.expect(204);
    delete("f1@1").await.expect_problem(404, "not_found", "");
    // The data set's bytes alone are left.
    assert_eq!(app.stored().await[1..4], [1, 0, 1]);
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time() {
    let app = TestApp::start().await;
    let first = create_as(&app, "k", "scale@1", "preprocess")
        .await
        .expect(201);
    let again = create_as(&app, "k", "scale@1", "preprocess")
        .await
        .expect(201);
    assert_eq!(again.json(), first.json());
    for (reference, module) in [("scale@1", "preprocess 2"), ("scale@2", "preprocess")] {
        let other = create_as(&app, "k", reference, module).await;
        other.expect_problem(422, "idempotency_mismatch", "");
    }
    assert_eq!(app.compiler.0.load(Ordering::SeqCst), 1);
    let listed = app.get("/v1/plugins").await.json();
    assert_eq!(listed["plugins"].as_array().unwrap().len(), 1);
}
