//! Data sets: versions, repeats, removal.

use object_store::ObjectStoreExt;
use serde_json::json;
use stoker_domain::job::Transition;
use stoker_domain::tenant::Role;

use super::harness::{POINTS, SPEC, TestApp, send};

#[tokio::test]
async fn an_upload_makes_a_version_with_schema_and_statistics() {
    let app = TestApp::start().await;
    let record = app.upload_points().await.expect(201).json();
    assert_eq!(record["name"], "points");
    assert_eq!(record["version"], 1);
    assert_eq!(record["header"], true);
    assert_eq!(record["size_bytes"], POINTS.len());
    assert_eq!(
        record["blake3"],
        blake3::hash(POINTS.as_bytes()).to_hex().to_string()
    );
    assert_eq!(record["schema"]["rows"], 4);
    assert_eq!(record["schema"]["columns"][2]["statistics"]["distinct"], 3);
    for reference in ["points@1", "points"] {
        let found = app
            .get(&format!("/v1/datasets/{reference}"))
            .await
            .expect(200);
        assert_eq!(found.json(), record);
    }
}

#[tokio::test]
async fn the_same_bytes_are_the_same_version() {
    let app = TestApp::start().await;
    let first = app.upload_points().await.expect(201).json();
    let stored = app.stored().await;
    assert_eq!(app.upload_points().await.expect(200).json(), first);
    assert_eq!(app.stored().await, stored);
    // Other bytes are the next version, and so are the old ones after them.
    let other = POINTS.replace("0.5", "0.25");
    let second = app
        .upload("name=points&format=csv", other)
        .await
        .expect(201);
    assert_eq!(second.json()["version"], 2);
    let third = app.upload_points().await.expect(201);
    assert_eq!(third.json()["version"], 3);
    // Read in another way they are another data set.
    let headless = app
        .upload("name=points&format=csv&header=yes", POINTS)
        .await;
    assert_eq!(headless.expect(200).json()["version"], 3);
}

#[tokio::test]
async fn the_tenth_version_is_newer_than_the_ninth() {
    let app = TestApp::start().await;
    for version in 1..=11 {
        let bytes = POINTS.replace("0.5", &format!("0.{version}"));
        let record = app
            .upload("name=points&format=csv", bytes)
            .await
            .expect(201);
        assert_eq!(record.json()["version"], version);
    }
    assert_eq!(app.get("/v1/datasets/points").await.json()["version"], 11);
    let job = app.submit("k", SPEC).await.expect(202).json();
    assert_eq!(job["spec"]["data"]["dataset"], "points@11");
}

#[tokio::test]
async fn a_deleted_version_never_comes_back_with_other_bytes() {
    let app = TestApp::start().await;
    let make = async |number: &str| {
        let bytes = POINTS.replace("0.5", number);
        let made = app.upload("name=points&format=csv", bytes).await;
        made.expect(201).json()["version"].as_u64().unwrap()
    };
    let delete = async |version: u64| {
        let path = format!("/v1/datasets/points@{version}");
        send(app.request("DELETE", &path)).await.expect(204);
    };
    assert_eq!((make("0.1").await, make("0.2").await), (1, 2));
    delete(2).await;
    assert_eq!(make("0.3").await, 3);
    // An older one doesn't lower the mark.
    delete(3).await;
    delete(1).await;
    assert_eq!(make("0.2").await, 4);
    // Of other names nothing was deleted.
    app.upload("name=point&format=csv", POINTS)
        .await
        .expect(201);
    assert_eq!(app.get("/v1/datasets/point").await.json()["version"], 1);
}

#[tokio::test]
async fn the_same_bytes_mend_a_damaged_object() {
    let app = TestApp::start().await;
    let record = app.upload_points().await.expect(201).json();
    let blake3 = record["blake3"].as_str().unwrap();
    let key = stoker_domain::object::dataset(&"acme".parse().unwrap(), blake3);
    let path = object_store::path::Path::from(key);
    let damaged = POINTS.replace("0.5", "0.6");
    app.objects.put(&path, damaged.into()).await.unwrap();
    assert_eq!(app.upload_points().await.expect(200).json(), record);
    let stored = app.objects.get(&path).await.unwrap().bytes().await;
    assert_eq!(stored.unwrap(), POINTS.as_bytes());
}

#[tokio::test]
async fn uploads_at_the_same_time_make_versions_without_gaps() {
    let app = TestApp::start().await;
    let upload = |n: usize| {
        app.upload(
            "name=points&format=csv",
            POINTS.replace("0.5", &format!("0.{n}")),
        )
    };
    let answers = futures::future::join_all((1..=6).map(upload)).await;
    let mut versions: Vec<u64> = (answers.into_iter())
        .map(|answer| answer.expect(201).json()["version"].as_u64().unwrap())
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let app = TestApp::start().await;
    for name in ["a", "b", "c"] {
        let query = format!("name={name}&format=csv");
        app.upload(&query, POINTS).await.expect(201);
    }
    let page = app.get("/v1/datasets?limit=2").await.expect(200).json();
    assert_eq!(page["datasets"][1]["name"], "b");
    assert_eq!(page["next"], "b@1");
    let page = app.get("/v1/datasets?limit=2&after=b@1").await.json();
    assert_eq!(page["datasets"][0]["name"], "c");
    assert_eq!(page.get("next"), None);
    let others = app.request_as("other", Role::Viewer, "GET", "/v1/datasets");
    assert_eq!(send(others).await.json(), json!({ "datasets": [] }));
}

