//! Events by page and as they come.

use futures::StreamExt;
use reqwest::Response;
use stoker_domain::JobId;
use stoker_domain::job::Transition;
use stoker_domain::time::Millis;

use super::harness::{TestApp, send};

async fn open(app: &TestApp, id: JobId, last: Option<&str>) -> Response {
    let request = app.request("GET", &format!("/v1/jobs/{id}/events"));
    let request = request.header("Accept", "text/event-stream");
    let request = match last {
        Some(last) => request.header("Last-Event-ID", last),
        None => request,
    };
    request.send().await.unwrap()
}

/// The `id` and `event` lines of a whole stream.
fn heads(text: &str) -> Vec<String> {
    let lines = text.lines();
    let heads = lines.filter(|line| line.starts_with("id:") || line.starts_with("event:"));
    heads.map(str::to_owned).collect()
}

#[tokio::test]
async fn events_come_in_pages() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    app.run(id).await;
    let path = format!("/v1/jobs/{id}/events");
    let all = app.get(&path).await.expect(200).json();
    assert_eq!(all["next"], 3);
    assert_eq!(all["events"][2]["type"], "started");
    let page = app.get(&format!("{path}?from=1&limit=1")).await.json();
    assert_eq!(page["events"][0]["type"], "dispatched");
    assert_eq!(page["next"], 2);
    let none = app.get(&format!("{path}?from=9")).await.json();
    assert_eq!(none["next"], 9);
}

#[tokio::test]
async fn a_stream_follows_a_job_to_its_end() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let response = open(&app, id, None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(
        first.starts_with(b"id: 0\nevent: queued\ndata: {"),
        "{first:?}"
    );
    app.run(id).await;
    app.apply(id, Transition::Cancel).await;
    let rest: Vec<_> = stream.map(|chunk| chunk.unwrap()).collect().await;
    assert_eq!(
        heads(&String::from_utf8(rest.concat()).unwrap()),
        [
            "id: 1",
            "event: dispatched",
            "id: 2",
            "event: started",
            "id: 3",
            "event: cancelled"
        ]
    );
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    app.run(id).await;
    app.apply(id, Transition::Cancel).await;
    let text = open(&app, id, Some("1")).await.text().await.unwrap();
    assert_eq!(
        heads(&text),
        ["id: 2", "event: started", "id: 3", "event: cancelled"]
    );
    // Nothing is left: the stream ends at once.
    assert_eq!(open(&app, id, Some("3")).await.text().await.unwrap(), "");
    let path = format!("/v1/jobs/{id}/events");
    let request = app
        .request("GET", &path)
        .header("Accept", "text/event-stream");
    let answer = send(request.header("Last-Event-ID", "x")).await;
    answer.expect_problem(400, "invalid_input", "Last-Event-ID");
}

#[tokio::test]
async fn an_idle_stream_has_heartbeats_and_a_life() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let mut stream = open(&app, id, Some("0")).await.bytes_stream();
    app.clock.advance_ms(10_000);
    let beat = stream.next().await.unwrap().unwrap();
    assert!(beat.starts_with(b": "), "{beat:?}");
    app.clock.advance_ms(3_600_000);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_ends_when_its_job_is_removed() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let mut stream = open(&app, id, Some("5")).await.bytes_stream();
    app.apply(id, Transition::Cancel).await;
    send(app.request("DELETE", &format!("/v1/jobs/{id}")))
        .await
        .expect(204);
    app.clock.advance_ms(10_000);
    let beat = stream.next().await;
    assert!(beat.is_none_or(|beat| beat.unwrap().starts_with(b": ")));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let app = TestApp::start_with(|config, _| config.events.streams_max = 1).await;
    let id = app.submitted().await;
    let first = open(&app, id, None).await;
    assert_eq!(first.status(), 200);
    let second = open(&app, id, None).await;
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "1");
    app.apply(id, Transition::Cancel).await;
    first.text().await.unwrap();
    assert_eq!(open(&app, id, None).await.status(), 200);
}

#[tokio::test]
async fn a_server_stops_within_its_limit_though_a_stream_is_open() {
    let app = TestApp::start_with(|config, _| config.shutdown_timeout = Millis(1_000)).await;
    let id = app.submitted().await;
    let mut stream = open(&app, id, None).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let address = app.server.addr();
    app.server.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
