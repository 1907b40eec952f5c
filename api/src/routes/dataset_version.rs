//! From bytes to a version of a data set: parsed once in full, then bytes and record are stored.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use serde_json::Value;
use stoker_data::{DataError, Header, Limits};
use stoker_domain::dataset::{DataFormat, DatasetRecord, RECORD_VERSION};
use stoker_domain::port::CatalogKind;
use stoker_domain::{ErrorCode, FieldError, object};
use tokio::io::AsyncReadExt;

use super::catalog::{Once, Submitted};
use super::datasets::{TRIES, newest_dataset, next_version, told};
use crate::extract::{Authorized, IdempotencyKey, Make, Spooled};
use crate::problem::ApiError;

/// Bytes sent to object storage at a time.
const PART_BYTES: usize = 8 << 20;
/// Parts in flight.
const PARTS_MAX: usize = 4;

/// What the data set is to be.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) format: DataFormat,
    pub(super) header: Header,
}

impl Wanted {
    /// The request for this data set of those bytes, whichever way they come.
    pub(super) fn once(&self, key: IdempotencyKey, blake3: &str) -> Once {
        let kind = format!("{:?} {:?}", self.format, self.header);
        Once::new(
            key,
            &["dataset", &self.name, &kind, blake3].map(str::as_bytes),
        )
    }
}

/// Makes a data set of bytes, unless the request was answered before; `false` when the newest
/// version is this one.
pub(super) async fn make(
    authorized: &Authorized<Make>,
    once: Once,
    wanted: Wanted,
    spooled: &Spooled,
    source: Option<String>,
) -> Result<(DatasetRecord, bool), ApiError> {
    let tenant = &authorized.caller.tenant;
    if let Some(record) = once.earlier(authorized.app(), tenant).await? {
        return Ok((record, true));
    }
    let mut draft = describe(authorized, wanted, spooled).await?;
    draft.source = source;
    store(authorized, once, draft, spooled).await
}

/// Parses the whole file. The record's version isn't known yet.
async fn describe(
    authorized: &Authorized<Make>,
    wanted: Wanted,
    spooled: &Spooled,
) -> Result<DatasetRecord, ApiError> {
    let Wanted {
        name,
        format,
        header,
    } = wanted;
    let file = spooled.file.reopen().map_err(ApiError::unavailable)?;
    let limits = Limits {
        size_bytes: authorized.config.dataset_max_bytes,
        ..Limits::default()
    };
    let parsing = tokio::task::spawn_blocking(move || {
        stoker_data::describe(Box::new(file), format, header, &limits)
    });
    let described = parsing
        .await
        .map_err(ApiError::internal)?
        .map_err(refused)?;
    Ok(DatasetRecord {
        record_version: RECORD_VERSION,
        name,
        version: 0,
        format,
        header: described.header,
        delimiter: described.delimiter,
        blake3: spooled.blake3.clone(),
        size_bytes: spooled.size_bytes,
        source: None,
        schema: described.schema,
        created_at: authorized.ports.clock.now(),
    })
}

fn refused(error: DataError) -> ApiError {
    match error.code() {
        ErrorCode::InvalidInput => {
            ApiError::invalid(vec![FieldError::new("body", error.to_string())])
        }
        ErrorCode::Internal => ApiError::internal(error),
        code => ApiError::new(code, error.to_string()),
    }
}

/// Stores bytes, then record; `false` when the newest version is this one.
async fn store(
    authorized: &Authorized<Make>,
    once: Once,
    mut record: DatasetRecord,
    spooled: &Spooled,
) -> Result<(DatasetRecord, bool), ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let app = authorized.app();
    let location = Path::from(object::dataset(tenant, &record.blake3));
    // The bytes first: between looking for a version's number and taking it there is no wait.
    put_bytes(&ports.objects, &location, spooled).await?;
    for _ in 0..TRIES {
        let newest = newest_dataset(authorized.app(), tenant, &record.name).await?;
        let same = newest.as_ref().filter(|newest| {
            newest.blake3 == record.blake3
                && newest.format == record.format
                && newest.header == record.header
        });
        if let Some(newest) = same {
            let there = (CatalogKind::Dataset, None);
            return match once.submit(app, tenant, there, newest, &[]).await? {
                Submitted::Earlier(record) => Ok((record, true)),
                Submitted::Written | Submitted::Taken => Ok((newest.clone(), false)),
            };
        }
        record.version = next_version(app, tenant, &record.name, newest.as_ref()).await?;
        let key = format!("{}@{}", record.name, record.version);
        let new = (CatalogKind::Dataset, Some(key.as_str()));
        let target = format!("data set {key}");
        let audit = authorized.audit("create_dataset", target, Value::Null, told(&record));
        match once
            .clone()
            .submit(app, tenant, new, &record, &[audit])
            .await?
        {
            Submitted::Written => {
                // The last other version with these bytes may have been deleted in between.
                if !has_size(&ports.objects, &location, spooled.size_bytes).await? {
                    put_bytes(&ports.objects, &location, spooled).await?;
                }
                return Ok((record, true));
            }
            Submitted::Earlier(record) => return Ok((record, true)),
            Submitted::Taken => {}
        }
    }
    let cause = format!("{TRIES} versions of {} were taken by others", record.name);
    Err(ApiError::unavailable(cause))
}

async fn has_size(
    objects: &Arc<dyn ObjectStore>,
    location: &Path,
    size_bytes: u64,
) -> Result<bool, ApiError> {
    match objects.head(location).await {
        Ok(meta) => Ok(meta.size == size_bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the bytes are where their hash says. They are read: a damaged object is found out, and
/// uploading the same bytes mends it.
async fn is_whole(
    objects: &Arc<dyn ObjectStore>,
    location: &Path,
    spooled: &Spooled,
) -> Result<bool, ApiError> {
    if !has_size(objects, location, spooled.size_bytes).await? {
        return Ok(false);
    }
    let mut bytes = match objects.get(location).await {
        Ok(found) => found.into_stream(),
        Err(object_store::Error::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = bytes.try_next().await? {
        hasher.update(&chunk);
    }
    Ok(hasher.finalize().to_hex().as_str() == spooled.blake3)
}

/// Puts the bytes where their hash says, unless they are there.
async fn put_bytes(
    objects: &Arc<dyn ObjectStore>,
    location: &Path,
    spooled: &Spooled,
) -> Result<(), ApiError> {
    if is_whole(objects, location, spooled).await? {
        return Ok(());
    }
    let file = spooled.file.reopen().map_err(ApiError::unavailable)?;
    let mut file = tokio::fs::File::from_std(file);
    if spooled.size_bytes <= PART_BYTES as u64 {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .await
            .map_err(ApiError::unavailable)?;
        objects.put(location, PutPayload::from(bytes)).await?;
        return Ok(());
    }
    let upload = objects.put_multipart(location).await?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file
            .read(&mut buffer)
            .await
            .map_err(ApiError::unavailable)?;
        if count == 0 {
            break;
        }
        parts.wait_for_capacity(PARTS_MAX).await?;
        parts.write(&buffer[..count]);
    }
    parts.finish().await?;
    Ok(())
}
