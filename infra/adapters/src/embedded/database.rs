//! One SQLite file: its settings, its schema and the version of that schema.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use stoker_domain::port::StoreError;

use super::reader::Readers;
use super::writer::Writer;
use crate::setup::SetupError;

/// How long a connection waits for another's lock before it gives up.
const BUSY_TIMEOUT_MS: u32 = 5_000;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 64;
/// The write-ahead log is cut back to this size after a checkpoint.
const WAL_MAX_BYTES: u32 = 64 << 20;

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Before it is answered: survives a power loss.
    Full,
    /// Some time after: survives a killed process, but not a power loss.
    Normal,
}

impl Sync {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// What a file holds.
pub(super) struct Schema {
    /// Written into the file as `user_version`.
    pub(super) version: i64,
    /// Makes the tables; run on an empty file.
    pub(super) create: &'static str,
    /// Run by every opening: what an earlier process left is over.
    pub(super) open: &'static str,
    pub(super) sync: Sync,
}

/// An open file: one writer, some readers.
pub(super) struct Database {
    pub(super) writer: Writer,
    pub(super) readers: Readers,
}

impl Database {
    pub(super) fn open(path: &Path, schema: &Schema) -> Result<Self, SetupError> {
        let failed = |error: rusqlite::Error| SetupError::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let connection = Connection::open(path).map_err(failed)?;
        prepare(&connection, schema.sync).map_err(failed)?;
        let found: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        if found > schema.version {
            return Err(SetupError::Newer {
                place: path.display().to_string(),
                found,
                known: schema.version,
            });
        }
        if found == 0 {
            let script = format!(
                "BEGIN IMMEDIATE; {} PRAGMA user_version = {}; COMMIT;",
                schema.create, schema.version
            );
            connection.execute_batch(&script).map_err(failed)?;
        }
        connection.execute_batch(schema.open).map_err(failed)?;
        let writer = Writer::start(connection).map_err(|error| SetupError::File {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        Ok(Self {
            writer,
            readers: Readers::new(path.to_owned()),
        })
    }
}

fn prepare(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {};
         PRAGMA journal_size_limit = {WAL_MAX_BYTES};",
        sync.as_str()
    ))
}

/// Copies a file, as it is at one moment, to a new one.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), SetupError> {
    let failed = |error: rusqlite::Error| SetupError::File {
        path: from.to_owned(),
        message: error.to_string(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(from, flags).map_err(failed)?;
    connection
        .execute_batch(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))
        .map_err(failed)?;
    let target = to.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [target.as_ref()])
        .map_err(failed)?;
    // SQLite doesn't wait for the disk here.
    let written = std::fs::File::open(to).and_then(|file| file.sync_all());
    written.map_err(|error| SetupError::File {
        path: to.to_owned(),
        message: error.to_string(),
    })
}

/// A connection that only reads.
pub(super) fn open_reader(path: &PathBuf) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection
        .execute_batch(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))
        .map_err(failed)?;
    Ok(connection)
}

/// What a SQLite error means to a caller of the port.
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    let unreadable = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) || matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
    );
    match unreadable {
        true => StoreError::Corrupt(error.to_string()),
        false => StoreError::Unavailable(error.to_string()),
    }
}
