//! Sources in S3 buckets, at the server that the operator names.

use std::time::Duration;

use futures::{StreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, Error as ObjectError, ObjectStoreExt, RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use stoker_domain::port::{OpenSource, SourceError};

use super::config::{CredentialsConfig, Environment, SourcesConfig};
use super::{failed, refused};

/// Tries of one request, the first not counted.
const RETRIES_MAX: usize = 2;

/// Opens an object with credentials that were allowed for it.
pub(super) async fn open(
    (bucket, key): (&str, &Path),
    credentials: &CredentialsConfig,
    config: &SourcesConfig,
    environment: &Environment,
) -> Result<OpenSource, SourceError> {
    let shown = format!("s3://{bucket}/{key}");
    let idle: Duration = config.idle_timeout.into();
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(config.connect_timeout.into())
        .with_allow_http(credentials.endpoint.as_deref().is_some_and(is_http));
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: idle,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(credentials.region.as_deref().unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(!credentials.path_style)
        .with_client_options(options)
        .with_retry(retry);
    if let Some(endpoint) = &credentials.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let secret = |secret: &Option<super::SecretRef>| -> Result<Option<SecretString>, SourceError> {
        let read = secret.as_ref().map(|secret| secret.read(environment));
        read.transpose().map_err(|why| super::no_secret(&why))
    };
    let id = secret(&credentials.access_key_id)?;
    let key_of_it = secret(&credentials.secret_access_key)?;
    builder = match (&id, &key_of_it) {
        (Some(id), Some(secret)) => builder
            .with_access_key_id(id.expose_secret())
            .with_secret_access_key(secret.expose_secret()),
        _ => builder.with_skip_signature(true),
    };
    let store = builder.build().map_err(|error| {
        tracing::warn!(error = %error, "a bucket's settings can't be used");
        refused(
            "credentials",
            "can't be used for a bucket; tell the operator",
        )
    })?;
    let secrets = [id, key_of_it];
    let found = match tokio::time::timeout(idle, store.get(key)).await {
        Ok(found) => found.map_err(|error| told(&shown, &error, &secrets))?,
        Err(_) => return Err(silent(&shown, idle)),
    };
    let size_bytes = Some(found.meta.size);
    let place = shown.clone();
    let bytes = stream::unfold(Some(found.into_stream()), move |chunks| {
        let (place, secrets) = (place.clone(), secrets.clone());
        async move {
            let mut chunks = chunks?;
            match tokio::time::timeout(idle, chunks.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) => Some((Ok(chunk.to_vec()), Some(chunks))),
                Ok(Some(Err(error))) => Some((Err(told(&place, &error, &secrets)), None)),
                Err(_) => Some((Err(silent(&place, idle)), None)),
            }
        }
    });
    Ok(OpenSource {
        shown,
        size_bytes,
        bytes: bytes.boxed(),
    })
}

fn is_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

fn silent(shown: &str, idle: Duration) -> SourceError {
    failed(
        format!("{shown} sent nothing for {} s", idle.as_secs_f32()),
        true,
    )
}

/// What an error of the storage means. What it says itself is for the operator, without secrets:
/// servers repeat what they were sent.
fn told(shown: &str, error: &ObjectError, secrets: &[Option<SecretString>; 2]) -> SourceError {
    let said = secrets
        .iter()
        .flatten()
        .fold(error.to_string(), |said, secret| {
            said.replace(secret.expose_secret(), "…")
        });
    match error {
        ObjectError::NotFound { .. } => failed(
            format!("{shown}: there is no such object, or no such bucket"),
            false,
        ),
        ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => {
            tracing::warn!(
                source.uri = shown,
                error = said,
                "a bucket refused credentials"
            );
            failed(
                format!("{shown}: the bucket refuses these credentials"),
                false,
            )
        }
        _ => {
            tracing::warn!(source.uri = shown, error = said, "a bucket can't be read");
            failed(format!("{shown} can't be read now"), true)
        }
    }
}
