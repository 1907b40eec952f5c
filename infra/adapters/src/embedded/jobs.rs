//! [`JobStore`] over SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use stoker_domain::job::{Change, Event};
use stoker_domain::port::{
    Creation, Document, Guard, Idempotency, JobFilter, JobPage, JobStore, LeaseAnswer, LeaseView,
    OutboxEntry, StoreError, Update,
};
use stoker_domain::time::Clock;
use stoker_domain::worker::{Progress, WorkerRecord};
use stoker_domain::{JobId, JobRecord, PoolName, TenantId, WorkerId};

use super::change::{self, Row, integer, run};
use super::database::failed;
use super::store::EmbeddedStore;
use super::{leadership, workers};
use crate::codec::{EncodedChange, decode, encode, encode_documents, encode_progress};

/// Jobs that one list looks at. A filter that few jobs pass gets a short page and a cursor.
const EXAMINED_MAX: u32 = 10_000;

impl EmbeddedStore {
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.jobs.writer.write(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.jobs.readers.read(work).await
    }
}

#[async_trait]
impl JobStore for EmbeddedStore {
    async fn create_job(
        &self,
        change: &Change,
        idempotency: &Idempotency,
    ) -> Result<Creation, StoreError> {
        let row = Row::new(&change.record, EncodedChange::new(change)?)?;
        let (idempotency, now_ms) = (idempotency.clone(), self.clock.now().as_millis());
        self.write(move |db| change::create(db, &row, &idempotency, now_ms))
            .await
    }

    async fn replayed(
        &self,
        tenant: &TenantId,
        key: &str,
        body_blake3: &str,
    ) -> Result<Option<Creation>, StoreError> {
        let (tenant, key) = (tenant.to_string(), key.to_owned());
        let body_blake3 = body_blake3.to_owned();
        self.read(move |db| change::replayed(db, &tenant, &key, &body_blake3))
            .await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.read(move |db| {
            let mut statement = db
                .prepare_cached("SELECT record FROM job WHERE id = ?1")
                .map_err(failed)?;
            let text: Option<String> = statement
                .query_row(params![id.to_string()], |row| row.get(0))
                .optional()
                .map_err(failed)?;
            text.as_deref().map(decode).transpose()
        })
        .await
    }

    async fn update_job(
        &self,
        change: &Change,
        guard: Option<&Guard>,
    ) -> Result<Update, StoreError> {
        let row = Row::new(&change.record, EncodedChange::new(change)?)?;
        let guard = guard.cloned();
        self.write(move |db| change::update(db, &row, guard.as_ref()))
            .await
    }

    async fn list_jobs(
        &self,
        tenant: &TenantId,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<JobPage, StoreError> {
        let (tenant, filter) = (tenant.to_string(), filter.clone());
        self.read(move |db| list(db, &tenant, &filter, after, limit))
            .await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.read(move |db| {
            // From one tenant to the next, so that not every job is looked at.
            let sql = "WITH RECURSIVE found(tenant) AS (
                           SELECT min(tenant) FROM job UNION ALL
                           SELECT (SELECT min(tenant) FROM job WHERE tenant > found.tenant)
                           FROM found WHERE found.tenant IS NOT NULL)
                       SELECT tenant FROM found WHERE tenant IS NOT NULL";
            let names = workers::texts(db, sql, [])?;
            let tenants = names.iter().map(|name| name.parse::<TenantId>());
            tenants
                .collect::<Result<_, _>>()
                .map_err(|error| StoreError::Corrupt(error.to_string()))
        })
        .await
    }

    async fn active_jobs(&self, pool: &PoolName) -> Result<Vec<JobRecord>, StoreError> {
        let pool = pool.to_string();
        self.read(move |db| {
            let sql = "SELECT record FROM job WHERE pool = ?1 AND active ORDER BY id";
            let records = workers::texts(db, sql, params![pool])?;
            records.iter().map(|text| decode(text)).collect()
        })
        .await
    }

    async fn events(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let (from, limit) = (integer(from)?, rows_max(limit));
        self.read(move |db| {
            let sql = "SELECT event FROM event WHERE job = ?1 AND position >= ?2
                       ORDER BY position LIMIT ?3";
            let events = workers::texts(db, sql, params![id.to_string(), from, limit])?;
            events.iter().map(|text| decode(text)).collect()
        })
        .await
    }

    async fn delete_job(&self, id: JobId, also: &[Document]) -> Result<bool, StoreError> {
        let also = encode_documents(also)?;
        self.write(move |db| change::delete(db, &id.to_string(), &also))
            .await
    }

