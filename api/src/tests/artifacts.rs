//! What a job has produced.

use std::collections::BTreeMap;

use object_store::ObjectStoreExt;
use serde_json::json;
use stoker_domain::job::{Artifact, Outcome, Transition};
use stoker_domain::{JobId, object};

use super::harness::{TestApp, send};

const WEIGHTS: &[u8] = b"weights";

/// A job that has produced `weights.safetensors`.
pub(super) async fn succeeded(app: &TestApp) -> JobId {
    let id = app.submitted().await;
    let token = app.run(id).await;
    let name = "weights.safetensors";
    let key = object::artifact(id, token, name);
    app.objects.put(&key.into(), WEIGHTS.into()).await.unwrap();
    let outcome = Outcome {
        token,
        manifest_blake3: blake3::hash(b"manifest").to_hex().to_string(),
        artifacts: vec![Artifact {
            name: name.to_owned(),
            size_bytes: WEIGHTS.len() as u64,
            blake3: blake3::hash(WEIGHTS).to_hex().to_string(),
        }],
        metrics: BTreeMap::new(),
        steps: 2,
        samples_per_s: 1.0,
        first_step_at: None,
        submit_to_first_step_ms: None,
    };
    app.apply(id, Transition::Succeed { token, outcome }).await;
    id
}

#[tokio::test]
async fn an_artifact_comes_with_length_and_hash() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await;
    let list = app
        .get(&format!("/v1/jobs/{id}/artifacts"))
        .await
        .expect(200);
    assert_eq!(list.json()[0]["name"], "weights.safetensors");
    let path = format!("/v1/jobs/{id}/artifacts/weights.safetensors");
    let file = app.get(&path).await.expect(200);
    assert_eq!(file.body, WEIGHTS);
    assert_eq!(file.header("content-length"), "7");
    let etag = format!("\"{}\"", blake3::hash(WEIGHTS).to_hex());
    assert_eq!(file.header("etag"), etag);
    let request = app.request("GET", &path).header("If-None-Match", etag);
    assert_eq!(send(request).await.expect(304).body, b"");
    for name in ["other", "..%2F..%2Fx", "weights"] {
        let missing = app.get(&format!("/v1/jobs/{id}/artifacts/{name}")).await;
        missing.expect_problem(404, "not_found", "");
    }
}

#[tokio::test]
async fn a_redirect_goes_to_a_presigned_url() {
    let app = TestApp::start().await;
    let id = succeeded(&app).await;
    let path = format!("/v1/jobs/{id}/artifacts/weights.safetensors?redirect=true");
    let answer = app.get(&path).await.expect(307);
    let expected =
        format!("https://objects.example/jobs/{id}/1/artifacts/weights.safetensors?life=900");
    assert_eq!(answer.header("location"), expected);
    let unsigned = TestApp::start_with(|_, ports| ports.signer = None).await;
    let id = succeeded(&unsigned).await;
    let path = format!("/v1/jobs/{id}/artifacts/weights.safetensors?redirect=true");
    assert_eq!(unsigned.get(&path).await.expect(200).body, WEIGHTS);
}

#[tokio::test]
async fn a_job_that_has_not_succeeded_has_none() {
    let app = TestApp::start().await;
    let id = app.submitted().await;
    let list = app
        .get(&format!("/v1/jobs/{id}/artifacts"))
        .await
        .expect(200);
    assert_eq!(list.json(), json!([]));
    let missing = app
        .get(&format!("/v1/jobs/{id}/artifacts/weights.safetensors"))
        .await;
    missing.expect_problem(404, "not_found", "");
}
