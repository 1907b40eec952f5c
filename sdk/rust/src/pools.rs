//! The operations on pools and their workers.

use stoker_domain::pool::PoolSettings;
use stoker_domain::view::{PoolList, PoolView, WorkerList, WorkerView};
use stoker_domain::{PoolName, WorkerId};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::page;
use crate::send::{Call, JSON};

impl Client {
    /// The pools that there are.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_pools(&self) -> Result<PoolList> {
        self.fetch(&Call::get(self.url(&["v1", "pools"]))).await
    }

    /// A pool.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such pool.
    pub async fn get_pool(&self, pool: &PoolName) -> Result<PoolView> {
        let url = self.url(&["v1", "pools", pool.as_str()]);
        self.fetch(&Call::get(url)).await
    }

    /// Says how a pool is shared; an operator's.
    ///
    /// # Errors
    /// When the call fails; `invalid_input` with one field error per wrong setting.
    pub async fn put_pool(&self, pool: &PoolName, settings: &PoolSettings) -> Result<PoolView> {
        let json = serde_json::to_vec(settings).map_err(|error| Error::Config {
            field: "settings",
            message: error.to_string(),
        })?;
        let url = self.url(&["v1", "pools", pool.as_str()]);
        self.fetch(&Call::put(url).body(JSON, json)).await
    }

    /// The workers of a pool, or of all; an operator's.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_workers(&self, pool: Option<&PoolName>) -> Result<WorkerList> {
        let mut url = self.url(&["v1", "workers"]);
        page::set_query(&mut url, [("pool", pool.map(ToString::to_string))]);
        self.fetch(&Call::get(url)).await
    }

    /// Gives a worker no new jobs; those that it has go on. An operator's.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such worker.
    pub async fn cordon_worker(&self, pool: &PoolName, id: &WorkerId) -> Result<WorkerView> {
        self.order(pool, id, "cordon").await
    }

    /// Gives a worker no new jobs, and has those that it has go on elsewhere. An operator's.
    ///
    /// # Errors
    /// As [`Client::cordon_worker`].
    pub async fn drain_worker(&self, pool: &PoolName, id: &WorkerId) -> Result<WorkerView> {
        self.order(pool, id, "drain").await
    }

    /// Gives a worker jobs again. An operator's.
    ///
    /// # Errors
    /// As [`Client::cordon_worker`].
    pub async fn uncordon_worker(&self, pool: &PoolName, id: &WorkerId) -> Result<WorkerView> {
        self.order(pool, id, "uncordon").await
    }

    async fn order(&self, pool: &PoolName, id: &WorkerId, verb: &str) -> Result<WorkerView> {
        let segments = ["v1", "pools", pool.as_str(), "workers", id.as_str(), verb];
        let call = Call::post(self.url(&segments), &IdempotencyKey::generate());
        self.fetch(&call).await
    }
}
