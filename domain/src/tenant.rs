//! Tenants, roles and tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::TenantId;
use crate::time::Timestamp;

/// What a token's bearer may do in its tenant. Each role may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Make and end jobs, data sets and plugins.
    Developer,
    /// Make and revoke tokens.
    Admin,
    /// Run the platform.
    Operator,
}

impl Role {
    /// The role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

/// A tenant, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The tenant.
    pub id: TenantId,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A token that the platform signed, as stored: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The token's id (`jti`).
    pub id: String,
    /// Whom it speaks for (`sub`).
    pub subject: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// An API key, as stored: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The key's id, a part of the key.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one project whose jobs it is for; the whole tenant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// BLAKE3 of the key.
    pub key_blake3: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A tenant's secret, as stored: sealed, so that only the platform's key opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// Its name.
    pub name: String,
    /// What [`crate::port::Vault::seal`] made of it.
    pub sealed: String,
    /// Who wrote it last.
    pub by: String,
    /// When that was.
    pub at: Timestamp,
}
