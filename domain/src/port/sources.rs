//! Where data sets are fetched from: URLs and buckets that the operator allows.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::id::TenantId;

/// What is to be fetched, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRequest<'a> {
    /// Who asks.
    pub tenant: &'a TenantId,
    /// `https://…` or `s3://bucket/key`.
    pub uri: &'a str,
    /// The name of the credentials to fetch it with.
    pub credentials: Option<&'a str>,
}

/// A source that has answered, its bytes still to come.
pub struct OpenSource {
    /// Its URI without what may be secret.
    pub shown: String,
    /// How many bytes it says that it has.
    pub size_bytes: Option<u64>,
    /// Its bytes. They end with an error unless they came whole.
    pub bytes: BoxStream<'static, Result<Vec<u8>, SourceError>>,
}

/// Why there are no bytes. Holds no secret: it is for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The request can't be used as it is.
    #[error("{field}: {message}")]
    Refused {
        /// `from` or `credentials`.
        field: &'static str,
        /// What was given and what is allowed.
        message: String,
    },
    /// The source gives nothing, or not all.
    #[error("{message}")]
    Failed {
        /// Which source, and what it answered.
        message: String,
        /// Whether it may answer otherwise soon.
        is_retryable: bool,
    },
}

/// Where data sets are fetched from.
#[async_trait]
pub trait Sources: Send + Sync {
    /// Opens a source for reading.
    ///
    /// # Errors
    /// [`SourceError`], also where the operator doesn't allow the source.
    async fn open(&self, request: &SourceRequest<'_>) -> Result<OpenSource, SourceError>;
}
