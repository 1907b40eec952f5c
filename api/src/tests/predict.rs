//! Predictions: of one's own finished jobs, of rows that fit, and few at a time.

use serde_json::json;
use stoker_domain::tenant::Role;

use super::artifacts::succeeded;
use super::harness::{TestApp, send};

#[tokio::test]
async fn rows_are_predicted_by_a_finished_job() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await;
    let path = format!("/v1/jobs/{id}/predict");
    let ask = |body: serde_json::Value| send(app.request("POST", &path).json(&body));
    let answer = ask(json!({"rows": [{"x": 1}, {"x": 1, "y": 2}]}))
        .await
        .expect(200);
    let expected =
        json!({"predictions": [{"row": 0, "values": [1.0]}, {"row": 1, "values": [2.0]}]});
    assert_eq!(answer.json(), expected);
    ask(json!({"rows": [{"bad": 1}]}))
        .await
        .expect_problem(422, "invalid_input", "rows");
    ask(json!({"rows": []}))
        .await
        .expect_problem(422, "invalid_input", "rows");
    let many: Vec<_> = (0..1001).map(|x| json!({"x": x})).collect();
    ask(json!({"rows": many}))
        .await
        .expect_problem(422, "invalid_input", "rows");
    ask(json!({"row": []}))
        .await
        .expect_problem(400, "invalid_input", "");
    let other = app.request_as("other", Role::Operator, "POST", &path);
    let other = send(other.json(&json!({"rows": [{"x": 1}]}))).await;
    other.expect_problem(404, "not_found", "");
}

#[tokio::test]
async fn a_job_without_a_model_predicts_nothing() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let request = app.request("POST", &format!("/v1/jobs/{id}/predict"));
    let answer = send(request.json(&json!({"rows": [{"x": 1}]}))).await;
    answer.expect_problem(409, "conflict", "");
}
