//! How often a tenant may ask.

use stoker_domain::tenant::Role;

use super::harness::{TestApp, send};

#[tokio::test]
async fn a_tenant_that_asks_too_often_waits_and_others_do_not() {
    let app = TestApp::start_with(|config, _| {
        config.rate.per_s = 2;
        config.rate.burst = 3;
    })
    .await;
    for _ in 0..3 {
        app.get("/v1/jobs").await.expect(200);
    }
    let refused = app.get("/v1/jobs").await;
    let refused = refused.expect_problem(429, "rate_limited", "");
    assert!(!refused.header("retry-after").is_empty());
    let told = refused.json()["detail"].to_string();
    assert!(
        told.contains("2 times a second") && told.contains("500 ms"),
        "{told}"
    );
    let theirs = app.request_as("other", Role::Viewer, "GET", "/v1/jobs");
    send(theirs).await.expect(200);
    // What is public, and what has no valid token, isn't counted.
    send(app.bare("GET", "/healthz")).await.expect(200);
    send(app.bare("GET", "/v1/jobs")).await.expect(401);
    app.clock.advance_ms(500);
    app.get("/v1/jobs").await.expect(200);
    app.get("/v1/jobs").await.expect(429);
    app.clock.advance_ms(60_000);
    for _ in 0..3 {
        app.get("/v1/jobs").await.expect(200);
    }
    app.get("/v1/jobs").await.expect(429);
}

#[tokio::test]
async fn without_a_rate_nobody_waits() {
    let app = TestApp::start_with(|config, _| config.rate.per_s = 0).await;
    for _ in 0..50 {
        app.get("/v1/jobs").await.expect(200);
    }
}
