//! Jobs that are run again, and what differs between two.

use serde_json::json;
use stoker_domain::diff::TRACE;
use stoker_domain::port::{CatalogKind, Point};

use super::artifacts::succeeded;
use super::harness::{Answer, SPEC, TestApp, send};

async fn replay(app: &TestApp, id: &str, key: &str) -> Answer {
    let request = app.request("POST", &format!("/v1/jobs/{id}/replay"));
    send(request.header("Idempotency-Key", key)).await
}

#[tokio::test]
async fn a_replay_is_the_same_job_again() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await.to_string();
    let first = replay(&app, &id, "again").await.expect(202).json();
    assert_eq!(first["replay_of"], id);
    let original = app.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(first["spec"], original["spec"]);
    assert_eq!(first["inputs"], original["inputs"]);
    assert_ne!(first["id"], original["id"]);
    let repeat = replay(&app, &id, "again").await.expect(202).json();
    assert_eq!(repeat["id"], first["id"], "one replay for one key");
    // The new one has no weights yet.
    let path = format!("/v1/jobs/{}/diff", first["id"].as_str().unwrap());
    let diff = app.get(&path).await.expect(200).json();
    assert_eq!((&diff["a"], &diff["b"]), (&original["id"], &first["id"]));
    assert_eq!(diff["equal"], json!(null));
    assert_eq!((&diff["spec"], &diff["data"]), (&json!([]), &json!(null)));
}

#[tokio::test]
async fn what_changed_since_is_named() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await;
    let unfinished = app.submit("second", SPEC).await.expect(202).json();
    let unfinished = unfinished["id"].as_str().unwrap();
    replay(&app, unfinished, "x")
        .await
        .expect_problem(409, "conflict", "");
    let tenant = "acme".parse().unwrap();
    let kind = CatalogKind::Dataset;
    let catalog = &app.ports.catalog;
    catalog
        .delete(kind, &tenant, "points@1", &[])
        .await
        .unwrap();
    let gone = replay(&app, &id.to_string(), "y").await;
    let gone = gone.expect_problem(409, "conflict", "").json();
    let detail = gone["detail"].as_str().unwrap();
    assert!(
        detail.contains("`points@1`") && detail.contains("any more"),
        "{detail}"
    );
    app.upload("name=points&format=csv", "x,y,label\n0,1,0\n1,2,1\n")
        .await
        .expect(201);
    let other = replay(&app, &id.to_string(), "z").await;
    let other = other.expect_problem(409, "conflict", "").json();
    let detail = other["detail"].as_str().unwrap();
    assert!(detail.contains("`points@1` isn't what it was"), "{detail}");
}

#[tokio::test]
async fn a_diff_names_fields_and_the_first_interval() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await;
    let other = SPEC.replace("epochs = 1", "epochs = 1\nseed = 4");
    let other = app.submit("second", &other).await.expect(202).json();
    let other: stoker_domain::JobId = other["id"].as_str().unwrap().parse().unwrap();
    for (job, last) in [(id, 3.0), (other, 4.0)] {
        let point = |step, value| Point {
            metric: TRACE.to_owned(),
            step,
            value,
        };
        let points = [point(1, 1.0), point(2, 2.0), point(3, last)];
        app.ports
            .telemetry
            .append_points(job, 1, &points)
            .await
            .unwrap();
    }
    let diff = app.get(&format!("/v1/jobs/{id}/diff?with={other}")).await;
    let diff = diff.expect(200).json();
    let seed = json!([{"name": "train.seed", "a": 0, "b": 4}]);
    assert_eq!(diff["spec"], seed);
    let interval = json!({"equal_after": 2, "different_after": 3});
    assert_eq!(diff["diverged"], interval);
    let none = app.get(&format!("/v1/jobs/{id}/diff")).await;
    none.expect_problem(422, "invalid_input", "with");
    let theirs = app.request_as(
        "other",
        stoker_domain::tenant::Role::Operator,
        "GET",
        &format!("/v1/jobs/{id}/diff?with={other}"),
    );
    send(theirs).await.expect_problem(404, "not_found", "");
}
