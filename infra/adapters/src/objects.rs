//! Object storage: `object_store` is the port; this opens one by its configuration.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use stoker_domain::time::Millis;
use uuid::Uuid;

use crate::setup::SetupError;

/// Tries of one request, the first not counted.
const RETRIES_MAX: usize = 3;

/// Which object storage, and how to reach it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectConfig {
    /// `file:///directory` or `s3://bucket`.
    pub url: String,
    /// Where the S3 server is, as in `http://127.0.0.1:9000`; Amazon's own when absent.
    pub endpoint: Option<String>,
    /// Where clients outside reach it: what presigned URLs begin with. As `endpoint` when absent.
    pub public_endpoint: Option<String>,
    /// S3 region.
    pub region: String,
    /// S3 access key; that of the machine's role when absent.
    pub access_key_id: Option<SecretString>,
    /// S3 secret key.
    pub secret_access_key: Option<SecretString>,
    /// `endpoint/bucket/key` rather than `bucket.endpoint/key`: what most servers but Amazon's
    /// understand.
    pub path_style: bool,
    /// Allow an endpoint without TLS.
    pub allow_http: bool,
    /// Longest wait for one request.
    pub timeout: Millis,
}

impl Default for ObjectConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: None,
            secret_access_key: None,
            path_style: true,
            allow_http: false,
            timeout: Millis(30_000),
        }
    }
}

/// An open object storage. Clones share it.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    /// The storage.
    pub store: Arc<dyn ObjectStore>,
    /// Makes presigned URLs, where the storage can check them.
    pub signer: Option<Arc<dyn Signer>>,
}

/// Opens an object storage. Only [`ObjectStorage::probe`] finds out whether it answers.
///
/// # Errors
/// [`SetupError::Config`] when a setting can't be used, [`SetupError::File`] when the directory
/// can't be made.
pub fn open(config: &ObjectConfig) -> Result<ObjectStorage, SetupError> {
    match config.url.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => open_directory(path.into()),
        Some(("s3", bucket)) if !bucket.is_empty() && !bucket.contains('/') => {
            let store = open_bucket(config, bucket, config.endpoint.as_deref())?;
            let public = config
                .public_endpoint
                .as_deref()
                .or(config.endpoint.as_deref());
            let signer = open_bucket(config, bucket, public)?;
            Ok(ObjectStorage {
                store: Arc::new(store),
                signer: Some(Arc::new(signer)),
            })
        }
        _ => Err(SetupError::Config {
            field: "objects.url",
            message: format!(
                "{:?} given; file:///directory and s3://bucket are known",
                config.url
            ),
        }),
    }
}

fn open_directory(path: PathBuf) -> Result<ObjectStorage, SetupError> {
    let failed = |message: String| SetupError::File {
        path: path.clone(),
        message,
    };
    fs::create_dir_all(&path).map_err(|error| failed(error.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(ObjectStorage {
        store: Arc::new(store),
        signer: None,
    })
}

fn open_bucket(
    config: &ObjectConfig,
    bucket: &str,
    endpoint: Option<&str>,
) -> Result<AmazonS3, SetupError> {
    if config.access_key_id.is_some() != config.secret_access_key.is_some() {
        return Err(SetupError::Config {
            field: "objects.secret_access_key",
            message: "access_key_id and secret_access_key are given together or not at all"
                .to_owned(),
        });
    }
    let options = ClientOptions::new()
        .with_timeout(config.timeout.into())
        .with_connect_timeout(Duration::from_millis(config.timeout.0.min(5_000)))
        .with_allow_http(config.allow_http);
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: config.timeout.into(),
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_client_options(options)
        .with_retry(retry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        builder = builder
            .with_access_key_id(id.expose_secret())
            .with_secret_access_key(secret.expose_secret());
    }
    builder.build().map_err(|error| SetupError::Config {
        field: "objects",
        message: error.to_string(),
    })
}

impl ObjectStorage {
    /// Writes, reads and removes a small object.
    ///
    /// # Errors
    /// [`SetupError::Server`] with what failed and why.
    pub async fn probe(&self) -> Result<(), SetupError> {
        let path = Path::from(format!("probe/{}", Uuid::now_v7().simple()));
        let written = bytes::Bytes::from_static(b"stoker");
        let failed = |what: &str, error: object_store::Error| SetupError::Server {
            server: "object storage",
            message: format!("can't {what} an object: {error}"),
        };
        self.store
            .put(&path, written.clone().into())
            .await
            .map_err(|error| failed("write", error))?;
        let got = self.store.get(&path).await;
        let got = got.map_err(|error| failed("read", error))?;
        let read = got.bytes().await.map_err(|error| failed("read", error))?;
        self.store
            .delete(&path)
            .await
            .map_err(|error| failed("remove", error))?;
        if read == written {
            return Ok(());
        }
        Err(SetupError::Server {
            server: "object storage",
            message: "an object that was just written is read back with other bytes".to_owned(),
        })
    }
}
