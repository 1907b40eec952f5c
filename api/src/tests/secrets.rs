//! Secrets: written once, seen by nobody; and webhooks that name them.

use serde_json::json;
use stoker_domain::port::{Catalog, CatalogKind};
use stoker_domain::tenant::Role;

use super::harness::{SPEC, TestApp, send};

#[tokio::test]
async fn a_secret_is_written_and_never_read() {
    let app = TestApp::start().await;
    let put = async |body: &str| {
        let request = app.request("PUT", "/v1/secrets/hook");
        send(request.body(body.to_owned())).await
    };
    let view = put("s3cret").await.expect(200).json();
    assert_eq!(view["name"], "hook");
    put("other").await.expect(200);
    let list = app.get("/v1/secrets").await.expect(200).json();
    assert_eq!(list["secrets"].as_array().unwrap().len(), 1);
    let acme = "acme".parse().unwrap();
    let kept = app.store.get(CatalogKind::Secret, &acme, "hook").await;
    let kept = kept.unwrap().unwrap().value.to_string();
    let audit = app.request_as("acme", Role::Admin, "GET", "/v1/audit");
    let audit = send(audit).await.json().to_string();
    assert!(audit.contains("put_secret"));
    for text in [view.to_string(), list.to_string(), kept, audit] {
        assert!(
            !text.contains("s3cret") && !text.contains("other"),
            "{text}"
        );
    }
    put("").await.expect_problem(422, "invalid_input", "body");
    let large = "x".repeat((64 << 10) + 1);
    put(&large).await.expect_problem(413, "too_large", "");
    let theirs = app.request_as("zeta", Role::Operator, "GET", "/v1/secrets");
    assert_eq!(send(theirs).await.json(), json!({ "secrets": [] }));
    let theirs = app.request_as("zeta", Role::Operator, "DELETE", "/v1/secrets/hook");
    send(theirs).await.expect(404);
    let delete = || send(app.request("DELETE", "/v1/secrets/hook"));
    delete().await.expect(204);
    delete().await.expect_problem(404, "not_found", "");
}

#[tokio::test]
async fn a_webhook_needs_a_url_a_secret_and_events_that_there_are() {
    let app = TestApp::start().await;
    app.upload_points().await;
    let spec = |webhook: &str| format!("{SPEC}\n[[notify.webhooks]]\n{webhook}\n");
    let url = "url = \"https://hooks.example.org/a\"";
    let unknown = app
        .submit("k", &spec(&format!("{url}\nsecret = \"hook\"")))
        .await;
    unknown.expect_problem(422, "invalid_input", "notify.webhooks[0].secret");
    let secret = app.request("PUT", "/v1/secrets/hook").body("s3cret");
    send(secret).await.expect(200);
    for (webhook, field) in [
        ("url = \"ftp://a.example\"\nsecret = \"hook\"", "url"),
        ("url = \"https://\"\nsecret = \"hook\"", "url"),
        (
            "url = \"https://me:pw@a.example\"\nsecret = \"hook\"",
            "url",
        ),
        ("url = \"https://a.example/a b\"\nsecret = \"hook\"", "url"),
        ("url = \"https://a.example\"\nsecret = \"a b\"", "secret"),
        (
            "url = \"https://a.example\"\nsecret = \"hook\"\nevents = []",
            "events",
        ),
        (
            "url = \"https://a.example\"\nsecret = \"hook\"\nevents = [\"sucseeded\"]",
            "events[0]",
        ),
    ] {
        let refused = app.submit("k", &spec(webhook)).await;
        refused.expect_problem(422, "invalid_input", &format!("notify.webhooks[0].{field}"));
    }
    let job = app
        .submit("k", &spec(&format!("{url}\nsecret = \"hook\"")))
        .await;
    let events = &job.expect(202).json()["spec"]["notify"]["webhooks"][0]["events"];
    assert_eq!(*events, json!(["succeeded", "failed", "cancelled"]));
}

#[tokio::test]
async fn the_server_tells_who_asks() {
    let app = TestApp::start().await;
    let told = app.get("/v1/caller").await.expect(200).json();
    assert_eq!(
        told,
        json!({ "tenant": "acme", "subject": "ada", "role": "developer" })
    );
}
