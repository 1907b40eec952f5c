//! What data sets and plugins have in common: versions in the catalog, and who uses them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use stoker_domain::port::{
    CatalogKind, Creation, Document, Entry, Idempotency, JobFilter, Submission,
};
use stoker_domain::{ErrorCode, JobRecord, JobState, TenantId};

use crate::app::App;
use crate::extract::IdempotencyKey;
use crate::problem::ApiError;

/// Entries read from the catalog at a time.
const BATCH: usize = 500;
/// Most entries of one kind that are looked through.
const ENTRIES_MAX: usize = 100_000;

/// All records whose key begins with `prefix`.
pub(super) async fn all<T: DeserializeOwned>(
    app: &App,
    kind: CatalogKind,
    tenant: &TenantId,
    prefix: &str,
) -> Result<Vec<T>, ApiError> {
    let mut records = Vec::new();
    let mut after: Option<String> = None;
    while records.len() < ENTRIES_MAX {
        let batch = (app.ports.catalog)
            .list(kind, tenant, prefix, after.as_deref(), BATCH)
            .await?;
        let is_last = batch.len() < BATCH;
        after = batch.last().map(|entry| entry.key.clone());
        for entry in batch {
            records.push(record(entry)?);
        }
        if is_last {
            break;
        }
    }
    Ok(records)
}

/// The record with that key.
pub(super) async fn get<T: DeserializeOwned>(
    app: &App,
    kind: CatalogKind,
    tenant: &TenantId,
    key: &str,
) -> Result<Option<T>, ApiError> {
    let entry = app.ports.catalog.get(kind, tenant, key).await?;
    entry.map(record).transpose()
}

/// A page of records, and the key to go on from.
pub(super) async fn page<T: DeserializeOwned>(
    app: &App,
    kind: CatalogKind,
    tenant: &TenantId,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let mut entries = (app.ports.catalog)
        .list(kind, tenant, "", after, limit + 1)
        .await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|e| e.key.clone());
    let records = entries.into_iter().map(record).collect::<Result<_, _>>()?;
    Ok((records, next))
}

fn record<T: DeserializeOwned>(entry: Entry) -> Result<T, ApiError> {
    serde_json::from_value(entry.value)
        .map_err(|error| ApiError::internal(format_args!("catalog entry {}: {error}", entry.key)))
}

/// Refuses when a job of the tenant that hasn't ended uses the thing.
pub(super) async fn refuse_while_used(
    app: &App,
    tenant: &TenantId,
    what: &str,
    uses: impl Fn(&JobRecord) -> bool,
) -> Result<(), ApiError> {
    for state in JobState::ALL.into_iter().filter(|state| !state.is_final()) {
        let filter = JobFilter {
            state: Some(state),
            ..JobFilter::default()
        };
        let mut after = None;
        loop {
            let page = (app.ports.jobs)
                .list_jobs(tenant, &filter, after, BATCH)
                .await?;
            if let Some(job) = page.jobs.iter().find(|job| uses(job)) {
                let detail = format!("{what} is used by {}, which hasn't ended", job.id);
                return Err(ApiError::new(ErrorCode::Conflict, detail));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// A request that is done once, whatever its repeats.
#[derive(Clone)]
pub(super) struct Once {
    key: String,
    request_blake3: String,
}

/// What became of a submitted record.
pub(super) enum Submitted<T> {
    /// It is written.
    Written,
    /// Another has its key.
    Taken,
    /// The request was answered before, with this record.
    Earlier(T),
}

impl Once {
    /// `parts` are what makes the request what it is.
    pub(super) fn new(key: IdempotencyKey, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self {
            key: key.0,
            request_blake3: hasher.finalize().to_hex().to_string(),
        }
    }

    /// What the request was answered before.
    pub(super) async fn earlier<T: DeserializeOwned>(
        &self,
        app: &App,
        tenant: &TenantId,
    ) -> Result<Option<T>, ApiError> {
        let jobs = &app.ports.jobs;
        match jobs
            .replayed(tenant, &self.key, &self.request_blake3)
            .await?
        {
            None => Ok(None),
            Some(Creation::Replayed { answer }) => read(&answer).map(Some),
            Some(_) => Err(other_request()),
        }
    }

    /// Keeps `record` as the answer, and writes it under `key`, with the documents that tell of it;
    /// without a key it is there already.
    pub(super) async fn submit<T: Serialize + DeserializeOwned>(
        self,
        app: &App,
        tenant: &TenantId,
        (kind, key): (CatalogKind, Option<&str>),
        record: &T,
        also: &[Document],
    ) -> Result<Submitted<T>, ApiError> {
        let value = serde_json::to_value(record).map_err(ApiError::internal)?;
        let idempotency = Idempotency {
            key: self.key,
            body_blake3: self.request_blake3,
            answer: value.to_string(),
        };
        let document = key.map(|key| (key, &value));
        let submission = (app.ports.catalog).submit(kind, tenant, document, &idempotency, also);
        match submission.await? {
            Submission::Written => Ok(Submitted::Written),
            Submission::Conflict => Ok(Submitted::Taken),
            Submission::Replayed { answer } => read(&answer).map(Submitted::Earlier),
            Submission::Mismatch => Err(other_request()),
        }
    }
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<T, ApiError> {
    serde_json::from_str(answer).map_err(ApiError::internal)
}

fn other_request() -> ApiError {
    let detail =
        "this Idempotency-Key came before with another request: take a new key for a new one";
    ApiError::new(ErrorCode::IdempotencyMismatch, detail)
}
