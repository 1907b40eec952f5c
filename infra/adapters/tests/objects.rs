//! Object storage in a directory and on an S3 server.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use stoker_domain::time::Millis;
use stoker_infra::testing::S3;
use stoker_infra::{ObjectConfig, ObjectStorage, SetupError, objects};

async fn shared_s3() -> &'static S3 {
    tokio::task::spawn_blocking(S3::shared)
        .await
        .unwrap()
        .unwrap()
}

async fn puts_gets_lists_and_deletes(storage: &ObjectStorage) {
    use futures::TryStreamExt;

    storage.probe().await.unwrap();
    let bytes = vec![7_u8; 300_000];
    let path = Path::from("jobs/job-1/1/weights.safetensors");
    storage
        .store
        .put(&path, bytes.clone().into())
        .await
        .unwrap();
    let read = storage
        .store
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(read, bytes);
    let range = storage.store.get_range(&path, 10..20).await.unwrap();
    assert_eq!(range, bytes[10..20]);
    let listed: Vec<_> = storage
        .store
        .list(Some(&Path::from("jobs")))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    storage.store.delete(&path).await.unwrap();
    let gone = storage.store.get(&path).await.err().unwrap();
    assert!(
        matches!(gone, object_store::Error::NotFound { .. }),
        "{gone}"
    );
}

#[tokio::test]
async fn a_directory_is_an_object_storage() {
    let dir = tempfile::tempdir().unwrap();
    let config = ObjectConfig {
        url: format!("file://{}/new/objects", dir.path().display()),
        ..ObjectConfig::default()
    };
    let storage = objects::open(&config).unwrap();
    assert!(storage.signer.is_none());
    puts_gets_lists_and_deletes(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_an_object_storage() {
    let s3 = shared_s3().await;
    puts_gets_lists_and_deletes(&objects::open(&s3.config()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presigned_urls_begin_with_the_public_endpoint() {
    let s3 = shared_s3().await;
    let config = ObjectConfig {
        public_endpoint: Some("https://objects.example.org/".to_owned()),
        ..s3.config()
    };
    let storage = objects::open(&config).unwrap();
    storage.probe().await.unwrap();
    let signer = storage.signer.unwrap();
    let limit = Duration::from_secs(900);
    let url = signer
        .signed_url("GET".parse().unwrap(), &Path::from("a/b"), limit)
        .await
        .unwrap();
    assert!(
        url.as_str()
            .starts_with("https://objects.example.org/stoker/a/b?"),
        "{url}"
    );
    assert!(url.as_str().contains("X-Amz-Expires=900"), "{url}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_is_wrong() {
    let missing = ObjectConfig {
        url: "s3://no-such-bucket".to_owned(),
        ..shared_s3().await.config()
    };
    let away = ObjectConfig {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        timeout: Millis(500),
        ..shared_s3().await.config()
    };
    for (config, part) in [(missing, "NoSuchBucket"), (away, "can't write an object")] {
        let said = objects::open(&config).unwrap().probe().await.err().unwrap();
        assert!(matches!(said, SetupError::Server { .. }));
        assert!(said.to_string().contains(part), "{said}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named_without_secrets() {
    for url in [
        "",
        "ftp://host",
        "file://relative",
        "s3://",
        "s3://bucket/key",
    ] {
        let config = ObjectConfig {
            url: url.to_owned(),
            ..ObjectConfig::default()
        };
        let refused = objects::open(&config).unwrap_err();
        assert!(
            matches!(
                refused,
                SetupError::Config {
                    field: "objects.url",
                    ..
                }
            ),
            "{refused}"
        );
    }
    let config: ObjectConfig =
        toml::from_str("url = \"s3://b\"\nsecret_access_key = \"hunter2\"").unwrap();
    let refused = objects::open(&config).unwrap_err();
    assert!(
        refused.to_string().starts_with("objects.secret_access_key"),
        "{refused}"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}
