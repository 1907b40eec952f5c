//! [`Catalog`] over SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use stoker_domain::TenantId;
use stoker_domain::port::{
    Catalog, CatalogKind, Creation, Document, Entry, Expect, Idempotency, Put, StoreError,
    Submission,
};
use stoker_domain::time::Clock;

use super::change::{self, integer};
use super::database::failed;
use super::jobs::rows_max;
use super::store::EmbeddedStore;
use crate::codec::{decode, encode, encode_documents};

/// Writes a document where there is none.
const INSERT: &str = "INSERT INTO document (kind, tenant, key, revision, value)
    VALUES (?1, ?2, ?3, ?5 + 1, ?4) ON CONFLICT DO NOTHING";

#[async_trait]
impl Catalog for EmbeddedStore {
    async fn put(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        value: &Value,
        expect: Expect,
        also: &[Document],
    ) -> Result<Put, StoreError> {
        let also = encode_documents(also)?;
        let (tenant, key, value) = (tenant.to_string(), key.to_owned(), encode(value)?);
        let write = move |db: &Connection| {
            let (sql, revision) = match expect {
                Expect::Absent => (INSERT, 0),
                Expect::Revision(revision) => (
                    "UPDATE document SET revision = ?5 + 1, value = ?4
                     WHERE kind = ?1 AND tenant = ?2 AND key = ?3 AND revision = ?5",
                    integer(revision)?,
                ),
            };
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let written = statement
                .execute(params![kind.as_str(), tenant, key, value, revision])
                .map_err(failed)?;
            if written == 0 {
                return Ok(Put::Conflict);
            }
            change::keep(db, &also)?;
            Ok(Put::Written)
        };
        self.jobs.writer.write(write).await
    }

    async fn submit(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        document: Option<(&str, &Value)>,
        idempotency: &Idempotency,
        also: &[Document],
    ) -> Result<Submission, StoreError> {
        let also = encode_documents(also)?;
        let (tenant, idempotency) = (tenant.to_string(), idempotency.clone());
        let now_ms = self.clock.now().as_millis();
        let document = match document {
            Some((key, value)) => Some((key.to_owned(), encode(value)?)),
            None => None,
        };
        let write = move |db: &Connection| {
            let Idempotency {
                key, body_blake3, ..
            } = &idempotency;
            match change::replayed(db, &tenant, key, body_blake3)? {
                Some(Creation::Replayed { answer }) => return Ok(Submission::Replayed { answer }),
                Some(_) => return Ok(Submission::Mismatch),
                None => {}
            }
            if let Some((key, value)) = &document {
                let mut statement = db.prepare_cached(INSERT).map_err(failed)?;
                let written = statement
                    .execute(params![kind.as_str(), tenant, key, value, 0])
                    .map_err(failed)?;
                if written == 0 {
                    return Ok(Submission::Conflict);
                }
            }
            change::remember(db, &tenant, &idempotency, now_ms)?;
            change::keep(db, &also)?;
            Ok(Submission::Written)
        };
        self.jobs.writer.write(write).await
    }

    async fn get(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let (tenant, key) = (tenant.to_string(), key.to_owned());
        let read = move |db: &Connection| {
            let sql = "SELECT key, revision, value FROM document
                       WHERE kind = ?1 AND tenant = ?2 AND key = ?3";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let row = statement
                .query_row(params![kind.as_str(), tenant, key], columns)
                .optional()
                .map_err(failed)?;
            row.map(entry).transpose()
        };
        self.jobs.readers.read(read).await
    }

    async fn list(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let (tenant, prefix) = (tenant.to_string(), prefix.to_owned());
        let after = after.map(str::to_owned);
        let read = move |db: &Connection| {
            let sql = "SELECT key, revision, value FROM document
                       WHERE kind = ?1 AND tenant = ?2 AND key >= ?3
                         AND (?4 IS NULL OR key > ?4) AND substr(key, 1, length(?3)) = ?3
                       ORDER BY key LIMIT ?5";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let values = params![kind.as_str(), tenant, prefix, after, rows_max(limit)];
            let rows = statement.query_map(values, columns).map_err(failed)?;
            rows.map(|row| row.map_err(failed).and_then(entry))
                .collect()
        };
        self.jobs.readers.read(read).await
    }

    async fn delete(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        also: &[Document],
    ) -> Result<bool, StoreError> {
        let also = encode_documents(also)?;
        let (tenant, key) = (tenant.to_string(), key.to_owned());
        let write = move |db: &Connection| {
            let sql = "DELETE FROM document WHERE kind = ?1 AND tenant = ?2 AND key = ?3";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let deleted = statement
                .execute(params![kind.as_str(), tenant, key])
                .map_err(failed)?;
            if deleted > 0 {
                change::keep(db, &also)?;
            }
            Ok(deleted > 0)
        };
        self.jobs.writer.write(write).await
    }
}

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, u64, String)> {
    Ok((
        row.get(0)?,
        row.get::<_, i64>(1)?.unsigned_abs(),
        row.get(2)?,
    ))
}

fn entry((key, revision, value): (String, u64, String)) -> Result<Entry, StoreError> {
    let value = decode(&value)?;
    Ok(Entry {
        key,
        revision,
        value,
    })
}
