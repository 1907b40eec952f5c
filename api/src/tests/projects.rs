//! Projects: who sees what of another project, and who may change it.

use serde_json::{Value, json};
use stoker_domain::JobId;
use stoker_domain::job::{Change, Failure, FailureKind, Transition};
use stoker_domain::port::{JobStore, Update};
use stoker_domain::tenant::Role;

use super::harness::{Answer, SPEC, TestApp, send};
use crate::openapi;

/// A request by that subject of `acme`.
async fn by(
    app: &TestApp,
    (subject, role): (&str, Role),
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    let token = app.token_of("acme", subject, role);
    let request = app.bare(method, path).bearer_auth(token);
    let request = request.header("Idempotency-Key", format!("{subject} {method} {path}"));
    let request = request.header("Content-Type", "application/toml");
    send(request.body(body.to_owned())).await
}

const BOSS: (&str, Role) = ("boss", Role::Admin);
const ADA: (&str, Role) = ("ada", Role::Developer);
const BOB: (&str, Role) = ("bob", Role::Developer);
const EVE: (&str, Role) = ("eve", Role::Viewer);

fn spec(project: &str) -> String {
    format!("project = \"{project}\"\n{SPEC}")
}

/// The closed project `vision`, with `ada` as developer, and a job of hers.
async fn closed(app: &TestApp) -> JobId {
    app.upload_points().await;
    let made = by(app, BOSS, "POST", "/v1/projects", r#"{"name": "vision"}"#).await;
    assert_eq!(made.expect(201).json()["open"], false);
    let member = "/v1/projects/vision/members/ada";
    let body = r#"{"role": "developer"}"#;
    by(app, BOSS, "PUT", member, body).await.expect(200);
    let job = by(app, ADA, "POST", "/v1/jobs", &spec("vision")).await;
    job.expect(202).json()["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// Every route that touches a job, with somebody who isn't in its project.
#[tokio::test]
async fn a_job_of_a_closed_project_is_not_there_for_others() {
    let app = TestApp::start().await;
    let id = closed(&app).await;
    let before = app.stored().await;
    let paths = openapi::document().paths.paths.iter();
    let of_jobs = paths.filter(|(path, _)| path.starts_with("/v1/jobs/{id}"));
    let mut tried = 0;
    for (path, _) in of_jobs {
        let path = path
            .replace("{id}", &id.to_string())
            .replace("{name}", "weights");
        for method in openapi::methods_of(&path) {
            let body = if path.ends_with("predict") {
                r#"{"rows": [{}]}"#
            } else {
                ""
            };
            for stranger in [BOB, EVE, ("carl", Role::Developer)] {
                let answer = by(&app, stranger, method.as_str(), &path, body).await;
                // Who may do it nowhere isn't even told that there is no such job.
                let status = if answer.status == 403 { 403 } else { 404 };
                assert!(
                    status == 404 || stranger == EVE,
                    "{method} {path}: {}",
                    answer.status
                );
                answer.expect(status);
            }
            tried += 1;
        }
    }
    assert!(tried >= 13, "{tried} routes of jobs were tried");
    assert_eq!(app.stored().await, before);
    for stranger in [BOB, EVE] {
        let list = by(&app, stranger, "GET", "/v1/jobs", "").await.json();
        assert_eq!(list["jobs"], json!([]));
        let projects = by(&app, stranger, "GET", "/v1/projects", "").await.json();
        assert_eq!(projects["projects"].as_array().unwrap().len(), 1);
        let one = by(&app, stranger, "GET", "/v1/projects/vision", "").await;
        one.expect_problem(404, "not_found", "");
    }
    let done = by(
        &app,
        BOB,
        "POST",
        "/v1/jobs/batch",
        r#"{"action": "cancel"}"#,
    )
    .await;
    assert_eq!(done.json(), json!({ "done": [], "left": [] }));
    let refused = by(&app, BOB, "POST", "/v1/jobs", &spec("vision")).await;
    refused.expect_problem(422, "invalid_input", "project");
    // Its members and the tenant's admins have all of it.
    for insider in [ADA, BOSS] {
        let path = format!("/v1/jobs/{id}");
        by(&app, insider, "GET", &path, "").await.expect(200);
        let list = by(&app, insider, "GET", "/v1/jobs", "").await.json();
        assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    }
}

/// A role in a project counts there, and only there.
#[tokio::test]
async fn members_may_do_what_their_role_in_the_project_allows() {
    let app = TestApp::start().await;
    let id = closed(&app).await;
    let path = format!("/v1/jobs/{id}");
    let pause = format!("{path}/pause");
    let member = "/v1/projects/vision/members/eve";
    by(&app, EVE, "POST", &pause, "")
        .await
        .expect_problem(403, "forbidden", "");
    by(&app, BOSS, "PUT", member, r#"{"role": "viewer"}"#)
        .await
        .expect(200);
    by(&app, EVE, "GET", &path, "").await.expect(200);
    by(&app, EVE, "POST", &pause, "")
        .await
        .expect_problem(403, "forbidden", "");
    by(&app, BOSS, "PUT", member, r#"{"role": "developer"}"#)
        .await
        .expect(200);
    by(&app, EVE, "POST", &pause, "").await.expect(202);
    let elsewhere = by(&app, EVE, "POST", "/v1/jobs", SPEC).await;
    elsewhere.expect_problem(403, "forbidden", "");
    by(&app, EVE, "PUT", member, r#"{"role": "admin"}"#)
        .await
        .expect(403);
    // An admin of the project rules it, and nothing else.
    by(&app, BOSS, "PUT", member, r#"{"role": "admin"}"#)
        .await
        .expect(200);
    let bob = "/v1/projects/vision/members/bob";
    by(&app, EVE, "PUT", bob, r#"{"role": "viewer"}"#)
        .await
        .expect(200);
    by(&app, BOB, "GET", &path, "").await.expect(200);
    by(&app, BOB, "POST", &pause, "")
        .await
        .expect_problem(403, "forbidden", "");
    by(&app, EVE, "DELETE", bob, "").await.expect(200);
    by(&app, BOB, "GET", &path, "").await.expect(404);
    by(&app, EVE, "DELETE", bob, "").await.expect(404);
    by(
        &app,
        EVE,
        "PUT",
        "/v1/projects/default",
        r#"{"open": false}"#,
    )
    .await
    .expect(403);
    by(&app, EVE, "GET", "/v1/audit", "").await.expect(403);
    by(&app, EVE, "PUT", "/v1/projects/vision", r#"{"open": true}"#)
        .await
        .expect(200);
    by(&app, BOB, "POST", &format!("{path}/resume"), "")
        .await
        .expect(202);
}

#[tokio::test]
async fn the_default_project_may_be_closed_and_projects_with_jobs_stay() {
    let app = TestApp::start().await;
    let id = closed(&app).await;
    let of_default = by(&app, BOB, "POST", "/v1/jobs", SPEC)
        .await
        .expect(202)
        .json();
    let path = format!("/v1/jobs/{}", of_default["id"].as_str().unwrap());
    by(
        &app,
        BOSS,
        "PUT",
        "/v1/projects/default",
        r#"{"open": false}"#,
    )
    .await
    .expect(200);
    by(&app, BOB, "GET", &path, "").await.expect(404);
    by(&app, BOB, "POST", "/v1/jobs/quote", SPEC)
        .await
        .expect_problem(422, "invalid_input", "project");
    let delete =
        async |name: &str| by(&app, BOSS, "DELETE", &format!("/v1/projects/{name}"), "").await;
    delete("default").await.expect_problem(409, "conflict", "");
    delete("vision").await.expect_problem(409, "conflict", "");
    delete("other").await.expect_problem(404, "not_found", "");
    by(&app, ADA, "POST", &format!("/v1/jobs/{id}/cancel"), "")
        .await
        .expect(202);
    by(&app, ADA, "DELETE", &format!("/v1/jobs/{id}"), "")
        .await
        .expect(204);
    delete("vision").await.expect(204);
}

#[tokio::test]
async fn wrong_projects_and_members_are_refused_by_name() {
    let app = TestApp::start().await;
    closed(&app).await;
    let create = async |body: Value| {
        let token = app.token_of("acme", "boss", Role::Admin);
        let request = app.bare("POST", "/v1/projects").bearer_auth(token);
        let request = request.header("Idempotency-Key", body.to_string().replace(' ', ""));
        send(request.body(body.to_string())).await
    };
    create(json!({}))
        .await
        .expect_problem(400, "invalid_input", "name");
    create(json!({ "name": "a b" }))
        .await
        .expect_problem(422, "invalid_input", "name");
    create(json!({ "name": "a", "opne": true }))
        .await
        .expect_problem(400, "invalid_input", "opne");
    for there in ["vision", "default"] {
        let answer = create(json!({ "name": there, "open": true })).await;
        answer.expect_problem(409, "conflict", "");
    }
    let path = "/v1/projects/vision/members/eve";
    for (body, status, field) in [
        (r#"{"role": "operator"}"#, 422, "role"),
        (r#"{"role": "king"}"#, 400, "role"),
    ] {
        let refused = by(&app, BOSS, "PUT", path, body).await;
        refused.expect_problem(status, "invalid_input", field);
    }
    let unknown = app.submit("k", &spec("visoin")).await;
    unknown.expect_problem(422, "invalid_input", "project");
    // Another tenant has projects of its own.
    let theirs = app.request_as("other", Role::Operator, "GET", "/v1/projects/vision");
    send(theirs).await.expect_problem(404, "not_found", "");
}

/// What a removed project leaves behind is not everybody's.
#[tokio::test]
async fn what_is_left_of_a_project_is_the_admins() {
    let app = TestApp::start().await;
    let id = closed(&app).await;
    let token = app.run(id).await;
    let failure = Failure::new(FailureKind::Data, "x");
    app.apply(id, Transition::Fail { token, failure }).await;
    let key = json!({
        "name": "ci", "role": "developer", "project": "vision", "expires_in_s": 600,
    });
    let made = app.bare("POST", "/v1/keys");
    let made = made.bearer_auth(app.token_of("acme", "boss", Role::Admin));
    let key = send(made.body(key.to_string())).await.expect(201).json();
    let key = key["key"].as_str().unwrap().to_owned();
    let uses = async |key: &str| send(app.bare("GET", "/v1/jobs").bearer_auth(key)).await;
    uses(&key).await.expect(200);
    by(&app, ADA, "DELETE", &format!("/v1/jobs/{id}"), "")
        .await
        .expect(204);
    by(&app, BOSS, "DELETE", "/v1/projects/vision", "")
        .await
        .expect(204);
    uses(&key).await.expect(401);
    let seen = async |who| {
        by(&app, who, "GET", "/v1/usage", "")
            .await
            .expect(200)
            .json()
    };
    assert_eq!(seen(BOB).await["attempts"], json!([]));
    assert_eq!(seen(BOSS).await["attempts"].as_array().unwrap().len(), 1);
    // A job of an earlier version may be in a project that nobody made.
    let stray = by(&app, BOB, "POST", "/v1/jobs", SPEC)
        .await
        .expect(202)
        .json();
    let stray: JobId = stray["id"].as_str().unwrap().parse().unwrap();
    let mut change = app.store.job(stray).await.unwrap().unwrap();
    change.spec.project = "nowhere".to_owned();
    change.revision += 1;
    let change = Change {
        record: change,
        events: Vec::new(),
        messages: Vec::new(),
        documents: Vec::new(),
    };
    assert_eq!(
        app.store.update_job(&change, None).await,
        Ok(Update::Written)
    );
    for (who, status) in [(BOB, 404), (EVE, 404), (BOSS, 200)] {
        by(&app, who, "GET", &format!("/v1/jobs/{stray}"), "")
            .await
            .expect(status);
    }
    let done = by(
        &app,
        BOB,
        "POST",
        "/v1/jobs/batch",
        r#"{"action": "cancel"}"#,
    )
    .await;
    assert_eq!(done.json(), json!({ "done": [], "left": [] }));
}
