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
    /// What tenants have used of a pool, as its scheduler leaves it for the next; of [`PLATFORM`], keyed
    /// by the pool's name.
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
            Self::Usage => "usage",
        }
    }
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
    /// Writes a document if what is there is what was expected.
    async fn put(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        value: &Value,
        expect: Expect,
    ) -> Result<Put, StoreError>;

    /// Writes a new document and keeps the answer to its request, in one step; only the answer where
    /// there is no document. The idempotency keys are those of [`super::JobStore::create_job`]; a
    /// repeat is found by [`super::JobStore::replayed`] too.
    async fn submit(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        document: Option<(&str, &Value)>,
        idempotency: &Idempotency,
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

    /// Removes a document. `false` when there was none.
    async fn delete(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
    ) -> Result<bool, StoreError>;
}
