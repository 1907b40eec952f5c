//! Who leads a pool. Expiry is told by this process's monotonic clock: nobody else uses the file.

use rusqlite::{Connection, OptionalExtension, params};
use stoker_domain::port::{Guard, StoreError};

use super::change::{integer, run};
use super::database::failed;

/// Whether the guard's epoch is the present one, and its leader hasn't resigned.
pub(super) fn leads(connection: &Connection, guard: &Guard) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM leadership WHERE pool = ?1 AND epoch = ?2 AND holder IS NOT NULL";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement
        .exists(params![guard.pool.as_str(), integer(guard.epoch)?])
        .map_err(failed)
}

/// Takes or keeps the leadership; `Some(epoch)` when `candidate` leads.
pub(super) fn lead(
    connection: &Connection,
    pool: &str,
    candidate: &str,
    now_ms: i64,
    ttl_ms: i64,
) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT holder, epoch, expires_ms FROM leadership WHERE pool = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found: Option<(Option<String>, i64, i64)> = statement
        .query_row(params![pool], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()
        .map_err(failed)?;
    let epoch = match found {
        None => 1,
        Some((Some(holder), epoch, _)) if holder == candidate => epoch,
        Some((Some(_), _, expires_ms)) if expires_ms > now_ms => return Ok(None),
        Some((_, epoch, _)) => epoch + 1,
    };
    run(
        connection,
        "INSERT INTO leadership (pool, holder, epoch, expires_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (pool) DO UPDATE SET holder = ?2, epoch = ?3, expires_ms = ?4",
        params![pool, candidate, epoch, now_ms.saturating_add(ttl_ms)],
    )?;
    Ok(u64::try_from(epoch).ok())
}

/// Gives the leadership up, if `candidate` has it.
pub(super) fn resign(
    connection: &Connection,
    pool: &str,
    candidate: &str,
) -> Result<(), StoreError> {
    run(
        connection,
        "UPDATE leadership SET holder = NULL WHERE pool = ?1 AND holder = ?2",
        params![pool, candidate],
    )
}
