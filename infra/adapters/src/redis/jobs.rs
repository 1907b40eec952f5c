//! [`JobStore`] over Redis.

use async_trait::async_trait;
use redis::{Cmd, Pipeline};
use stoker_domain::job::{Change, Event};
use stoker_domain::port::{
    Creation, Document, Guard, Idempotency, JobFilter, JobPage, JobStore, LeaseAnswer, LeaseView,
    OutboxEntry, StoreError, Update,
};
use stoker_domain::worker::{Progress, WorkerRecord};
use stoker_domain::{JobId, JobRecord, PoolName, TenantId, WorkerId};

use super::changes::is_active;
use super::{RedisStore, script};
use crate::codec::{decode, encode, encode_progress};

/// Jobs that one list looks at. A filter that few jobs pass gets a short page and a cursor.
const EXAMINED_MAX: usize = 2_000;
/// Records read by one command.
const RECORDS_PER_READ: usize = 500;
/// Outbox entries read or removed by one script.
const ENTRIES_PER_SCRIPT: usize = 1_000;

#[async_trait]
impl JobStore for RedisStore {
    async fn create_job(
        &self,
        change: &Change,
        idempotency: &Idempotency,
    ) -> Result<Creation, StoreError> {
        self.create(change, idempotency).await
    }

    async fn replayed(
        &self,
        tenant: &TenantId,
        key: &str,
        body_blake3: &str,
    ) -> Result<Option<Creation>, StoreError> {
        let key = self.keys.idempotency(tenant, key);
        let asked = Cmd::hmget(key, &["body", "answer"]);
        let (body, answer): (Option<String>, Option<String>) = self.command(&asked).await?;
        Ok(body
            .zip(answer)
            .map(|(body, answer)| match body == body_blake3 {
                true => Creation::Replayed { answer },
                false => Creation::Mismatch,
            }))
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        let asked = Cmd::hget(self.keys.job(id), "record");
        let record: Option<String> = self.command(&asked).await?;
        record.as_deref().map(decode).transpose()
    }

    async fn update_job(
        &self,
        change: &Change,
        guard: Option<&Guard>,
    ) -> Result<Update, StoreError> {
        self.update(change, guard).await
    }