    async fn renew_lease(
        &self,
        id: JobId,
        token: u64,
        progress: &Progress,
    ) -> Result<LeaseAnswer, StoreError> {
        let (token, progress) = (integer(token)?, encode_progress(progress)?);
        self.write(move |db| workers::renew(db, &id.to_string(), token, &progress))
            .await
    }

    async fn leases(&self, pool: &PoolName) -> Result<Vec<LeaseView>, StoreError> {
        let pool = pool.to_string();
        self.read(move |db| workers::leases(db, &pool)).await
    }

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError> {
        self.read(move |db| workers::progress(db, &id.to_string()))
            .await
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let limit = rows_max(limit);
        self.read(move |db| {
            let sql = "SELECT entry FROM outbox ORDER BY number LIMIT ?1";
            let entries = workers::texts(db, sql, params![limit])?;
            entries.iter().map(|text| decode(text)).collect()
        })
        .await
    }

    async fn outbox_done(&self, ids: &[String]) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.write(move |db| {
            let sql = "DELETE FROM outbox WHERE id = ?1";
            ids.iter().try_for_each(|id| run(db, sql, params![id]))
        })
        .await
    }

    async fn lead(
        &self,
        pool: &PoolName,
        candidate: &str,
        ttl_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let (pool, candidate) = (pool.to_string(), candidate.to_owned());
        let (clock, ttl_ms) = (self.clock, integer(ttl_ms)?);
        self.write(move |db| {
            let now_ms = integer(clock.monotonic_ms())?;
            leadership::lead(db, &pool, &candidate, now_ms, ttl_ms)
        })
        .await
    }

    async fn resign(&self, pool: &PoolName, candidate: &str) -> Result<(), StoreError> {
        let (pool, candidate) = (pool.to_string(), candidate.to_owned());
        self.write(move |db| leadership::resign(db, &pool, &candidate))
            .await
    }

    async fn put_worker(&self, worker: &WorkerRecord) -> Result<(), StoreError> {
        let (worker, record) = (worker.clone(), encode(worker)?);
        self.write(move |db| workers::put(db, &worker, &record))
            .await
    }

    async fn workers(&self, pool: &PoolName) -> Result<Vec<WorkerRecord>, StoreError> {
        let pool = pool.to_string();
        self.read(move |db| workers::workers(db, &pool)).await
    }

    async fn remove_worker(
        &self,
        pool: &PoolName,
        id: &WorkerId,
        incarnation: &str,
    ) -> Result<(), StoreError> {
        let (pool, id) = (pool.to_string(), id.to_string());
        let incarnation = incarnation.to_owned();
        self.write(move |db| {
            let sql = "DELETE FROM worker WHERE pool = ?1 AND id = ?2 AND incarnation = ?3";
            run(db, sql, params![pool, id, incarnation])
        })
        .await
    }
}

/// A limit as SQLite takes it.
pub(super) fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn list(
    connection: &Connection,
    tenant: &str,
    filter: &JobFilter,
    after: Option<JobId>,
    limit: usize,
) -> Result<JobPage, StoreError> {
    // '~' comes after every id.
    let before = after.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let sql = "SELECT id, state, project, name, record FROM job WHERE tenant = ?1 AND id < ?2
               ORDER BY id DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement
        .query(params![tenant, before, EXAMINED_MAX])
        .map_err(failed)?;
    let mut page = JobPage::default();
    let (mut examined, mut last) = (0, None);
    while let Some(row) = rows.next().map_err(failed)? {
        if page.jobs.len() >= limit {
            page.next = page.jobs.last().map(|job: &JobRecord| job.id);
            return Ok(page);
        }
        examined += 1;
        last = Some(row.get::<_, String>(0).map_err(failed)?);
        if row_may_match(row, filter).map_err(failed)? {
            let record: JobRecord = decode(&row.get::<_, String>(4).map_err(failed)?)?;
            page.jobs
                .extend(Some(record).filter(|record| filter.matches(record)));
        }
    }
    if examined == EXAMINED_MAX {
        page.next = last.and_then(|id| id.parse().ok());
    }
    Ok(page)
}

fn row_may_match(row: &rusqlite::Row<'_>, filter: &JobFilter) -> rusqlite::Result<bool> {
    let wanted = [
        filter.state.map(|state| state.as_str()),
        filter.project.as_deref(),
        filter.name.as_deref(),
    ];
    for (column, wanted) in (1..).zip(wanted) {
        if let Some(wanted) = wanted
            && row.get_ref(column)?.as_str()? != wanted
        {
            return Ok(false);
        }
    }
    Ok(true)
}
