//! The audit log and use: every write is told, once, to its tenant's admins.

use serde_json::{Value, json};
use stoker_domain::job::{Failure, FailureKind, Transition};
use stoker_domain::tenant::Role;

use super::harness::{POINTS, SPEC, TestApp, send};

async fn entries(app: &TestApp, query: &str) -> Vec<Value> {
    let path = format!("/v1/audit{query}");
    let request = app.request_as("acme", Role::Admin, "GET", &path);
    let list = send(request).await.expect(200).json();
    list["entries"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_write_is_told_once_with_who_and_what() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    app.upload_points().await.expect(200);
    let job = app.submit("k", SPEC).await.expect(202).json();
    app.submit("k", SPEC).await.expect(202);
    let id = job["id"].as_str().unwrap().to_owned();
    for verb in ["pause", "pause", "resume", "cancel", "cancel"] {
        let path = format!("/v1/jobs/{id}/{verb}");
        send(app.request("POST", &path)).await.expect(202);
    }
    // What is refused isn't told.
    let path = format!("/v1/jobs/{id}/resume");
    send(app.request("POST", &path)).await.expect(409);
    app.submit("l", "name = 5").await.expect(422);
    let path = format!("/v1/jobs/{id}");
    send(app.request("DELETE", &path)).await.expect(204);
    send(app.request("DELETE", "/v1/datasets/points@1"))
        .await
        .expect(204);
    let pool = app.request_as("acme", Role::Operator, "PUT", "/v1/pools/gpu");
    send(pool.body(r#"{"price_per_device_hour": 2}"#))
        .await
        .expect(200);
    let all = entries(&app, "").await;
    let expected = [
        "create_dataset",
        "create_job",
        "pause_job",
        "resume_job",
        "cancel_job",
        "delete_job",
        "delete_dataset",
        "put_pool",
    ];
    assert_eq!(actions(&all), expected);
    let told = |index: usize, field: &str| all[index][field].clone();
    assert_eq!(told(0, "target"), "data set points@1");
    assert_eq!(told(0, "before"), Value::Null);
    let blake3 = blake3::hash(POINTS.as_bytes()).to_hex().to_string();
    assert_eq!(told(0, "after")["blake3"], blake3);
    assert_eq!(told(1, "after")["state"], "queued");
    assert_eq!(told(2, "target"), format!("job {id}"));
    assert_eq!(told(2, "before")["state"], "queued");
    assert_eq!(told(2, "after")["state"], "paused");
    assert_eq!(told(5, "after"), Value::Null);
    assert_eq!(told(7, "after")["price_per_device_hour"], 2.0);
    assert_eq!(told(7, "actor")["role"], "operator");
    assert!(told(7, "actor")["subject"].as_str().is_some());

    let paused = entries(&app, "?action=pause_job").await;
    assert_eq!(paused, [all[2].clone()]);
    let of_job = entries(&app, &format!("?target=job%20{id}")).await;
    assert_eq!(of_job.len(), 5);
    assert!(entries(&app, "?actor=nobody").await.is_empty());
    assert!(entries(&app, "?from=2999-01-01T00:00:00Z").await.is_empty());
    let page = app.request_as("acme", Role::Admin, "GET", "/v1/audit?limit=3");
    let page = send(page).await.json();
    let next = page["next"].as_str().unwrap();
    assert_eq!(entries(&app, &format!("?after={next}")).await, all[3..]);
    // Others see nothing of it.
    let theirs = app.request_as("other", Role::Operator, "GET", "/v1/audit");
    assert_eq!(send(theirs).await.json(), json!({ "entries": [] }));
    for wrong in ["?from=yesterday", "?who=me"] {
        let path = format!("/v1/audit{wrong}");
        let request = app.request_as("acme", Role::Admin, "GET", &path);
        send(request).await.expect(400);
    }
}

#[tokio::test]
async fn secrets_are_not_told() {
    let app = TestApp::start().await;
    let request = app.request_as("acme", Role::Admin, "POST", "/v1/tokens");
    let body = json!({ "subject": "ci", "role": "developer", "expires_in_s": 3600 });
    let made = request
        .header("Idempotency-Key", "k")
        .body(body.to_string());
    let made = send(made).await.expect(201).json();
    let all = entries(&app, "").await;
    assert_eq!(actions(&all), ["create_token"]);
    assert_eq!(all[0]["after"]["subject"], "ci");
    let token = made["token"].as_str().unwrap();
    assert!(!serde_json::to_string(&all).unwrap().contains(token));
}

#[tokio::test]
async fn what_attempts_used_is_kept_when_their_job_is_gone() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    for (kind, run_ms) in [(FailureKind::Hardware, 4_000), (FailureKind::Data, 6_000)] {
        let token = app.run(id).await;
        app.clock.advance_ms(run_ms);
        let failure = Failure::new(kind, "x");
        app.apply(id, Transition::Fail { token, failure }).await;
    }
    let view = app.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(view["used"]["run_ms"], 10_000);
    let path = format!("/v1/jobs/{id}");
    send(app.request("DELETE", &path)).await.expect(204);
    let list = app.get("/v1/usage").await.expect(200).json();
    let attempts = list["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["run_ms"], 4_000);
    assert_eq!(attempts[0]["state"], "queued");
    assert_eq!(
        (&attempts[1]["attempt"], &attempts[1]["state"]),
        (&json!(2), &json!("failed"))
    );
    for (by, name) in [("job", id.to_string()), ("project", "default".to_owned())] {
        let sums = app
            .get(&format!("/v1/usage/sums?by={by}"))
            .await
            .expect(200)
            .json();
        let group = &sums["groups"][0];
        assert_eq!(
            (&group["name"], &group["attempts"]),
            (&json!(name), &json!(2))
        );
        assert_eq!(group["device_ms"], 10_000);
    }
    let first_end = attempts[0]["ended_at"].as_str().unwrap();
    let second_end = attempts[1]["ended_at"].as_str().unwrap();
    let later = app
        .get(&format!("/v1/usage?from={second_end}"))
        .await
        .json();
    assert_eq!(later["attempts"], json!([attempts[1]]));
    let sooner = app
        .get(&format!("/v1/usage?from={first_end}&to={second_end}"))
        .await;
    assert_eq!(sooner.json()["attempts"], json!([attempts[0]]));
    let none = app
        .get(&format!("/v1/usage/sums?to={first_end}"))
        .await
        .json();
    assert_eq!(none["groups"], json!([]));
    let theirs = app.request_as("other", Role::Operator, "GET", "/v1/usage");
    assert_eq!(send(theirs).await.json(), json!({ "attempts": [] }));
    app.get("/v1/usage/sums?by=colour")
        .await
        .expect_problem(400, "invalid_input", "by");
}
