//! Data sets that the API fetches: over a real server on loopback and the adapter that checks it.

use std::sync::Arc;

use stoker_infra::{RemoteSources, SourcesConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::harness::{Answer, POINTS, TestApp, send};

/// A server that answers the first requests with these and closes; its URL.
async fn site(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            // A client that has seen enough goes away.
            let _ = stream.write_all(&answer).await;
        }
    });
    url
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

async fn app(url: &str) -> TestApp {
    let config = SourcesConfig {
        allow: vec![format!("{url}/")],
        private: vec!["127.0.0.1/32".to_owned()],
        ..SourcesConfig::default()
    };
    let sources = Arc::new(RemoteSources::new(&config, |_| None).unwrap());
    TestApp::start_with(|config, ports| {
        ports.sources = sources;
        config.dataset_max_bytes = 1_000;
    })
    .await
}

async fn fetch(app: &TestApp, key: &str, query: &[(&str, &str)]) -> Answer {
    let request = app.request("POST", &path(query));
    send(request.header("Idempotency-Key", key)).await
}

fn path(query: &[(&str, &str)]) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    format!("/v1/datasets?{}", pairs.extend_pairs(query).finish())
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_data_set_is_made_of_what_is_fetched() {
    let other = POINTS.replace("0.5", "0.75");
    let url = site(vec![ok(POINTS), ok(&other), ok(&other)]).await;
    let app = app(&url).await;
    let from = format!("{url}/points.csv?sig=secret");
    let query = [("name", "points"), ("from", from.as_str())];
    let made = fetch(&app, "k", &query).await.expect(201).json();
    assert_eq!(made["source"], format!("{url}/points.csv"));
    assert_eq!(
        (&made["format"], &made["version"]),
        (&"csv".into(), &1.into())
    );
    assert_eq!(
        made["blake3"],
        blake3::hash(POINTS.as_bytes()).to_hex().as_str()
    );
    assert_eq!(app.get("/v1/datasets/points").await.json(), made);
    // A repeat fetches nothing; a new request finds what the source has become.
    assert_eq!(fetch(&app, "k", &query).await.expect(201).json(), made);
    let changed = fetch(&app, "l", &query).await.expect(201).json();
    assert_eq!(changed["version"], 2);
    let same = fetch(&app, "m", &query).await.expect(200).json();
    assert_eq!(same, changed);
    let mismatch = [("name", "other"), ("from", from.as_str())];
    let mismatch = fetch(&app, "k", &mismatch).await;
    mismatch.expect_problem(422, "idempotency_mismatch", "");
    let uploaded = app
        .upload("name=direct&format=csv", POINTS)
        .await
        .expect(201);
    assert_eq!(uploaded.json().get("source"), None);
}

#[tokio::test]
async fn what_can_not_be_fetched_leaves_nothing() {
    let large = "1,2\n".repeat(300);
    let lying = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{large}").into_bytes();
    let url = site(vec![
        ok(&large),
        lying,
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n1,2\n".to_vec(),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ok("1,2\n3,x\n4,5\n6,7\n8,9\n"),
    ])
    .await;
    let app = app(&url).await;
    let before = app.stored().await;
    let from = format!("{url}/a.csv?sig=secret");
    for (status, code, field, part) in [
        (413, "too_large", "", "1000 bytes"),
        (413, "too_large", "", "1000 bytes"),
        (503, "unavailable", "", "broke off"),
        (422, "invalid_input", "from", "answered 404 Not Found"),
        (
            503,
            "unavailable",
            "",
            "answered 503 Service Unavailable; try again",
        ),
        (422, "invalid_input", "body", "is not a number"),
    ] {
        let answer = fetch(&app, "k", &[("name", "a"), ("from", &from)]).await;
        let answer = answer.expect_problem(status, code, field);
        let told = detail(&answer);
        assert!(told.contains(part) && !told.contains("secret"), "{told}");
    }
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_parameter() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    let url = "https://data.example.org/a.csv?secret";
    for (status, field, query) in [
        (422, "from", vec![("from", url)]),
        (422, "from", vec![("from", "nonsense"), ("format", "csv")]),
        (422, "from", vec![("from", "http://169.254.169.254/a.csv")]),
        (422, "from", vec![("from", url), ("credentials", "x")]),
        (
            400,
            "credentials",
            vec![("credentials", "x"), ("format", "csv")],
        ),
        (
            400,
            "format",
            vec![("from", "https://data.example.org/a?x=secret.csv")],
        ),
        (400, "from", vec![("from", url), ("upload", "upload-1")]),
    ] {
        let query: Vec<_> = [("name", "a")].into_iter().chain(query).collect();
        let answer = fetch(&app, "k", &query).await;
        let answer = answer.expect_problem(status, "invalid_input", field);
        assert!(!detail(&answer).contains("secret"), "{}", detail(&answer));
    }
    let with_body = app.request("POST", &path(&[("name", "a"), ("from", url)]));
    let with_body = with_body.header("Idempotency-Key", "k").body(POINTS);
    send(with_body)
        .await
        .expect_problem(422, "invalid_input", "body");
    assert_eq!(app.stored().await, before);
}
