//! Explains jobs to whoever asks, from what the store says now. Any process may: it decides nothing,
//! it only asks what would be decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use stoker_domain::explain::{Explanation, WhatIf};
use stoker_domain::port::{Catalog, Explainer, JobStore, StoreError};
use stoker_domain::{Clock, JobRecord, JobState, PoolName};
use tokio::sync::Mutex;

use crate::{Config, Now, State, explain, settings};

/// How old what is known of a pool may be.
const FRESH_MS: u64 = 1_000;
/// Pools of which something is known at a time.
const POOLS_MAX: usize = 64;

/// Explains the jobs of all pools.
pub struct Explanations {
    config: Config,
    jobs: Arc<dyn JobStore>,
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<PoolName, (u64, Arc<State>)>>,
}

impl Explanations {
    /// `config` is that of the pools' schedulers.
    #[must_use]
    pub fn new(
        config: Config,
        jobs: Arc<dyn JobStore>,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            jobs,
            catalog,
            clock,
            known: Mutex::default(),
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            monotonic_ms: self.clock.monotonic_ms(),
        }
    }

    /// What the pool's scheduler knows, about. One request reads it, the others wait for that.
    async fn state(&self, pool: &PoolName) -> Result<Arc<State>, StoreError> {
        let mut known = self.known.lock().await;
        let now = self.now();
        let is_fresh = |at_ms: u64| now.monotonic_ms.saturating_sub(at_ms) < FRESH_MS;
        if let Some((at_ms, state)) = known.get(pool)
            && is_fresh(*at_ms)
        {
            return Ok(state.clone());
        }
        let mut state = State::default();
        let settings = settings::pool_settings(&*self.catalog, pool).await?;
        state.observe_settings(settings, now);
        state.observe_orders(settings::worker_orders(&*self.catalog, pool).await?);
        if let Some(usage) = settings::usage(&*self.catalog, pool).await? {
            state.restore_usage(&usage, now);
        }
        let jobs = self.jobs.active_jobs(pool).await?;
        let leases = self.jobs.leases(pool).await?;
        let workers = self.jobs.workers(pool).await?;
        state.reconcile(&jobs, &leases, &workers, FRESH_MS, now);
        let state = Arc::new(state);
        known.retain(|_, (at_ms, _)| is_fresh(*at_ms));
        if known.len() < POOLS_MAX {
            known.insert(pool.clone(), (now.monotonic_ms, state.clone()));
        }
        Ok(state)
    }
}

#[async_trait]
impl Explainer for Explanations {
    async fn explain(
        &self,
        job: &JobRecord,
        what_if: Option<&WhatIf>,
    ) -> Result<Option<Explanation>, StoreError> {
        if job.state != JobState::Queued && !job.state.is_leased() {
            return Ok(None);
        }
        let state = self.state(job.pool()).await?;
        let (config, job, now) = (self.config.clone(), job.clone(), self.now());
        let what_if = what_if.cloned();
        // A long queue takes a while to look through: not on a thread that serves requests.
        let explaining = tokio::task::spawn_blocking(move || {
            let mut state = Arc::unwrap_or_clone(state);
            state.observe_job(&job, now);
            explain(&state, &config, job.id, now, what_if.as_ref())
        });
        explaining
            .await
            .map_err(|error| StoreError::Corrupt(error.to_string()))
    }
}