    async fn list_jobs(
        &self,
        tenant: &TenantId,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<JobPage, StoreError> {
        let mut page = JobPage::default();
        let mut before = after.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let (mut examined, mut cursor) = (0, None);
        while examined < EXAMINED_MAX {
            let chunk = limit.saturating_add(1).clamp(16, RECORDS_PER_READ);
            let ids = self.ids_before(tenant, &before, chunk).await?;
            let Some(last) = ids.last().copied() else {
                return Ok(page);
            };
            for record in self.records(&ids).await? {
                if page.jobs.len() >= limit {
                    page.next = page.jobs.last().map(|job| job.id);
                    return Ok(page);
                }
                page.jobs
                    .extend(Some(record).filter(|record| filter.matches(record)));
            }
            if ids.len() < chunk {
                return Ok(page);
            }
            before = format!("({last}");
            examined += ids.len();
            cursor = Some(last);
        }
        page.next = cursor;
        Ok(page)
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let mut names: Vec<String> = self.command(&Cmd::smembers(self.keys.tenants())).await?;
        names.sort_unstable();
        let tenants = names.iter().map(|name| name.parse::<TenantId>());
        tenants
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    async fn active_jobs(&self, pool: &PoolName) -> Result<Vec<JobRecord>, StoreError> {
        let ids: Vec<String> = self
            .command(&Cmd::zrange(self.keys.active(pool), 0, -1))
            .await?;
        let mut jobs = self.records(&job_ids(&ids)?).await?;
        // Some may have ended since their ids were read.
        jobs.retain(is_active);
        Ok(jobs)
    }

    async fn events(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let from = isize::try_from(from).unwrap_or(isize::MAX);
        let last = isize::try_from(limit - 1).unwrap_or(isize::MAX);
        let asked = Cmd::lrange(self.keys.events(id), from, from.saturating_add(last));
        let events: Vec<String> = self.command(&asked).await?;
        events.iter().map(|text| decode(text)).collect()
    }

    async fn delete_job(&self, id: JobId, also: &[Document]) -> Result<bool, StoreError> {
        match self.job(id).await? {
            Some(record) => self.delete(&record, also).await,
            None => Ok(false),
        }
    }

    async fn renew_lease(
        &self,
        id: JobId,
        token: u64,
        progress: &Progress,
    ) -> Result<LeaseAnswer, StoreError> {
        let mut call = script::RENEW.prepare_invoke();
        call.key(self.keys.job(id))
            .key(self.keys.lease(id))
            .arg(token)
            .arg(encode_progress(progress)?)
            .arg(id.to_string())
            .arg(self.keys.leases_of_any());
        let state: String = self.script(&call).await?;
        match state.as_str() {
            "" => Ok(LeaseAnswer::Stale),
            state => Ok(LeaseAnswer::Held(decode(&format!("\"{state}\""))?)),
        }
    }

    async fn leases(&self, pool: &PoolName) -> Result<Vec<LeaseView>, StoreError> {
        let ids: Vec<String> = self.command(&Cmd::smembers(self.keys.leases(pool))).await?;
        let mut ids = job_ids(&ids)?;
        ids.sort_unstable();
        let mut views = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(RECORDS_PER_READ) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for id in chunk {
                pipeline.hmget(self.keys.lease(*id), &["token", "renewals", "progress"]);
            }
            let rows: Vec<(Option<u64>, Option<u64>, Option<String>)> =
                self.pipeline(&pipeline).await?;
            for (job, row) in chunk.iter().zip(rows) {
                // It may have been removed since its id was read.
                if let (Some(token), Some(renewals), Some(progress)) = row {
                    views.push(LeaseView {
                        job: *job,
                        token,
                        renewals,
                        progress: decode(&progress)?,
                    });
                }
            }
        }
        Ok(views)
    }

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError> {
        let asked = Cmd::hget(self.keys.lease(id), "progress");
        let progress: Option<String> = self.command(&asked).await?;
        progress.as_deref().map(decode).transpose()
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let [order, entries, _] = self.keys.outbox();
        let mut call = script::OUTBOX.prepare_invoke();
        call.key(order)
            .key(entries)
            .arg(limit.min(ENTRIES_PER_SCRIPT));
        let entries: Vec<String> = self.script(&call).await?;
        entries.iter().map(|text| decode(text)).collect()
    }

    async fn outbox_done(&self, ids: &[String]) -> Result<(), StoreError> {
        let [order, entries, _] = self.keys.outbox();
        for chunk in ids.chunks(ENTRIES_PER_SCRIPT) {
            let mut call = script::OUTBOX_DONE.prepare_invoke();
            call.key(&order).key(&entries);
            for id in chunk {
                let job = id.split(':').next().unwrap_or_default();
                call.key(self.keys.outbox_of(job)).arg(id);
            }
            self.script::<u64>(&call).await?;
        }
        Ok(())
    }

    async fn lead(
        &self,
        pool: &PoolName,
        candidate: &str,
        ttl_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut call = script::LEAD.prepare_invoke();
        call.key(self.keys.leader(pool)).arg(candidate).arg(ttl_ms);
        let epoch: u64 = self.script(&call).await?;
        Ok(Some(epoch).filter(|epoch| *epoch > 0))
    }

    async fn resign(&self, pool: &PoolName, candidate: &str) -> Result<(), StoreError> {
        let mut call = script::RESIGN.prepare_invoke();
        call.key(self.keys.leader(pool)).arg(candidate);
        self.script::<u64>(&call).await.map(|_| ())
    }

    async fn put_worker(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        let key = self.keys.workers(&worker.pool);
        let put = Cmd::hset(key, worker.id.as_str(), encode(worker)?);
        self.command::<u64>(&put).await.map(|_| ())
    }

    async fn workers(&self, pool: &PoolName) -> Result<Vec<WorkerRecord>, StoreError> {
        let records: Vec<String> = self.command(&Cmd::hvals(self.keys.workers(pool))).await?;
        let workers: Result<Vec<WorkerRecord>, _> =
            records.iter().map(|text| decode(text)).collect();
        let mut workers = workers?;
        workers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(workers)
    }

    async fn remove_worker(
        &self,
        pool: &PoolName,
        id: &WorkerId,
        incarnation: &str,
    ) -> Result<(), StoreError> {
        let mut call = script::REMOVE_WORKER.prepare_invoke();
        call.key(self.keys.workers(pool))
            .arg(id.as_str())
            .arg(incarnation);
        self.script::<u64>(&call).await.map(|_| ())
    }
}

impl RedisStore {
    async fn ids_before(
        &self,
        tenant: &TenantId,
        before: &str,
        count: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let mut asked = redis::cmd("ZREVRANGEBYLEX");
        asked.arg(self.keys.jobs(tenant)).arg(before).arg("-");
        asked.arg("LIMIT").arg(0).arg(count);
        let ids: Vec<String> = self.command(&asked).await?;
        job_ids(&ids)
    }

    /// The records of those of the jobs that are still there, in the order given.
    async fn records(&self, ids: &[JobId]) -> Result<Vec<JobRecord>, StoreError> {
        let mut records = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(RECORDS_PER_READ) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for id in chunk {
                pipeline.hget(self.keys.job(*id), "record");
            }
            let texts: Vec<Option<String>> = self.pipeline(&pipeline).await?;
            for text in texts.iter().flatten() {
                records.push(decode(text)?);
            }
        }
        Ok(records)
    }
}

pub(super) fn job_ids(ids: &[String]) -> Result<Vec<JobId>, StoreError> {
    let ids = ids.iter().map(|id| id.parse::<JobId>());
    ids.collect::<Result<_, _>>()
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}
