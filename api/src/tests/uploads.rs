//! Uploads in parts: what comes stays, in order, for its tenant alone, over every object storage.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde_json::Value;
use stoker_domain::tenant::Role;
use stoker_domain::time::Millis;
use stoker_infra::testing::S3;
use stoker_infra::{ObjectConfig, objects};

use super::harness::{Answer, POINTS, TestApp, send};
use crate::serve;

async fn begin(app: &TestApp, size: usize) -> String {
    let key = format!("upload {}", uuid::Uuid::now_v7());
    let answer = begin_as(app, &key, size).await.expect(201);
    assert_eq!(answer.json()["offset"], 0);
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn begin_as(app: &TestApp, key: &str, size: usize) -> Answer {
    let request = app.request("POST", &format!("/v1/uploads?size_bytes={size}"));
    send(request.header("Idempotency-Key", key)).await
}

async fn append(app: &TestApp, id: &str, offset: usize, part: impl Into<Vec<u8>>) -> Answer {
    let request = app.request("PATCH", &format!("/v1/uploads/{id}"));
    let request = request.header("Upload-Offset", offset.to_string());
    send(request.body(part.into())).await
}

async fn finish(app: &TestApp, key: &str, query: &str) -> Answer {
    let request = app.request("POST", &format!("/v1/datasets?format=csv&{query}"));
    send(request.header("Idempotency-Key", key)).await
}

/// Names of the objects of uploads.
async fn kept(objects: &dyn ObjectStore) -> Vec<String> {
    let prefix = object_store::path::Path::from("uploads");
    let listed = objects.list(Some(&prefix));
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    listed.into_iter().map(|o| o.location.to_string()).collect()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Parts, with the API started anew between them; the data set is that of a direct upload.
async fn goes_on_after_a_restart(objects: Arc<dyn ObjectStore>) {
    let mut app = TestApp::start_with(|_, ports| ports.objects = objects.clone()).await;
    let id = begin(&app, POINTS.len()).await;
    let path = format!("/v1/uploads/{id}");
    for (n, cut) in [(0, 5), (5, 20), (20, POINTS.len())] {
        append(&app, &id, n, &POINTS.as_bytes()[n..cut])
            .await
            .expect(200);
        app.server = serve(app.config.clone(), app.ports.clone()).await.unwrap();
        let view = app.get(&path).await.expect(200);
        assert_eq!(view.header("Upload-Offset"), cut.to_string());
        assert_eq!(view.json()["offset"], cut);
        let head = send(app.request("HEAD", &path)).await.expect(200);
        assert_eq!(head.header("Upload-Offset"), cut.to_string());
        assert_eq!(head.header("Upload-Length"), POINTS.len().to_string());
        // The same part again is told where the upload is.
        let again = append(&app, &id, n, &POINTS.as_bytes()[n..cut]).await;
        let again = again.expect_problem(409, "conflict", "Upload-Offset");
        let told = detail(&again);
        assert!(
            told.contains(&format!("is at {cut}")) || cut == POINTS.len(),
            "{told}"
        );
    }
    let made = finish(&app, "k", &format!("name=points&upload={id}")).await;
    let made = made.expect(201).json();
    assert_eq!(
        made["blake3"],
        blake3::hash(POINTS.as_bytes()).to_hex().as_str()
    );
    assert_eq!(made["schema"]["rows"], 4);
    assert_eq!(app.get(&path).await.json()["dataset"], "points@1");
    assert_eq!(kept(&*objects).await.len(), 1, "the parts are gone");
    let direct = app.upload_points().await.expect(200).json();
    assert_eq!(direct["version"], 1);
    send(app.request("DELETE", &path)).await.expect(204);
    assert!(kept(&*objects).await.is_empty());
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_over_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = ObjectConfig {
        url: format!("file://{}/objects", dir.path().display()),
        ..ObjectConfig::default()
    };
    goes_on_after_a_restart(objects::open(&config).unwrap().store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart_over_a_bucket() {
    let s3 = tokio::task::spawn_blocking(S3::shared)
        .await
        .unwrap()
        .unwrap();
    let objects = objects::open(&s3.config()).unwrap().store;
    goes_on_after_a_restart(objects.clone()).await;
    of_two_parts_at_one_offset_the_first_wins(objects).await;
}

async fn of_two_parts_at_one_offset_the_first_wins(objects: Arc<dyn ObjectStore>) {
    let app = TestApp::start_with(|config, ports| {
        ports.objects = objects;
        config.workers = 2;
    })
    .await;
    for round in 0..5 {
        let id = begin(&app, POINTS.len()).await;
        let parts = (1..=6).map(|length| append(&app, &id, 0, &POINTS.as_bytes()[..length]));
        let answers = futures::future::join_all(parts).await;
        let mut won = answers.iter().enumerate().filter(|(_, a)| a.status == 200);
        let length = won.next().unwrap().0 + 1;
        assert_eq!(won.next().map(|(n, _)| n), None, "round {round}: two won");
        for lost in answers.into_iter().filter(|answer| answer.status != 200) {
            lost.expect_problem(409, "conflict", "Upload-Offset");
        }
        let view = app.get(&format!("/v1/uploads/{id}")).await.json();
        assert_eq!(view["offset"], length);
        append(&app, &id, length, &POINTS.as_bytes()[length..])
            .await
            .expect(200);
        let name = format!("name=points&upload={id}");
        let made = finish(&app, &format!("round {round}"), &name).await.json();
        assert_eq!(
            made["blake3"],
            blake3::hash(POINTS.as_bytes()).to_hex().as_str()
        );
        send(app.request("DELETE", &format!("/v1/uploads/{id}")))
            .await
            .expect(204);
    }
}

#[tokio::test]
async fn of_two_parts_in_a_race_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let config = ObjectConfig {
        url: format!("file://{}/objects", dir.path().display()),
        ..ObjectConfig::default()
    };
    of_two_parts_at_one_offset_the_first_wins(objects::open(&config).unwrap().store).await;
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused() {
    let app = TestApp::start_with(|config, _| {
        config.uploads.part_max_bytes = 10;
        config.uploads.parts_max = 3;
    })
    .await;
    let id = begin(&app, 25).await;
    append(&app, &id, 0, "12345678").await.expect(200);
    let before = kept(&*app.objects).await;
    for offset in [0, 4, 9, 25, 1_000_000] {
        let refused = append(&app, &id, offset, "1").await;
        let refused = refused.expect_problem(409, "conflict", "Upload-Offset");
        assert!(detail(&refused).contains("is at 8"), "{}", detail(&refused));
    }
    let large = append(&app, &id, 8, "12345678901").await;
    let large = large.expect_problem(413, "too_large", "");
    assert!(detail(&large).contains("10 bytes"));
    append(&app, &id, 8, "")
        .await
        .expect_problem(422, "invalid_input", "body");
    let path = format!("/v1/uploads/{id}");
    let bare = send(app.request("PATCH", &path).body("1")).await;
    bare.expect_problem(400, "invalid_input", "Upload-Offset");
    let odd = app.request("PATCH", &path).header("Upload-Offset", "-1");
    send(odd)
        .await
        .expect_problem(400, "invalid_input", "Upload-Offset");
    let request = app.request("PATCH", &path).header("Upload-Offset", "8");
    let other = blake3::hash(b"other").to_hex().to_string();
    let damaged = send(request.header("Content-BLAKE3", other).body("1")).await;
    damaged.expect_problem(400, "incomplete", "");
    assert_eq!(kept(&*app.objects).await, before);
    append(&app, &id, 8, "1234567890").await.expect(200);
    let over = append(&app, &id, 18, "12345678").await;
    let over = over.expect_problem(422, "invalid_input", "body");
    assert!(
        detail(&over).contains("1 to 7 are left"),
        "{}",
        detail(&over)
    );
    append(&app, &id, 18, "1").await.expect(200);
    let many = append(&app, &id, 19, "1").await;
    let many = many.expect_problem(422, "invalid_input", "body");
    assert!(detail(&many).contains("3 parts"), "{}", detail(&many));
    let early = finish(&app, "k", &format!("name=a&upload={id}")).await;
    let early = early.expect_problem(409, "conflict", "");
    assert!(
        detail(&early).contains("19 of its 25"),
        "{}",
        detail(&early)
    );
}

#[tokio::test]
async fn sizes_numbers_and_lives_have_limits() {
    let app = TestApp::start_with(|config, _| {
        config.dataset_max_bytes = 100;
        config.uploads.open_max = 2;
        config.uploads.life = Millis(60_000);
    })
    .await;
    begin_as(&app, "k", 101)
        .await
        .expect_problem(413, "too_large", "");
    begin_as(&app, "k", 0)
        .await
        .expect_problem(422, "invalid_input", "size_bytes");
    for query in ["", "?size_bytes=many", "?size=5"] {
        let request = app.request("POST", &format!("/v1/uploads{query}"));
        send(request.header("Idempotency-Key", "k"))
            .await
            .expect_problem(400, "invalid_input", "");
    }
    let (first, _second) = (begin(&app, 5).await, begin(&app, 5).await);
    append(&app, &first, 0, "123").await.expect(200);
    let third = begin_as(&app, "third", 5).await;
    let third = third.expect_problem(409, "conflict", "");
    assert!(detail(&third).contains(&first), "{}", detail(&third));
    // Another tenant has its own.
    let other = app.request_as("other", Role::Developer, "POST", "/v1/uploads?size_bytes=5");
    send(other.header("Idempotency-Key", "k")).await.expect(201);
    app.clock.advance_ms(60_000);
    let late = app.get(&format!("/v1/uploads/{first}")).await;
    let late = late.expect_problem(404, "not_found", "");
    assert!(detail(&late).contains("expired"), "{}", detail(&late));
    append(&app, &first, 3, "45")
        .await
        .expect_problem(404, "not_found", "");
    let late = finish(&app, "f", &format!("name=a&upload={first}")).await;
    late.expect_problem(404, "not_found", "");
    begin(&app, 5).await;
    let left = kept(&*app.objects).await;
    assert!(left.iter().all(|name| !name.contains(&first)), "{left:?}");
    assert_eq!(left.len(), 2, "ours and the other tenant's: {left:?}");
}

#[tokio::test]
async fn open_uploads_are_listed() {
    let app = TestApp::start_with(|config, _| config.uploads.life = Millis(60_000)).await;
    let listed = async || {
        let list = app.get("/v1/uploads").await.expect(200).json();
        let uploads = list["uploads"].as_array().unwrap().clone();
        let each = uploads.iter().map(|upload| {
            let id = upload["id"].as_str().unwrap().to_owned();
            (id, upload["offset"].as_u64().unwrap())
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(listed().await, []);
    let first = begin(&app, 5).await;
    app.clock.advance_ms(1_000);
    let second = begin(&app, POINTS.len()).await;
    append(&app, &first, 0, "123").await.expect(200);
    append(&app, &second, 0, POINTS).await.expect(200);
    let both = [(first.clone(), 3), (second.clone(), POINTS.len() as u64)];
    assert_eq!(listed().await, both);
    let others = app.request_as("other", Role::Operator, "GET", "/v1/uploads");
    assert_eq!(
        send(others).await.json(),
        serde_json::json!({ "uploads": [] })
    );
    let odd = app.get("/v1/uploads?limit=1").await;
    odd.expect_problem(400, "invalid_input", "limit");
    // One becomes a data set, the other expires.
    finish(&app, "k", &format!("name=a&upload={second}"))
        .await
        .expect(201);
    assert_eq!(listed().await, [(first.clone(), 3)]);
    app.clock.advance_ms(59_000);
    assert_eq!(listed().await, []);
    let left = kept(&*app.objects).await;
    assert!(left.iter().all(|name| !name.contains(&first)), "{left:?}");
}

#[tokio::test]
async fn an_upload_is_its_tenants_alone() {
    let app = TestApp::start().await;
    let id = begin(&app, POINTS.len()).await;
    append(&app, &id, 0, POINTS).await.expect(200);
    let before = kept(&*app.objects).await;
    let path = format!("/v1/uploads/{id}");
    let make = format!("/v1/datasets?name=a&format=csv&upload={id}");
    for (method, path) in [
        ("GET", &path),
        ("HEAD", &path),
        ("PATCH", &path),
        ("DELETE", &path),
        ("POST", &make),
    ] {
        let request = app.request_as("other", Role::Operator, method, path);
        let request = request
            .header("Idempotency-Key", "k")
            .header("Upload-Offset", "0");
        let answer = send(request).await.expect(404);
        if method != "HEAD" {
            answer.expect_problem(404, "not_found", "");
        }
    }
    assert_eq!(kept(&*app.objects).await, before);
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time() {
    let app = TestApp::start().await;
    let first = begin_as(&app, "start", POINTS.len())
        .await
        .expect(201)
        .json();
    assert_eq!(
        begin_as(&app, "start", POINTS.len())
            .await
            .expect(201)
            .json(),
        first
    );
    begin_as(&app, "start", 5)
        .await
        .expect_problem(422, "idempotency_mismatch", "");
    assert_eq!(kept(&*app.objects).await.len(), 1);
    let id = first["id"].as_str().unwrap();
    append(&app, id, 0, POINTS).await.expect(200);

    let query = format!("name=points&upload={id}");
    let with_body = app.request("POST", &format!("/v1/datasets?format=csv&{query}"));
    let with_body = with_body.header("Idempotency-Key", "k").body(POINTS);
    send(with_body)
        .await
        .expect_problem(422, "invalid_input", "body");
    let post = |key: &str, hash: Option<&str>| {
        let request = app.request("POST", &format!("/v1/datasets?format=csv&{query}"));
        let request = request.header("Idempotency-Key", key);
        send(match hash {
            Some(hash) => request.header("Content-BLAKE3", hash),
            None => request,
        })
    };
    let (right, wrong) = (blake3::hash(POINTS.as_bytes()), blake3::hash(b"other"));
    let (right, wrong) = (right.to_hex(), wrong.to_hex());
    post("k", Some(&wrong))
        .await
        .expect_problem(400, "incomplete", "");
    let made = post("k", None).await.expect(201).json();
    for hash in [None, Some(right.as_str())] {
        assert_eq!(post("k", hash).await.expect(201).json(), made);
    }
    let other = post("another", None)
        .await
        .expect_problem(409, "conflict", "");
    assert!(detail(&other).contains("`points@1`"), "{}", detail(&other));
    append(&app, id, 0, POINTS)
        .await
        .expect_problem(409, "conflict", "");
    // Also when nothing of the upload is left.
    send(app.request("DELETE", &format!("/v1/uploads/{id}")))
        .await
        .expect(204);
    assert_eq!(post("k", Some(&right)).await.expect(201).json(), made);
    post("k", None).await.expect_problem(404, "not_found", "");
    // The direct upload of the same is the same request.
    let direct = app.upload_as("k", "name=points&format=csv", POINTS).await;
    assert_eq!(direct.expect(201).json(), made);
}

#[tokio::test]
async fn what_is_no_data_set_can_be_asked_for_otherwise() {
    let app = TestApp::start().await;
    let id = begin(&app, POINTS.len()).await;
    append(&app, &id, 0, POINTS).await.expect(200);
    let request = app.request(
        "POST",
        &format!("/v1/datasets?format=npy&name=a&upload={id}"),
    );
    let refused = send(request.header("Idempotency-Key", "k")).await;
    refused.expect_problem(422, "invalid_input", "body");
    finish(&app, "l", &format!("name=a&upload={id}"))
        .await
        .expect(201);
}

/// What a removal in parallel left behind.
#[tokio::test]
async fn a_part_behind_a_gap_counts_for_nothing() {
    let app = TestApp::start().await;
    let id = begin(&app, POINTS.len()).await;
    append(&app, &id, 0, &POINTS.as_bytes()[..5])
        .await
        .expect(200);
    let acme = "acme".parse().unwrap();
    let stray = stoker_domain::object::upload_part(&acme, id.parse().unwrap(), 9);
    let stray = object_store::path::Path::from(stray);
    app.objects
        .put(&stray, PutPayload::from_static(b"zzz"))
        .await
        .unwrap();
    let view: Value = app.get(&format!("/v1/uploads/{id}")).await.json();
    assert_eq!(view["offset"], 5);
}