#[tokio::test]
async fn a_data_set_in_use_stays() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let delete = |path: &str| send(app.request("DELETE", path));
    let refused = delete("/v1/datasets/points@1").await;
    let refused = refused.expect_problem(409, "conflict", "");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains(&id.to_string())
    );
    delete("/v1/datasets/points")
        .await
        .expect_problem(422, "invalid_input", "reference");
    app.apply(id, Transition::Cancel).await;
    delete("/v1/datasets/points@1").await.expect(204);
    delete("/v1/datasets/points@1")
        .await
        .expect_problem(404, "not_found", "");
    assert_eq!(app.stored().await[1..4], [0, 0, 0]);
}

#[tokio::test]
async fn bytes_go_with_the_last_version_that_has_them() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    app.upload("name=copy&format=csv", POINTS).await.expect(201);
    assert_eq!(app.stored().await[1..4], [2, 0, 1]);
    send(app.request("DELETE", "/v1/datasets/points@1"))
        .await
        .expect(204);
    assert_eq!(app.stored().await[1..4], [1, 0, 1]);
    send(app.request("DELETE", "/v1/datasets/copy@1"))
        .await
        .expect(204);
    assert_eq!(app.stored().await[1..4], [0, 0, 0]);
}

#[tokio::test]
async fn a_large_data_set_is_stored_in_parts() {
    let app = TestApp::start().await;
    let mut csv = String::from("a,b\n");
    (0..1_500_000).for_each(|i| csv.push_str(&format!("{i},0.5\n")));
    assert!(csv.len() > 16 << 20);
    let record = app
        .upload("name=large&format=csv", csv.clone())
        .await
        .expect(201);
    let key = stoker_domain::object::dataset(
        &"acme".parse().unwrap(),
        record.json()["blake3"].as_str().unwrap(),
    );
    let stored = app
        .objects
        .get(&key.into())
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(blake3::hash(&stored), blake3::hash(csv.as_bytes()));
}

#[tokio::test]
async fn a_repeated_upload_is_answered_as_the_first_time() {
    let app = TestApp::start().await;
    let upload = async |name: &str, bytes: &str| {
        let query = format!("name={name}&format=csv");
        app.upload_as("k", &query, bytes.as_bytes()).await
    };
    let first = upload("a", "x,y\n1,2\n").await.expect(201).json();
    app.upload("name=a&format=csv", "x,y\n3,4\n")
        .await
        .expect(201);
    // A newer version is there, and the repeat still names the first.
    assert_eq!(upload("a", "x,y\n1,2\n").await.expect(201).json(), first);
    for (name, bytes) in [("a", "x,y\n5,6\n"), ("b", "x,y\n1,2\n")] {
        let other = upload(name, bytes).await;
        other.expect_problem(422, "idempotency_mismatch", "");
    }
    let listed = app.get("/v1/datasets").await.json();
    assert_eq!(listed["datasets"].as_array().unwrap().len(), 2);
    // An upload of what is there is kept under its key too.
    let again = app.upload_as("l", "name=a&format=csv", "x,y\n3,4\n").await;
    assert_eq!(again.expect(200).json()["version"], 2);
    let other = app.upload_as("l", "name=a&format=csv", "x,y\n7,8\n").await;
    other.expect_problem(422, "idempotency_mismatch", "");
}

#[tokio::test]
async fn a_preview_shows_the_first_rows() {
    let app = TestApp::start().await;
    app.upload_points().await.expect(201);
    let shown = app.get("/v1/datasets/points/preview?rows=2").await;
    let shown = shown.expect(200).json();
    assert_eq!(shown["dataset"], "points@1");
    assert_eq!(
        (&shown["total_rows"], &shown["total_columns"]),
        (&json!(4), &json!(3))
    );
    assert_eq!(shown["rows"].as_array().unwrap().len(), 2);
    let first = shown["rows"][0].as_object().unwrap();
    assert_eq!(
        first.keys().collect::<Vec<_>>().len(),
        shown["columns"].as_array().unwrap().len()
    );
    let whole = app.get("/v1/datasets/points@1/preview").await.expect(200);
    assert_eq!(whole.json()["rows"].as_array().unwrap().len(), 4);
    let other = app.request_as(
        "other",
        Role::Operator,
        "GET",
        "/v1/datasets/points/preview",
    );
    send(other).await.expect_problem(404, "not_found", "");
    for rows in ["0", "101", "many"] {
        let path = format!("/v1/datasets/points/preview?rows={rows}");
        let refused = app.get(&path).await;
        refused.expect_problem(400, "invalid_input", "rows");
    }
}

#[tokio::test]
async fn a_preview_shows_what_is_missing_and_cuts_what_is_long() {
    let app = TestApp::start().await;
    let row = |name: &str, at: &str| {
        let numbers: Vec<String> = (0..40).map(|i| i.to_string()).collect();
        format!(
            "{{\"name\": {name}, \"at\": {at}, \"long\": [{}]}}\n",
            numbers.join(", ")
        )
    };
    let long = format!("\"{}\"", "x".repeat(1_000));
    let text = row(&long, "[1, 2.5]") + &row("null", "null");
    app.upload("name=rows&format=jsonl", text).await.expect(201);
    let shown = app
        .get("/v1/datasets/rows/preview")
        .await
        .expect(200)
        .json();
    let first = &shown["rows"][0];
    assert_eq!(first["name"].as_str().unwrap().chars().count(), 201);
    assert_eq!(first["at"], json!([1.0, 2.5]));
    assert_eq!(first["long"]["shape"], json!([40]));
    assert_eq!(first["long"]["first"].as_array().unwrap().len(), 16);
    assert_eq!(shown["rows"][1]["name"], json!(null));
    assert_eq!(shown["rows"][1]["at"], json!([null, null]));
}
