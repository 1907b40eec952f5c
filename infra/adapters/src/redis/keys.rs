//! Where things lie in Redis. All keys share one hash tag: an atomic step may touch any of them.

use stoker_domain::port::CatalogKind;
use stoker_domain::{JobId, PoolName, TenantId};

#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{{{prefix}}}"),
        }
    }

    /// The form of all the others.
    pub(super) fn form(&self) -> String {
        format!("{}:form", self.prefix)
    }

    /// Hash: `body`, `answer`.
    pub(super) fn idempotency(&self, tenant: &TenantId, key: &str) -> String {
        format!("{}:idempotency:{tenant}:{key}", self.prefix)
    }

    /// Hash: `record`, `revision`, `token`, `state`, `pool`.
    pub(super) fn job(&self, id: JobId) -> String {
        format!("{}:job:{id}", self.prefix)
    }

    /// Sorted set of ids, by id.
    pub(super) fn jobs(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}", self.jobs_of_any())
    }

    /// What [`Keys::jobs`] begins with.
    pub(super) fn jobs_of_any(&self) -> String {
        format!("{}:jobs:", self.prefix)
    }

    /// Set of the tenants that have jobs, or had some.
    pub(super) fn tenants(&self) -> String {
        format!("{}:tenants", self.prefix)
    }

    /// Sorted set of ids, by id.
    pub(super) fn active(&self, pool: &PoolName) -> String {
        format!("{}:active:{pool}", self.prefix)
    }

    /// List of events: an event's position is its index.
    pub(super) fn events(&self, id: JobId) -> String {
        format!("{}:events:{id}", self.prefix)
    }

    /// Hash: `token`, `renewals`, `progress`.
    pub(super) fn lease(&self, id: JobId) -> String {
        format!("{}:lease:{id}", self.prefix)
    }

    /// Set of ids.
    pub(super) fn leases(&self, pool: &PoolName) -> String {
        format!("{}{pool}", self.leases_of_any())
    }

    /// What [`Keys::leases`] begins with.
    pub(super) fn leases_of_any(&self) -> String {
        format!("{}:leases:", self.prefix)
    }

    /// Sorted set of entry ids by number; hash of entries by id; counter.
    pub(super) fn outbox(&self) -> [String; 3] {
        ["order", "entries", "number"].map(|part| format!("{}:outbox:{part}", self.prefix))
    }

    /// Set of the entry ids of one job.
    pub(super) fn outbox_of(&self, job: &str) -> String {
        format!("{}:outbox-of:{job}", self.prefix)
    }

    /// Hash: `holder` (absent after it resigned), `epoch`, `expires`.
    pub(super) fn leader(&self, pool: &PoolName) -> String {
        format!("{}:leader:{pool}", self.prefix)
    }

    /// Hash of records by worker.
    pub(super) fn workers(&self, pool: &PoolName) -> String {
        format!("{}:workers:{pool}", self.prefix)
    }

    /// Hash of `revision:document` by key; sorted set of keys.
    pub(super) fn documents(&self, kind: CatalogKind, tenant: &TenantId) -> [String; 2] {
        ["documents", "document-keys"]
            .map(|part| format!("{}:{part}:{}:{tenant}", self.prefix, kind.as_str()))
    }

    /// Sorted set of `step:token:value` by step.
    pub(super) fn points(&self, job: JobId, metric: &str) -> String {
        format!("{}:points:{job}:{metric}", self.prefix)
    }

    /// Sorted set of ids, by id.
    pub(super) fn jobs_with_points(&self) -> String {
        format!("{}:jobs-with-points", self.prefix)
    }

    /// Set of the metrics that have points.
    pub(super) fn metrics(&self, job: JobId) -> String {
        format!("{}{job}", self.metrics_of_any())
    }

    /// What [`Keys::metrics`] begins with.
    pub(super) fn metrics_of_any(&self) -> String {
        format!("{}:metrics:", self.prefix)
    }
}
