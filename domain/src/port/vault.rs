//! Keeps tenants' secrets so that the store alone doesn't tell them.

use crate::id::TenantId;

/// Why a secret couldn't be sealed or opened. It never holds a part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret can't be {0}")]
pub struct VaultError(pub &'static str);

/// Keeps tenants' secrets so that the store alone doesn't tell them.
pub trait Vault: Send + Sync {
    /// What is to be stored of a secret.
    ///
    /// # Errors
    /// [`VaultError`].
    fn seal(&self, tenant: &TenantId, name: &str, secret: &[u8]) -> Result<String, VaultError>;

    /// The secret of what was stored under the same tenant and name.
    ///
    /// # Errors
    /// [`VaultError`] when it was sealed with another key, or is another's.
    fn open(&self, tenant: &TenantId, name: &str, sealed: &str) -> Result<Vec<u8>, VaultError>;
}
