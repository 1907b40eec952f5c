//! Bad input: each case has its status and field, and stores nothing.

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{POINTS, SPEC, TestApp, send};

/// A model that fits, and two whose layers don't.
const FAMILY: &str = "family = \"mlp\"\nhidden = [4]";
const CONVOLUTION: &str = "layers = [{ type = \"conv2d\", channels = 2, kernel = 3 }]";
const POOLING: &str =
    "layers = [{ type = \"linear\", units = 4 }, { type = \"max_pool2d\", kernel = 2 }]";

/// Status and field that a change of [`SPEC`] must have: from, to.
const WRONG: &[(u16, &str, &str, &str)] = &[
    (422, "train.epoch", "epochs = 1", "epoch = 1"),
    (
        422,
        "colour",
        "name = \"points\"",
        "name = \"points\"\ncolour = 1",
    ),
    (422, "model.hiden", "hidden = [4]", "hiden = [4]"),
    (422, "model.family", "\"mlp\"", "\"transformer\""),
    (422, "model.layers[0]", FAMILY, CONVOLUTION),
    (422, "model.layers[1]", FAMILY, POOLING),
    (
        422,
        "data.target",
        "target = \"label\"",
        "target = \"lable\"",
    ),
    (
        422,
        "data.features[1]",
        "[model]",
        "features = [\"x\", \"z\"]\n[model]",
    ),
    (422, "data.target", "target = \"label\"", "target = \"x\""),
    (
        422,
        "data.dataset",
        "\"points\"\ntarget",
        "\"pionts\"\ntarget",
    ),
    (
        422,
        "data.dataset",
        "\"points\"\ntarget",
        "\"points@9\"\ntarget",
    ),
    (
        422,
        "data.features",
        "dataset = \"points\"\ntarget = \"label\"",
        "dataset = \"words\"\ntarget = \"n\"",
    ),
    (422, "train.batch_size", "batch_size = 2", "batch_size = 0"),
    (
        422,
        "train.batch_size",
        "batch_size = 2",
        "batch_size = \"two\"",
    ),
    (
        422,
        "preprocess[0].plugin",
        "[model]",
        "[[preprocess]]\nplugin = \"augment\"\n[model]",
    ),
    (
        422,
        "metrics[0].plugin",
        "[model]",
        "[[metrics]]\nplugin = \"f1@1\"\n[model]",
    ),
    (400, "", "[train]", "[train"),
];

#[tokio::test]
async fn specs_that_are_wrong_are_refused_by_field() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let text = app.upload("name=words&format=csv", "word,n\nfoo,1\nbar,-2\n");
    text.await.expect(201);
    let before = app.stored().await;
    for (status, field, from, to) in WRONG {
        assert!(SPEC.contains(from), "{from}");
        let answer = app.submit("bad", &SPEC.replace(from, to)).await;
        answer.expect_problem(*status, "invalid_input", field);
    }
    assert_eq!(app.stored().await, before);
    assert!(app.relay.0.lock().unwrap().is_empty());
    // A refused key is free.
    app.submit("bad", SPEC).await.expect(202);
}

#[tokio::test]
async fn labels_out_of_range_are_refused() {
    let app = TestApp::start().await;
    app.upload("name=points&format=csv", POINTS.replace(",2\n", ",-1\n"))
        .await
        .expect(201);
    let before = app.stored().await;
    let answer = app.submit("bad", SPEC).await;
    let answer = answer.expect_problem(422, "invalid_input", "data.target");
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(message.contains("-1"), "{message}");
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn errors_name_the_nearest_thing_there_is() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    for (from, to, hint) in [
        (
            "\"points\"\ntarget",
            "\"pionts\"\ntarget",
            "did you mean `points`?",
        ),
        (
            "\"points\"\ntarget",
            "\"points@9\"\ntarget",
            "its versions: 1",
        ),
        (
            "target = \"label\"",
            "target = \"lable\"",
            "did you mean `label`?",
        ),
    ] {
        let answer = app.submit("bad", &SPEC.replace(from, to)).await.json();
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(hint), "{message}");
    }
}

#[tokio::test]
async fn a_submit_needs_a_key_a_type_and_a_body() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    let post = |key: Option<&str>, kind: &str, body: &str| {
        let request = app.request("POST", "/v1/jobs").body(body.to_owned());
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        send(request.header("Content-Type", kind))
    };
    let long = "k".repeat(129);
    let cases = [
        (None, "application/toml", SPEC, 400, "Idempotency-Key"),
        (Some(""), "application/toml", SPEC, 400, "Idempotency-Key"),
        (
            Some(&*long),
            "application/toml",
            SPEC,
            400,
            "Idempotency-Key",
        ),
        (
            Some("a\tb"),
            "application/toml",
            SPEC,
            400,
            "Idempotency-Key",
        ),
        (Some("k"), "text/plain", SPEC, 415, "Content-Type"),
        (Some("k"), "application/json", SPEC, 400, ""),
        (Some("k"), "application/json", "{\"name\": 1", 400, ""),
        (Some("k"), "application/json", "", 400, ""),
        (Some("k"), "application/json", "[]", 400, ""),
    ];
    for (key, kind, body, status, field) in cases {
        let answer = post(key, kind, body).await;
        answer.expect_problem(status, "invalid_input", field);
    }
    let large = format!("{SPEC}#{}", "x".repeat(256 * 1024));
    let answer = post(Some("k"), "application/toml", &large).await;
    answer.expect_problem(413, "too_large", "");
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn query_parameters_are_refused_by_name() {
    let app = TestApp::start().await;
    for (path, field) in [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=501", "limit"),
        ("/v1/jobs?limit=many", "limit"),
        ("/v1/jobs?state=runing", "state"),
        ("/v1/jobs?after=job-1", "after"),
        ("/v1/jobs?tag=vision", "tag"),
        ("/v1/jobs?stat=running", "stat"),
        ("/v1/jobs?name=a&name=b", "name"),
        ("/v1/datasets?limit=-1", "limit"),
        ("/v1/plugins?before=x", "before"),
    ] {
        let answer = app.get(path).await;
        answer.expect_problem(400, "invalid_input", field);
    }
    let state = app.get("/v1/jobs?state=runing").await.json();
    assert!(
        state["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `running`?")
    );
}

