//! Who changed what. An entry is written in one step with the change that it tells of.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::id::TenantId;
use crate::port::{CatalogKind, Document};
use crate::tenant::Role;
use crate::time::Timestamp;

/// Version tag of stored entries.
pub const RECORD_VERSION: u16 = 1;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Version tag of this form.
    pub record_version: u16,
    /// The entry's id; ids go by time.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The API's operation.
    pub action: String,
    /// What was changed, as in `job job-0190…` or `data set digits@2`.
    pub target: String,
    /// What was there before; null where there was nothing.
    pub before: Value,
    /// What is there now; null where there is nothing.
    pub after: Value,
}

/// Whose token a request came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// Whom the token speaks for.
    pub subject: String,
    /// What it may do.
    pub role: Role,
    /// The token's id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl AuditEntry {
    /// An id at that time; `unique` tells entries of one time apart.
    #[must_use]
    pub fn id(at: Timestamp, unique: &str) -> String {
        format!("{}-{unique}", id_from(at))
    }

    /// As it is kept.
    #[must_use]
    pub fn document(&self, tenant: &TenantId) -> Document {
        Document {
            kind: CatalogKind::Audit,
            tenant: tenant.clone(),
            key: self.id.clone(),
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}

/// What ids of that time begin with: ids sort as times do.
#[must_use]
pub fn id_from(at: Timestamp) -> String {
    format!("{:015}", at.as_millis().max(0))
}
