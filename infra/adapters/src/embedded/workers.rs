//! Leases and workers: what heartbeats write and the scheduler watches.

use rusqlite::{Connection, OptionalExtension, params};
use stoker_domain::JobId;
use stoker_domain::port::{LeaseAnswer, LeaseView, StoreError};
use stoker_domain::worker::{Progress, WorkerRecord};

use super::change::run;
use super::database::failed;
use crate::codec::decode;

/// Renews the lease, if the job's newest token is `token` and its state holds a lease.
pub(super) fn renew(
    connection: &Connection,
    id: &str,
    token: i64,
    progress: &str,
) -> Result<LeaseAnswer, StoreError> {
    let sql = "SELECT pool, state FROM job WHERE id = ?1 AND token = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found: Option<(String, String)> = statement
        .query_row(params![id, token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed)?;
    let Some((pool, state)) = found else {
        return Ok(LeaseAnswer::Stale);
    };
    let state: stoker_domain::JobState = decode(&format!("\"{state}\""))?;
    if !state.is_leased() {
        return Ok(LeaseAnswer::Stale);
    }
    run(
        connection,
        "INSERT INTO lease (job, pool, token, renewals, progress) VALUES (?1, ?2, ?3, 1, ?4)
         ON CONFLICT (job) DO UPDATE SET renewals = iif(token = ?3, renewals + 1, 1),
             token = ?3, progress = ?4",
        params![id, pool, token, progress],
    )?;
    Ok(LeaseAnswer::Held(state))
}

pub(super) fn leases(connection: &Connection, pool: &str) -> Result<Vec<LeaseView>, StoreError> {
    let sql = "SELECT job, token, renewals, progress FROM lease WHERE pool = ?1 ORDER BY job";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(params![pool]).map_err(failed)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let job: String = row.get(0).map_err(failed)?;
        let progress: String = row.get(3).map_err(failed)?;
        views.push(LeaseView {
            job: job
                .parse::<JobId>()
                .map_err(|error| StoreError::Corrupt(error.to_string()))?,
            token: row.get::<_, i64>(1).map_err(failed)?.unsigned_abs(),
            renewals: row.get::<_, i64>(2).map_err(failed)?.unsigned_abs(),
            progress: decode(&progress)?,
        });
    }
    Ok(views)
}

pub(super) fn progress(connection: &Connection, id: &str) -> Result<Option<Progress>, StoreError> {
    let sql = "SELECT progress FROM lease WHERE job = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let text: Option<String> = statement
        .query_row(params![id], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    text.as_deref().map(decode).transpose()
}

pub(super) fn put(
    connection: &Connection,
    worker: &WorkerRecord,
    record: &str,
) -> Result<(), StoreError> {
    run(
        connection,
        "INSERT INTO worker (pool, id, incarnation, record) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (pool, id) DO UPDATE SET incarnation = ?3, record = ?4",
        params![
            worker.pool.as_str(),
            worker.id.as_str(),
            worker.incarnation,
            record
        ],
    )
}

pub(super) fn workers(
    connection: &Connection,
    pool: &str,
) -> Result<Vec<WorkerRecord>, StoreError> {
    let sql = "SELECT record FROM worker WHERE pool = ?1 ORDER BY id";
    texts(connection, sql, params![pool])?
        .iter()
        .map(|text| decode(text))
        .collect()
}

/// The first column of every row.
pub(super) fn texts(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let rows = statement
        .query_map(values, |row| row.get(0))
        .map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}
