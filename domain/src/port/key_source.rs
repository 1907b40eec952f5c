//! Where the public keys of another issuer of tokens are fetched from.

use async_trait::async_trait;

/// Why a key set couldn't be fetched, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeySourceError(pub String);

/// Where the public keys of another issuer of tokens are fetched from.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The JSON Web Key Set (RFC 7517), as text. Answers within a time-out of its own.
    ///
    /// # Errors
    /// What went wrong; the keys fetched before stay in use for a while.
    async fn fetch(&self) -> Result<String, KeySourceError>;
}
