//! Writing changes to jobs: what the scripts get, and what their answers mean.

use redis::ScriptInvocation;
use stoker_domain::job::Change;
use stoker_domain::port::{Creation, Document, Guard, Idempotency, StoreError, Update};
use stoker_domain::{JobId, JobRecord, JobState};

use super::{RedisStore, script, unexpected};
use crate::codec::{EncodedChange, EncodedDocument, encode_documents};

/// How long idempotency keys are remembered.
pub(super) const REMEMBERED_MS: u64 = 48 * 3_600 * 1_000;

impl RedisStore {
    pub(super) async fn create(
        &self,
        change: &Change,
        idempotency: &Idempotency,
    ) -> Result<Creation, StoreError> {
        let (record, encoded) = (&change.record, EncodedChange::new(change)?);
        let mut call = script::CREATE.prepare_invoke();
        call.key(self.keys.idempotency(&record.tenant, &idempotency.key))
            .key(self.keys.job(record.id))
            .key(self.keys.jobs(&record.tenant))
            .key(self.keys.active(record.pool()))
            .key(self.keys.events(record.id));
        self.outbox_keys(&mut call, record.id);
        call.key(self.keys.tenants());
        call.arg(&idempotency.body_blake3)
            .arg(&idempotency.answer)
            .arg(REMEMBERED_MS)
            .arg(record.id.to_string())
            .arg(&encoded.record)
            .arg(record.revision)
            .arg(record.token)
            .arg(record.state.as_str())
            .arg(record.pool().as_str())
            .arg(record.tenant.as_str());
        self.rest(&mut call, &encoded);
        let answer: Vec<String> = self.script(&call).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["created"] => Ok(Creation::Created),
            ["replayed", answer] => Ok(Creation::Replayed {
                answer: answer.to_owned(),
            }),
            ["mismatch"] => Ok(Creation::Mismatch),
            _ => Err(unexpected(&answer.join(" "))),
        }
    }

    pub(super) async fn update(
        &self,
        change: &Change,
        guard: Option<&Guard>,
    ) -> Result<Update, StoreError> {
        let (record, encoded) = (&change.record, EncodedChange::new(change)?);
        let guarded = guard.map_or_else(|| record.pool(), |guard| &guard.pool);
        let mut call = script::UPDATE.prepare_invoke();
        call.key(self.keys.leader(guarded))
            .key(self.keys.job(record.id))
            .key(self.keys.active(record.pool()))
            .key(self.keys.lease(record.id))
            .key(self.keys.leases(record.pool()))
            .key(self.keys.events(record.id));
        self.outbox_keys(&mut call, record.id);
        // A dispatch begins a new lease; what isn't leased has none.
        let keeps_lease = record.state.is_leased() && record.state != JobState::Dispatched;
        call.arg(guard.map_or_else(String::new, |guard| guard.epoch.to_string()))
            .arg(record.id.to_string())
            .arg(record.revision.saturating_sub(1))
            .arg(&encoded.record)
            .arg(record.revision)
            .arg(record.token)
            .arg(record.state.as_str())
            .arg(u8::from(is_active(record)))
            .arg(u8::from(keeps_lease));
        self.rest(&mut call, &encoded);
        let answer: String = self.script(&call).await?;
        match answer.as_str() {
            "written" => Ok(Update::Written),
            "conflict" => Ok(Update::Conflict),
            "fenced" => Ok(Update::Fenced),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn delete(
        &self,
        record: &JobRecord,
        also: &[Document],
    ) -> Result<bool, StoreError> {
        let mut call = script::DELETE.prepare_invoke();
        call.key(self.keys.job(record.id))
            .key(self.keys.jobs(&record.tenant))
            .key(self.keys.active(record.pool()))
            .key(self.keys.lease(record.id))
            .key(self.keys.leases(record.pool()))
            .key(self.keys.events(record.id));
        self.outbox_keys(&mut call, record.id);
        call.arg(record.id.to_string());
        self.documents(&mut call, &encode_documents(also)?);
        let deleted: u64 = self.script(&call).await?;
        Ok(deleted > 0)
    }

    /// What every change has: events, outbox entries, documents.
    fn rest(&self, call: &mut ScriptInvocation<'_>, encoded: &EncodedChange) {
        call.arg(encoded.events.len()).arg(&encoded.events);
        call.arg(encoded.outbox.len());
        for (id, entry) in &encoded.outbox {
            call.arg(id).arg(entry);
        }
        self.documents(call, &encoded.documents);
    }

    /// The last of a script's keys and arguments: two of each for each document.
    pub(super) fn documents(&self, call: &mut ScriptInvocation<'_>, documents: &[EncodedDocument]) {
        for document in documents {
            for key in self.keys.documents(document.kind, &document.tenant) {
                call.key(key);
            }
            call.arg(&document.key).arg(&document.value);
        }
    }

    fn outbox_keys(&self, call: &mut ScriptInvocation<'_>, id: JobId) {
        for key in self.keys.outbox() {
            call.key(key);
        }
        call.key(self.keys.outbox_of(&id.to_string()));
    }
}

/// Whether the job is queued or holds a lease.
pub(super) fn is_active(record: &JobRecord) -> bool {
    record.state == JobState::Queued || record.state.is_leased()
}
