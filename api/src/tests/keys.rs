//! API keys: what they may do, for how long, and what is kept of them.

use serde_json::{Value, json};
use stoker_domain::port::{Catalog, CatalogKind, PLATFORM};
use stoker_domain::tenant::Role;

use super::harness::{Answer, SPEC, TestApp, send};

async fn create(app: &TestApp, request: Value) -> Answer {
    let post = app.request_as("acme", Role::Admin, "POST", "/v1/keys");
    send(post.body(request.to_string())).await
}

async fn with(app: &TestApp, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let request = app.bare(method, path).bearer_auth(key);
    let request = request.header("Idempotency-Key", format!("{method} {path}"));
    let request = request.header("Content-Type", "application/toml");
    send(request.body(body.to_owned())).await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_does_what_its_role_allows_until_it_ends() {
    let app = TestApp::start().await;
    app.upload_points().await;
    let request = json!({ "name": "ci", "role": "developer", "expires_in_s": 3600 });
    let made = create(&app, request.clone()).await.expect(201);
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    let (key, id) = (text(&made["key"]), text(&made["record"]["id"]));
    with(&app, &key, "POST", "/v1/jobs", SPEC).await.expect(202);
    with(&app, &key, "GET", "/v1/audit", "").await.expect(403);
    // Only its hash is kept, and the audit log says whose it was.
    let platform = PLATFORM.parse().unwrap();
    let kept = app.store.get(CatalogKind::ApiKey, &platform, &id).await;
    let kept = kept.unwrap().unwrap().value.to_string();
    assert!(!kept.contains(&key) && !kept.contains(&key[21..]), "{kept}");
    let audit = app.request_as("acme", Role::Admin, "GET", "/v1/audit");
    let audit = send(audit).await.json();
    assert!(!audit.to_string().contains(&key));
    let last = audit["entries"].as_array().unwrap().last().unwrap();
    assert_eq!(last["actor"]["subject"], "key:ci");
    assert_eq!(last["actor"]["token"], json!(id));
    // A key that differs in its last character isn't it.
    let flipped = if key.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{flipped}", &key[..key.len() - 1]);
    for wrong in [other.as_str(), "stk_", "stk_00"] {
        with(&app, wrong, "GET", "/v1/jobs", "").await.expect(401);
    }
    let list = app.request_as("acme", Role::Admin, "GET", "/v1/keys");
    let list = send(list).await.json();
    assert_eq!(list["keys"], json!([made["record"]]));
    assert!(!list.to_string().contains("key_blake3"));
    // It ends by being revoked, or by itself.
    let path = format!("/v1/keys/{id}");
    let stranger = app.request_as("other", Role::Operator, "DELETE", &path);
    send(stranger).await.expect(404);
    let revoke = app.request_as("acme", Role::Admin, "DELETE", &path);
    send(revoke).await.expect(204);
    with(&app, &key, "GET", "/v1/jobs", "").await.expect(401);
    let second = create(&app, request).await.expect(201).json();
    let second = text(&second["key"]);
    with(&app, &second, "GET", "/v1/jobs", "").await.expect(200);
    app.clock.advance_ms(3_600_000);
    with(&app, &second, "GET", "/v1/jobs", "").await.expect(401);
}

#[tokio::test]
async fn a_key_for_a_project_touches_its_jobs_alone() {
    let app = TestApp::start().await;
    let elsewhere = app.submitted().await;
    let project = app.request_as("acme", Role::Admin, "POST", "/v1/projects");
    let project = project.header("Idempotency-Key", "p");
    send(project.body(r#"{"name": "vision"}"#))
        .await
        .expect(201);
    let request = json!({
        "name": "ci", "role": "developer", "project": "vision", "expires_in_s": 60,
    });
    let key = text(&create(&app, request).await.expect(201).json()["key"]);
    let spec = format!("project = \"vision\"\n{SPEC}");
    let job = with(&app, &key, "POST", "/v1/jobs", &spec)
        .await
        .expect(202)
        .json();
    let path = format!("/v1/jobs/{}", text(&job["id"]));
    with(&app, &key, "GET", &path, "").await.expect(200);
    let listed = with(&app, &key, "GET", "/v1/jobs", "").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
    with(&app, &key, "GET", &format!("/v1/jobs/{elsewhere}"), "")
        .await
        .expect(404);
    with(
        &app,
        &key,
        "POST",
        &format!("/v1/jobs/{elsewhere}/cancel"),
        "",
    )
    .await
    .expect(404);
    // The other project is open, but not to this key.
    let other = with(&app, &key, "POST", "/v1/jobs/quote", SPEC).await;
    other.expect_problem(422, "invalid_input", "project");
    with(&app, &key, "GET", "/v1/datasets/points", "")
        .await
        .expect(200);
    let upload = with(
        &app,
        &key,
        "POST",
        "/v1/datasets?name=a&format=csv",
        "x\n1\n",
    )
    .await;
    let upload = upload.expect_problem(403, "forbidden", "");
    assert!(upload.json().to_string().contains("vision"));
}

#[tokio::test]
async fn wrong_keys_are_refused_by_field() {
    let app = TestApp::start().await;
    let right = json!({ "name": "ci", "role": "viewer", "expires_in_s": 3600 });
    for (field, value, status) in [
        ("name", json!("a b"), 422),
        ("role", json!("operator"), 422),
        ("role", json!("king"), 400),
        ("expires_in_s", json!(5), 422),
        ("project", json!("nowhere"), 422),
        ("colour", json!("red"), 400),
    ] {
        let mut request = right.clone();
        request[field] = value;
        let refused = create(&app, request).await;
        refused.expect_problem(status, "invalid_input", field);
    }
    let mut request = right;
    request["project"] = json!("default");
    request["role"] = json!("admin");
    create(&app, request)
        .await
        .expect_problem(422, "invalid_input", "role");
}
