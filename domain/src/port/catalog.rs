//! Small documents by tenant, kind and key: data sets, plugins, tenants, tokens.

use async_trait::async_trait;
use serde_json::Value;

use super::{Idempotency, StoreError};
use crate::id::TenantId;

/// The tenant under which the platform's own documents are kept. No user may have it.
pub const PLATFORM: &str = "stoker-platform";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CatalogKind {
    /// A [`crate::dataset::DatasetRecord`], keyed `name@version`.
    Dataset,
    /// The highest version that was ever deleted of a data set, keyed by its name: a version's number
    /// never comes back with other bytes.
    DatasetMark,
    /// A [`crate::plugin::PluginRecord`], keyed `name@version`.
    Plugin,
    /// A [`crate::tenant::TenantRecord`] of [`PLATFORM`], keyed by the tenant's id.
    Tenant,
    /// A [`crate::tenant::TokenRecord`], keyed by the token's id.
    Token,
    /// A [`crate::pool::PoolSettings`] of [`PLATFORM`], keyed by the pool's name.
    Pool,
    /// A [`crate::worker::WorkerOrder`] of [`PLATFORM`], keyed `pool/worker`.
    Worker,
    /// A [`crate::tenant::SecretRecord`], keyed by its name.
    Secret,
    /// A [`crate::notice::Notice`] of [`PLATFORM`], keyed by the time at which it is due.
    Notice,
    /// A [`crate::tenant::ApiKeyRecord`] of [`PLATFORM`], keyed by the key's id.
    ApiKey,
    /// A [`crate::project::ProjectRecord`], keyed by its name.
    Project,
    /// An [`crate::audit::AuditEntry`], keyed by its id.
    Audit,
    /// A [`crate::usage::UsageRecord`], keyed by its id.
    Attempt,
    /// What tenants have used of a pool of [`PLATFORM`], as its scheduler left it; keyed by the
    /// pool's name.
    Usage,
}

impl CatalogKind {
    /// The kind as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::DatasetMark => "dataset-mark",
            Self::Plugin => "plugin",
            Self::Tenant => "tenant",
            Self::Token => "token",
            Self::Pool => "pool",
            Self::Worker => "worker",
            Self::Secret => "secret",
            Self::Notice => "notice",
            Self::ApiKey => "api-key",
            Self::Project => "project",
            Self::Audit => "audit",
            Self::Attempt => "attempt",
            Self::Usage => "usage",
        }
    }
}

/// A document that is written in one step with something else, in place of what may be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is.
    pub kind: CatalogKind,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its key.
    pub key: String,
    /// The document.
    pub value: Value,
}

/// A document with the revision that a later write must name.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Counts the writes, from 1.
    pub revision: u64,
    /// The document.
    pub value: Value,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// This revision.
    Revision(u64),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Written.
    Written,
    /// Something else than expected was found.
    Conflict,
}

/// What became of a submitted document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// The answer is kept, and the document is written where there was one.
    Written,
    /// There is another document with that key; nothing was kept.
    Conflict,
    /// The same request was answered before, with this.
    Replayed {
        /// The first answer.
        answer: String,
    },
    /// The idempotency key was used before with another request.
    Mismatch,
}

/// Small documents by tenant, kind and key.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Writes a document if what is there is what was expected, and `also` with it.
    async fn put(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        value: &Value,
        expect: Expect,
        also: &[Document],
    ) -> Result<Put, StoreError>;

    /// Writes a new document, keeps the answer to its request, and writes `also`, in one step; only the
    /// latter two where there is no document. The idempotency keys are those of [`super::JobStore::create_job`]; a
    /// repeat is found by [`super::JobStore::replayed`] too.
    async fn submit(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        document: Option<(&str, &Value)>,
        idempotency: &Idempotency,
        also: &[Document],
    ) -> Result<Submission, StoreError>;

    /// The document with that key.
    async fn get(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
    ) -> Result<Option<Entry>, StoreError>;

    /// The documents whose key begins with `prefix`, by key (byte order), from after `after`; at
    /// most `limit`.
    async fn list(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Removes a document, and writes `also` with that. `false` when there was none; then nothing is
    /// written.
    async fn delete(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        also: &[Document],
    ) -> Result<bool, StoreError>;
}
