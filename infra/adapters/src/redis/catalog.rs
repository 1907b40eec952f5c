//! [`Catalog`] over Redis.

use async_trait::async_trait;
use redis::Cmd;
use serde_json::Value;
use stoker_domain::TenantId;
use stoker_domain::port::{
    Catalog, CatalogKind, Document, Entry, Expect, Idempotency, Put, StoreError, Submission,
};

use super::changes::REMEMBERED_MS;
use super::{RedisStore, script};
use crate::codec::{decode, encode, encode_documents};

#[async_trait]
impl Catalog for RedisStore {
    async fn put(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        value: &Value,
        expect: Expect,
        also: &[Document],
    ) -> Result<Put, StoreError> {
        let [documents, keys] = self.keys.documents(kind, tenant);
        let revision = match expect {
            Expect::Absent => 0,
            // No document has this revision: an absent one must not pass for it.
            Expect::Revision(0) => return Ok(Put::Conflict),
            Expect::Revision(revision) => revision,
        };
        let mut call = script::PUT_DOCUMENT.prepare_invoke();
        call.key(documents)
            .key(keys)
            .arg(key)
            .arg(revision)
            .arg(encode(value)?);
        self.documents(&mut call, &encode_documents(also)?);
        let written: u64 = self.script(&call).await?;
        Ok(if written == 0 {
            Put::Conflict
        } else {
            Put::Written
        })
    }

    async fn submit(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        document: Option<(&str, &Value)>,
        idempotency: &Idempotency,
        also: &[Document],
    ) -> Result<Submission, StoreError> {
        let [documents, keys] = self.keys.documents(kind, tenant);
        let mut call = script::SUBMIT_DOCUMENT.prepare_invoke();
        call.key(self.keys.idempotency(tenant, &idempotency.key))
            .key(documents)
            .key(keys)
            .arg(&idempotency.body_blake3)
            .arg(&idempotency.answer)
            .arg(REMEMBERED_MS);
        // No document has an empty key.
        match document {
            Some((key, value)) => call.arg(key).arg(encode(value)?),
            None => call.arg("").arg(""),
        };
        self.documents(&mut call, &encode_documents(also)?);
        let outcome: Vec<String> = self.script(&call).await?;
        match outcome.first().map(String::as_str) {
            Some("written") => Ok(Submission::Written),
            Some("conflict") => Ok(Submission::Conflict),
            Some("replayed") => Ok(Submission::Replayed {
                answer: outcome.into_iter().nth(1).unwrap_or_default(),
            }),
            _ => Ok(Submission::Mismatch),
        }
    }

    async fn get(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let [documents, _] = self.keys.documents(kind, tenant);
        let found: Option<String> = self.command(&Cmd::hget(documents, key)).await?;
        found
            .map(|stored| entry(key.to_owned(), &stored))
            .transpose()
    }

    async fn list(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let [documents, keys] = self.keys.documents(kind, tenant);
        let first = match after {
            Some(after) if after >= prefix => [b"(", after.as_bytes()].concat(),
            _ => [b"[", prefix.as_bytes()].concat(),
        };
        // No UTF-8 text holds this byte.
        let last = [b"(", prefix.as_bytes(), b"\xff"].concat();
        let mut asked = redis::cmd("ZRANGEBYLEX");
        asked.arg(keys).arg(first).arg(last).arg("LIMIT").arg(0);
        asked.arg(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<String> = self.command(&asked).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = redis::cmd("HMGET");
        asked.arg(documents).arg(&found);
        let values: Vec<Option<String>> = self.command(&asked).await?;
        let entries = found.into_iter().zip(values);
        entries
            .filter_map(|(key, stored)| stored.map(|stored| entry(key, &stored)))
            .collect()
    }

    async fn delete(
        &self,
        kind: CatalogKind,
        tenant: &TenantId,
        key: &str,
        also: &[Document],
    ) -> Result<bool, StoreError> {
        let [documents, keys] = self.keys.documents(kind, tenant);
        let mut call = script::DELETE_DOCUMENT.prepare_invoke();
        call.key(documents).key(keys).arg(key);
        self.documents(&mut call, &encode_documents(also)?);
        let deleted: u64 = self.script(&call).await?;
        Ok(deleted > 0)
    }
}

fn entry(key: String, stored: &str) -> Result<Entry, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("document {key:?} has no revision"));
    let (revision, value) = stored.split_once(':').ok_or_else(unreadable)?;
    Ok(Entry {
        revision: revision.parse().map_err(|_| unreadable())?,
        value: decode(value)?,
        key,
    })
}
