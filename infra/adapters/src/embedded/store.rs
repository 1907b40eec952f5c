//! The embedded store: its files and their schemas.

use std::path::Path;
use std::sync::Arc;

use super::database::{self, Database, Schema, Sync};
use crate::clock::SystemClock;
use crate::setup::SetupError;

/// Columns that lists filter by come before the record, so that a skipped row costs no reading of
/// its record's pages.
const JOBS: Schema = Schema {
    version: 1,
    create: "
        CREATE TABLE job (
            id TEXT PRIMARY KEY, tenant TEXT NOT NULL, pool TEXT NOT NULL, active INTEGER NOT NULL,
            state TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,
            revision INTEGER NOT NULL, token INTEGER NOT NULL, record TEXT NOT NULL);
        CREATE INDEX job_of_tenant ON job (tenant, id);
        CREATE INDEX job_active ON job (pool, id) WHERE active;
        CREATE TABLE event (
            job TEXT NOT NULL, position INTEGER NOT NULL, event TEXT NOT NULL,
            PRIMARY KEY (job, position)) WITHOUT ROWID;
        CREATE TABLE lease (
            job TEXT PRIMARY KEY, pool TEXT NOT NULL, token INTEGER NOT NULL,
            renewals INTEGER NOT NULL, progress TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE outbox (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, entry TEXT NOT NULL);
        CREATE TABLE idempotency (
            number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, key TEXT NOT NULL,
            body_blake3 TEXT NOT NULL, answer TEXT NOT NULL, created_ms INTEGER NOT NULL,
            UNIQUE (tenant, key));
        CREATE TABLE leadership (
            pool TEXT PRIMARY KEY, holder TEXT, epoch INTEGER NOT NULL,
            expires_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE worker (
            pool TEXT NOT NULL, id TEXT NOT NULL, incarnation TEXT NOT NULL, record TEXT NOT NULL,
            PRIMARY KEY (pool, id)) WITHOUT ROWID;
        CREATE TABLE document (
            kind TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,
            revision INTEGER NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (kind, tenant, key)) WITHOUT ROWID;",
    // Leaders were threads of the process that had the file before. Their expiry was told by its
    // clock, which says nothing to ours.
    open: "UPDATE leadership SET holder = NULL;",
    sync: Sync::Full,
};

const POINTS: Schema = Schema {
    version: 1,
    create: "
        CREATE TABLE series (
            id INTEGER PRIMARY KEY, job TEXT NOT NULL, metric TEXT NOT NULL, UNIQUE (job, metric));
        CREATE TABLE point (
            series INTEGER NOT NULL, step INTEGER NOT NULL, token INTEGER NOT NULL, value REAL,
            PRIMARY KEY (series, step)) WITHOUT ROWID;",
    open: "",
    // A checkpoint is committed only after the points before it.
    sync: Sync::Full,
};

/// The embedded [`JobStore`](stoker_domain::port::JobStore),
/// [`Catalog`](stoker_domain::port::Catalog) and [`PointStore`](stoker_domain::port::PointStore).
/// Clones share it; it is closed with the last.
///
/// One process at a time: lock the directory by [`crate::DataDir`] first.
#[derive(Clone)]
pub struct EmbeddedStore {
    pub(super) jobs: Arc<Database>,
    pub(super) points: Arc<Database>,
    pub(super) clock: SystemClock,
}

impl EmbeddedStore {
    /// Opens or makes the store at `path`, as in `<data dir>/stoker.db`; metric points go to
    /// `stoker.points.db` beside it.
    ///
    /// # Errors
    /// [`SetupError::File`] when a file can't be used, [`SetupError::Newer`] when a later version
    /// wrote it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = path.as_ref();
        Ok(Self {
            jobs: Arc::new(Database::open(path, &JOBS)?),
            points: Arc::new(Database::open(&path.with_extension("points.db"), &POINTS)?),
            clock: SystemClock::new(),
        })
    }

    /// Copies the files of the store at `path` to new ones at `to`, each as it is at one moment, the
    /// jobs' first. The store may be in use, by another process too.
    ///
    /// # Errors
    /// [`SetupError::File`] when a file can't be read, or written anew.
    pub fn back_up(path: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), SetupError> {
        let (path, to) = (path.as_ref(), to.as_ref());
        database::copy(path, to)?;
        database::copy(
            &path.with_extension("points.db"),
            &to.with_extension("points.db"),
        )
    }
}
