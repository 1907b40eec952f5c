//! What goes wrong around handlers.

use std::sync::Arc;

use stoker_domain::time::Millis;

use super::harness::{SPEC, TestApp, send};
use super::ports::{Away, Panicking};
use crate::{Config, ServeError, TlsConfig, serve};

#[tokio::test]
async fn pages_and_methods_that_are_not_there() {
    let app = TestApp::start().await;
    app.get("/v1/nothing")
        .await
        .expect_problem(404, "not_found", "");
    app.get("/").await.expect_problem(404, "not_found", "");
    for (method, path, allow) in [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("DELETE", "/v1/datasets", "GET, POST"),
        ("PATCH", "/v1/jobs/job-1", "GET, DELETE"),
        ("POST", "/healthz", "GET"),
    ] {
        let answer = send(app.request(method, path)).await;
        let answer = answer.expect_problem(405, "invalid_input", "");
        let allowed = answer.headers.get_all("allow").iter();
        let allowed: Vec<&str> = allowed.map(|v| v.to_str().unwrap()).collect();
        assert_eq!(allowed.join(", "), allow);
    }
}

#[tokio::test]
async fn the_store_is_away() {
    let app = TestApp::start_with(|_, ports| {
        ports.jobs = Arc::new(Away);
        ports.catalog = Arc::new(Away);
    })
    .await;
    let answers = [
        send(app.bare("GET", "/readyz")).await,
        app.get("/v1/jobs").await,
        app.get("/v1/datasets").await,
        app.submit("k", SPEC).await,
    ];
    for answer in answers {
        let answer = answer.expect_problem(503, "unavailable", "");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    send(app.bare("GET", "/healthz")).await.expect(200);
}

#[tokio::test]
async fn a_panic_stays_inside() {
    let app = TestApp::start_with(|_, ports| ports.telemetry = Arc::new(Panicking)).await;
    let id = app.submitted().await;
    for _ in 0..3 {
        let answer = app.get(&format!("/v1/jobs/{id}/metrics")).await;
        let answer = answer.expect_problem(500, "internal", "");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    app.get(&format!("/v1/jobs/{id}")).await.expect(200);
}

#[tokio::test]
async fn the_health_pages_need_no_token() {
    let app = TestApp::start().await;
    assert_eq!(
        send(app.bare("GET", "/healthz")).await.expect(200).body,
        b"ok"
    );
    assert_eq!(
        send(app.bare("GET", "/readyz")).await.expect(200).body,
        b"ready"
    );
    send(app.bare("GET", "/openapi.json")).await.expect(200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let app = TestApp::start_with(|config, _| config.request_timeout = Millis(50)).await;
    let mut stream = tokio::net::TcpStream::connect(app.server.addr())
        .await
        .unwrap();
    let token = app.token("acme", stoker_domain::tenant::Role::Developer);
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Idempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 504");
}

#[test]
fn a_configuration_is_checked_as_a_whole() {
    let mut config = Config {
        presigned_life: Millis(16 * 60 * 1000),
        page_default: 0,
        ..Config::default()
    };
    config.events.poll = Millis(1);
    let errors = config.validate().unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "page_default",
            "presigned_life",
            "events.poll",
            "auth.signing_key"
        ]
    );
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    assert!(toml::from_str::<Config>("bnid = \"127.0.0.1:1\"").is_err());
}

#[tokio::test]
async fn what_can_not_be_served_is_said_at_once() {
    let app = TestApp::start().await;
    let taken = app.server.addr();
    let try_config = async |change: fn(&mut Config, std::net::SocketAddr)| {
        let mut config = app.config.clone();
        change(&mut config, taken);
        serve(config, app.ports.clone())
            .await
            .map(drop)
            .unwrap_err()
    };
    let error = try_config(|config, taken| config.bind = taken).await;
    assert!(matches!(error, ServeError::Bind { .. }), "{error}");
    let error = try_config(|config, _| config.auth.signing_key = None).await;
    assert!(matches!(error, ServeError::Config(_)), "{error}");
    let error = try_config(|config, _| config.auth.signing_key = Some("/nowhere".into())).await;
    assert!(matches!(error, ServeError::Key(_)), "{error}");
    let error = try_config(|config, _| config.auth.jwks = Some("/nowhere".into())).await;
    assert!(matches!(error, ServeError::Keys(_)), "{error}");
    let error = try_config(|config, _| {
        config.tls = Some(TlsConfig {
            certificates: "/nowhere".into(),
            key: "/nowhere".into(),
        });
    })
    .await;
    assert!(matches!(error, ServeError::Tls(_)), "{error}");
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_configured() {
    let dir = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificates, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificates, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let app = TestApp::start_with(|config, _| {
        config.tls = Some(TlsConfig { certificates, key });
    })
    .await;
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([trusted])
        .resolve("localhost", app.server.addr())
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/healthz", app.server.addr().port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok");
}
