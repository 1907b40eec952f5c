//! The same with many jobs.

use serde_json::{Value, json};
use stoker_domain::JobId;
use stoker_domain::job::Transition;
use stoker_domain::tenant::Role;

use super::harness::{SPEC, TestApp, send};

async fn batch(app: &TestApp, request: Value) -> Value {
    let post = app.request("POST", "/v1/jobs/batch");
    send(post.body(request.to_string()))
        .await
        .expect(200)
        .json()
}

async fn submit(app: &TestApp, key: &str, team: &str) -> JobId {
    let spec = SPEC.replace("[data]", &format!("tags = {{ team = \"{team}\" }}\n[data]"));
    let answer = app.submit(key, &spec).await.expect(202);
    answer.json()["id"].as_str().unwrap().parse().unwrap()
}

async fn state(app: &TestApp, id: JobId) -> Value {
    app.get(&format!("/v1/jobs/{id}")).await.json()["state"].clone()
}

fn ids(of: &Value) -> Vec<String> {
    let texts = of.as_array().unwrap().iter();
    texts.map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_filter_finds_is_done_and_a_repeat_finds_what_is_left() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let mut jobs = Vec::new();
    for (key, team) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")] {
        jobs.push(submit(&app, key, team).await);
    }
    app.apply(jobs[0], Transition::Cancel).await;
    let request = json!({ "action": "cancel", "tags": { "team": "a" } });
    let mut dry = request.clone();
    dry["dry_run"] = json!(true);
    let would = batch(&app, dry).await;
    assert_eq!(state(&app, jobs[1]).await, "queued");
    let done = batch(&app, request.clone()).await;
    assert_eq!(would, done);
    assert_eq!(
        ids(&done["done"]),
        [jobs[3].to_string(), jobs[1].to_string()]
    );
    assert_eq!(ids(&done["left"]), [jobs[0].to_string()]);
    assert_eq!(state(&app, jobs[2]).await, "queued", "another team's");
    assert_eq!(batch(&app, request).await["done"], json!([]));
    // The others have none of it.
    let theirs = app.request_as("other", Role::Admin, "POST", "/v1/jobs/batch");
    let theirs = send(theirs.body(json!({ "action": "delete" }).to_string())).await;
    assert_eq!(theirs.json(), json!({ "done": [], "left": [] }));
    let deleted = batch(&app, json!({ "action": "delete", "state": "cancelled" })).await;
    assert_eq!(ids(&deleted["done"]).len(), 3);
    assert_eq!(app.stored().await[0], 1);
}

#[tokio::test]
async fn jobs_pause_resume_and_end_gently_together() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let (queued, running) = (submit(&app, "1", "a").await, submit(&app, "2", "a").await);
    let token = app.run(running).await;
    let act = async |action: &str| batch(&app, json!({ "action": action })).await;
    assert_eq!(ids(&act("pause").await["done"]).len(), 2);
    assert_eq!(state(&app, queued).await, "paused");
    assert_eq!(state(&app, running).await, "pausing");
    assert_eq!(ids(&act("pause").await["left"]).len(), 2);
    app.apply(running, Transition::Release { token }).await;
    assert_eq!(ids(&act("resume").await["done"]).len(), 2);
    assert_eq!(state(&app, running).await, "queued");
    let token = app.run(running).await;
    assert_eq!(ids(&act("cancel_gently").await["done"]).len(), 2);
    assert_eq!(state(&app, queued).await, "cancelled");
    let view = app.get(&format!("/v1/jobs/{running}")).await.json();
    assert_eq!(
        (&view["state"], &view["letting_go"]),
        (&json!("pausing"), &json!("cancel"))
    );
    app.apply(running, Transition::Release { token }).await;
    assert_eq!(state(&app, running).await, "cancelled");
}

#[tokio::test]
async fn a_request_that_is_wrong_names_its_field() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    for (body, field) in [
        (json!({}), "action"),
        (json!({ "action": "explode" }), "action"),
        (json!({ "action": "cancel", "sate": "queued" }), "sate"),
        (json!({ "action": "cancel", "state": "asleep" }), "state"),
        (json!({ "action": "cancel", "after": 5 }), "after"),
    ] {
        let post = app.request("POST", "/v1/jobs/batch");
        let refused = send(post.body(body.to_string())).await;
        refused.expect_problem(400, "invalid_input", field);
    }
    assert_eq!(state(&app, id).await, "queued");
}