#[tokio::test]
async fn a_csv_broken_in_one_row_is_refused_by_that_row() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    let mut lines = vec!["pixel_1,pixel_2,label".to_owned()];
    lines.extend((2..=2000).map(|i| format!("{i},7,1")));
    lines[1233] = "1,abc,0".to_owned();
    let answer = app.upload("name=broken&format=csv", lines.join("\n")).await;
    let answer = answer.expect_problem(422, "invalid_input", "body");
    assert_eq!(
        answer.json()["errors"][0]["message"],
        "row 1234, column `pixel_2`: \"abc\" is not a number; correct it, or leave the field empty where the value is missing"
    );
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn uploads_that_make_no_sense_are_refused_by_parameter() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    for (query, field) in [
        ("format=csv", "name"),
        ("name=a/b&format=csv", "name"),
        ("name=a", "format"),
        ("name=a&format=xls", "format"),
        ("name=a&format=csv&header=maybe", "header"),
        ("name=a&format=csv&heeder=yes", "heeder"),
    ] {
        let answer = app.upload(query, POINTS).await;
        answer.expect_problem(400, "invalid_input", field);
    }
    let request = app
        .request("POST", "/v1/datasets?name=a&format=csv")
        .body(POINTS);
    let answer = send(request).await;
    answer.expect_problem(400, "invalid_input", "Idempotency-Key");
    for (format, bytes) in [
        ("csv", ""),
        ("csv_gz", POINTS),
        ("npy", POINTS),
        ("npz", POINTS),
    ] {
        let answer = app.upload(&format!("name=a&format={format}"), bytes).await;
        answer.expect_problem(422, "invalid_input", "body");
    }
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn uploads_that_are_too_large_are_refused() {
    let app = TestApp::start_with(|config, _| {
        config.dataset_max_bytes = 1000;
        config.plugin_max_bytes = 1000;
    })
    .await;
    let before = app.stored().await;
    let large = "1,2\n".repeat(300);
    for path in [
        "/v1/datasets?name=a&format=csv",
        "/v1/plugins?name=a&version=1",
    ] {
        let request = || app.request("POST", path).header("Idempotency-Key", "k");
        let answer = send(request().body(large.clone())).await;
        answer.expect_problem(413, "too_large", "");
        // Without a length beforehand.
        let chunks = vec![large[..400].to_owned(); 4]
            .into_iter()
            .map(Ok::<_, String>);
        let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let answer = send(request().body(stream)).await;
        answer.expect_problem(413, "too_large", "");
    }
    assert_eq!(app.stored().await, before);
}

/// A client that is still sending must get to read the answer.
#[tokio::test]
async fn an_upload_far_too_large_is_told_so() {
    let app = TestApp::start_with(|config, _| config.dataset_max_bytes = 1000).await;
    let large = "1,2\n".repeat(16 << 20);
    for _ in 0..3 {
        let answer = app.upload("name=a&format=csv", large.clone()).await;
        answer.expect_problem(413, "too_large", "");
        let chunks = large.clone().into_bytes();
        let chunks =
            futures::stream::iter(0..64).map(move |_| Ok::<_, String>(chunks[..1 << 20].to_vec()));
        let request = app
            .request("POST", "/v1/datasets?name=a&format=csv")
            .header("Idempotency-Key", "k");
        let answer = send(request.body(reqwest::Body::wrap_stream(chunks))).await;
        answer.expect_problem(413, "too_large", "");
    }
}

#[tokio::test]
async fn uploads_with_another_hash_are_refused() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    for path in [
        "/v1/datasets?name=a&format=csv",
        "/v1/plugins?name=a&version=1",
    ] {
        let post = |hash: String| {
            let request = app.request("POST", path).header("Idempotency-Key", "k");
            send(request.header("Content-BLAKE3", hash).body(POINTS))
        };
        let other = blake3::hash(b"other").to_hex().to_string();
        post(other).await.expect_problem(400, "incomplete", "");
        let answer = post("xyz".to_owned()).await;
        answer.expect_problem(400, "invalid_input", "Content-BLAKE3");
    }
    assert_eq!(app.stored().await, before);
}

#[tokio::test]
async fn uploads_that_are_cut_off_are_refused() {
    let app = TestApp::start().await;
    let before = app.stored().await;
    let token = app.token("acme", stoker_domain::tenant::Role::Developer);
    for (framing, part) in [
        ("Content-Length: 1000", "1,2\n3,4\n"),
        ("Transfer-Encoding: chunked", "8\r\n1,2\n3,4\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(app.server.addr()).await.unwrap();
        let head = format!(
            "POST /v1/datasets?name=cut&format=csv HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {token}\r\nIdempotency-Key: k\r\n{framing}\r\n\r\n{part}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("\"code\":\"incomplete\""), "{answer}");
    }
    assert_eq!(app.stored().await, before);
}
