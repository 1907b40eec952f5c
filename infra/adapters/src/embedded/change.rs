//! Writing a change: record, events, outbox and lease in one step.

use rusqlite::{Connection, OptionalExtension, params};
use stoker_domain::port::{Creation, Guard, Idempotency, StoreError, Update};
use stoker_domain::{JobRecord, JobState};

use super::database::failed;
use super::leadership::leads;
use crate::codec::{EncodedChange, EncodedDocument};

/// How long idempotency keys are remembered.
const REMEMBERED_MS: i64 = 48 * 3_600 * 1_000;
/// Expired keys that each submit removes: more than it adds.
const FORGOTTEN_PER_SUBMIT: u32 = 2;

/// A job's row, made ready before the thread that writes gets it.
pub(super) struct Row {
    key: String,
    tenant: String,
    pool: String,
    state: JobState,
    project: String,
    name: String,
    revision: i64,
    token: i64,
    first_event: i64,
    encoded: EncodedChange,
}

impl Row {
    pub(super) fn new(record: &JobRecord, encoded: EncodedChange) -> Result<Self, StoreError> {
        let next_event = integer(record.next_event)?;
        let events = i64::try_from(encoded.events.len()).unwrap_or(i64::MAX);
        Ok(Self {
            key: record.id.to_string(),
            tenant: record.tenant.to_string(),
            pool: record.pool().to_string(),
            state: record.state,
            project: record.spec.project.clone(),
            name: record.spec.name.clone(),
            revision: integer(record.revision)?,
            token: integer(record.token)?,
            first_event: next_event - events,
            encoded,
        })
    }

    fn active(&self) -> bool {
        self.state == JobState::Queued || self.state.is_leased()
    }
}

/// SQLite's integers are signed.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} is too large a number")))
}

pub(super) fn create(
    connection: &Connection,
    row: &Row,
    idempotency: &Idempotency,
    now_ms: i64,
) -> Result<Creation, StoreError> {
    let earlier = replayed(
        connection,
        &row.tenant,
        &idempotency.key,
        &idempotency.body_blake3,
    )?;
    if let Some(earlier) = earlier {
        return Ok(earlier);
    }
    remember(connection, &row.tenant, idempotency, now_ms)?;
    run(
        connection,
        "INSERT INTO job (id, tenant, pool, active, state, project, name, revision, token, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.key,
            row.tenant,
            row.pool,
            row.active(),
            row.state.as_str(),
            row.project,
            row.name,
            row.revision,
            row.token,
            row.encoded.record
        ],
    )?;
    append(connection, row)?;
    Ok(Creation::Created)
}

/// What an earlier submit with this key was answered. Keys of expired submits may still be there:
/// remembering them longer does no harm.
pub(super) fn replayed(
    connection: &Connection,
    tenant: &str,
    key: &str,
    body_blake3: &str,
) -> Result<Option<Creation>, StoreError> {
    let sql = "SELECT body_blake3, answer FROM idempotency WHERE tenant = ?1 AND key = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let earlier: Option<(String, String)> = statement
        .query_row(params![tenant, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed)?;
    Ok(earlier.map(|(body, answer)| {
        if body == body_blake3 {
            Creation::Replayed { answer }
        } else {
            Creation::Mismatch
        }
    }))
}

/// Keeps the answer to a request.
pub(super) fn remember(
    connection: &Connection,
    tenant: &str,
    idempotency: &Idempotency,
    now_ms: i64,
) -> Result<(), StoreError> {
    forget(connection, now_ms)?;
    run(
        connection,
        "INSERT INTO idempotency (tenant, key, body_blake3, answer, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            tenant,
            idempotency.key,
            idempotency.body_blake3,
            idempotency.answer,
            now_ms
        ],
    )
}

/// Rows are numbered in the order of their making, so the oldest need no index.
fn forget(connection: &Connection, now_ms: i64) -> Result<(), StoreError> {
    run(
        connection,
        "DELETE FROM idempotency WHERE created_ms < ?1 AND number IN
             (SELECT number FROM idempotency ORDER BY number LIMIT ?2)",
        params![now_ms - REMEMBERED_MS, FORGOTTEN_PER_SUBMIT],
    )
}

pub(super) fn update(
    connection: &Connection,
    row: &Row,
    guard: Option<&Guard>,
) -> Result<Update, StoreError> {
    if let Some(guard) = guard
        && !leads(connection, guard)?
    {
        return Ok(Update::Fenced);
    }
    let sql = "UPDATE job SET active = ?2, state = ?3, revision = ?4, token = ?5, record = ?6
               WHERE id = ?1 AND revision = ?4 - 1";
    let written = connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.execute(params![
                row.key,
                row.active(),
                row.state.as_str(),
                row.revision,
                row.token,
                row.encoded.record
            ])
        })
        .map_err(failed)?;
    if written == 0 {
        return Ok(Update::Conflict);
    }
    // A dispatch begins a new lease; what isn't leased has none.
    if !row.state.is_leased() || row.state == JobState::Dispatched {
        run(
            connection,
            "DELETE FROM lease WHERE job = ?1",
            params![row.key],
        )?;
    }
    append(connection, row)?;
    Ok(Update::Written)
}

fn append(connection: &Connection, row: &Row) -> Result<(), StoreError> {
    for (position, event) in (row.first_event..).zip(&row.encoded.events) {
        run(
            connection,
            "INSERT INTO event (job, position, event) VALUES (?1, ?2, ?3)",
            params![row.key, position, event],
        )?;
    }
    for (id, entry) in &row.encoded.outbox {
        run(
            connection,
            "INSERT INTO outbox (id, entry) VALUES (?1, ?2)",
            params![id, entry],
        )?;
    }
    keep(connection, &row.encoded.documents)
}

/// Writes documents in place of what may be there.
pub(super) fn keep(
    connection: &Connection,
    documents: &[EncodedDocument],
) -> Result<(), StoreError> {
    for document in documents {
        run(
            connection,
            "INSERT INTO document (kind, tenant, key, revision, value) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT DO UPDATE SET revision = revision + 1, value = ?4",
            params![
                document.kind.as_str(),
                document.tenant.as_str(),
                document.key,
                document.value
            ],
        )?;
    }
    Ok(())
}

pub(super) fn delete(
    connection: &Connection,
    id: &str,
    also: &[EncodedDocument],
) -> Result<bool, StoreError> {
    run(connection, "DELETE FROM event WHERE job = ?1", params![id])?;
    run(connection, "DELETE FROM lease WHERE job = ?1", params![id])?;
    // Entries are named `<job>:…`, and ';' is the character after ':'.
    run(
        connection,
        "DELETE FROM outbox WHERE id > ?1 || ':' AND id < ?1 || ';'",
        params![id],
    )?;
    let deleted = connection
        .prepare_cached("DELETE FROM job WHERE id = ?1")
        .and_then(|mut statement| statement.execute(params![id]))
        .map_err(failed)?;
    if deleted > 0 {
        keep(connection, also)?;
    }
    Ok(deleted > 0)
}

/// Runs a statement whose count of rows doesn't matter.
pub(super) fn run(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.execute(values).map(|_| ()).map_err(failed)
}
