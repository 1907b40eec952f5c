//! Where uploads in parts are kept: a record and parts as objects under their tenant. Nothing of one
//! is in a process, so that any process goes on with it, and none has to be asked.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use stoker_domain::upload::{Made, UploadRecord};
use stoker_domain::view::UploadView;
use stoker_domain::{ErrorCode, TenantId, Timestamp, UploadId, object};

use crate::config::UploadsConfig;
use crate::extract::{Authorized, OFFSET_HEADER, Spool, Spooled};
use crate::problem::ApiError;

/// The uploads of one tenant, at one time.
pub(super) struct UploadStore<'a> {
    objects: &'a Arc<dyn ObjectStore>,
    tenant: &'a TenantId,
    config: &'a UploadsConfig,
    now: Timestamp,
}

/// What has come of an upload without a gap.
pub(super) struct Reach {
    /// Each part's offset and length.
    parts: Vec<(u64, u64)>,
    /// Where the next part begins.
    pub(super) offset: u64,
}

impl<'a> UploadStore<'a> {
    pub(super) fn of<P>(authorized: &'a Authorized<P>) -> Self {
        Self {
            objects: &authorized.ports.objects,
            tenant: &authorized.caller.tenant,
            config: &authorized.config.uploads,
            now: authorized.ports.clock.now(),
        }
    }

    /// The upload of that id.
    pub(super) async fn find(&self, id: UploadId) -> Result<UploadRecord, ApiError> {
        let record = self.read(id).await?;
        let record = record.ok_or_else(|| ApiError::not_found(format_args!("upload `{id}`")))?;
        if record.expires_at <= self.now {
            let what = format!(
                "upload `{id}` any more: it expired at {}; start a new one",
                record.expires_at
            );
            return Err(ApiError::not_found(what));
        }
        Ok(record)
    }

    async fn read(&self, id: UploadId) -> Result<Option<UploadRecord>, ApiError> {
        let found = match self.objects.get(&self.record_path(id)).await {
            Ok(found) => found.bytes().await?,
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&found)
            .map(Some)
            .map_err(|error| ApiError::internal(format_args!("{id}: {error}")))
    }

    /// Keeps a record, in place of an older one.
    pub(super) async fn write(&self, record: &UploadRecord) -> Result<(), ApiError> {
        let json = serde_json::to_vec(record).map_err(ApiError::internal)?;
        let path = self.record_path(record.id);
        self.objects.put(&path, PutPayload::from(json)).await?;
        Ok(())
    }

    fn record_path(&self, id: UploadId) -> Path {
        Path::from(object::upload(self.tenant, id))
    }

    /// How far an upload is.
    pub(super) async fn reach(&self, record: &UploadRecord) -> Result<Reach, ApiError> {
        if record.made.is_some() {
            return Ok(Reach {
                parts: Vec::new(),
                offset: record.size_bytes,
            });
        }
        let prefix = Path::from(object::upload_parts(self.tenant, record.id));
        let mut listed = self.objects.list(Some(&prefix));
        let mut parts = Vec::new();
        while let Some(part) = listed.try_next().await? {
            let offset = part.location.filename().and_then(|name| name.parse().ok());
            parts.extend(offset.map(|offset: u64| (offset, part.size)));
        }
        parts.sort_unstable();
        let mut reach = Reach {
            parts: Vec::with_capacity(parts.len()),
            offset: 0,
        };
        for (offset, length) in parts {
            if offset == reach.offset {
                reach.parts.push((offset, length));
                reach.offset += length;
            }
        }
        Ok(reach)
    }

    /// The upload as its owner sees it.
    pub(super) fn view(&self, record: &UploadRecord, offset: u64) -> UploadView {
        record.view(offset, self.config.part_max_bytes)
    }

    /// Refuses a part that doesn't begin where the upload ends so far.
    pub(super) fn check_offset(
        &self,
        record: &UploadRecord,
        reach: &Reach,
        given: u64,
    ) -> Result<(), ApiError> {
        let id = record.id;
        if let Some(made) = &record.made {
            return Err(already(id, made));
        }
        if given != reach.offset {
            let message = format!("upload `{id}` is at {}, {given} was given", reach.offset);
            return Err(ApiError::conflict_field(OFFSET_HEADER, message));
        }
        if reach.offset >= record.size_bytes {
            let message = format!("upload `{id}` has all of its {given} bytes");
            return Err(ApiError::conflict_field(OFFSET_HEADER, message));
        }
        if reach.parts.len() >= self.config.parts_max {
            let message = format!(
                "upload `{id}` has {} parts, no more are allowed; start a new one with larger parts, up to {} bytes",
                reach.parts.len(),
                self.config.part_max_bytes
            );
            return Err(ApiError::invalid_field("body", message));
        }
        Ok(())
    }

    /// Keeps a part; how far the upload is then. Of two who write at one offset the first one wins.
    pub(super) async fn append(
        &self,
        record: &UploadRecord,
        offset: u64,
        part: Vec<u8>,
    ) -> Result<u64, ApiError> {
        let length = part.len() as u64;
        let rest = record.size_bytes - offset;
        if length == 0 || length > rest {
            let message = format!("{length} bytes came at {offset}; 1 to {rest} are left to come");
            return Err(ApiError::invalid_field("body", message));
        }
        let path = Path::from(object::upload_part(self.tenant, record.id, offset));
        let payload = PutPayload::from(Bytes::from(part));
        match self
            .objects
            .put_opts(&path, payload, PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(offset + length),
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => {
                let reach = self.reach(record).await?.offset;
                let message = format!(
                    "upload `{}` is at {reach}, {offset} was given: another part came first",
                    record.id
                );
                Err(ApiError::conflict_field(OFFSET_HEADER, message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The whole of an upload, in a file.
    pub(super) async fn assemble(
        &self,
        record: &UploadRecord,
        mut spool: Spool,
    ) -> Result<Spooled, ApiError> {
        let reach = self.reach(record).await?;
        if reach.offset != record.size_bytes {
            let detail = format!(
                "upload `{}` has {} of its {} bytes: send the rest first",
                record.id, reach.offset, record.size_bytes
            );
            return Err(ApiError::new(ErrorCode::Conflict, detail));
        }
        for (offset, _) in reach.parts {
            let path = Path::from(object::upload_part(self.tenant, record.id, offset));
            let mut bytes = self.objects.get(&path).await?.into_stream();
            while let Some(chunk) = bytes.next().await {
                spool.write(&chunk?).await?;
            }
        }
        let spooled = spool.finish().await?;
        if spooled.size_bytes == record.size_bytes {
            return Ok(spooled);
        }
        let (id, came) = (record.id, spooled.size_bytes);
        Err(ApiError::unavailable(format_args!(
            "{id} had {came} bytes when it was read, not {}",
            record.size_bytes
        )))
    }

    /// Notes what an upload became, and removes its parts. What fails here the sweep does later.
    pub(super) async fn settle(&self, mut record: UploadRecord, made: Made) {
        record.made = Some(made);
        let settled = async {
            self.write(&record).await?;
            self.remove_parts(record.id).await
        };
        if let Err(error) = settled.await {
            tracing::warn!(upload.id = %record.id, error = %error, "an upload's parts are left");
        }
    }

    /// Removes an upload: parts, the last one first so that what is left has no gap, then the record.
    pub(super) async fn remove(&self, id: UploadId) -> Result<(), ApiError> {
        self.remove_parts(id).await?;
        self.delete(&self.record_path(id)).await
    }

    async fn remove_parts(&self, id: UploadId) -> Result<(), ApiError> {
        let prefix = Path::from(object::upload_parts(self.tenant, id));
        let listed = self.objects.list(Some(&prefix));
        let mut parts: Vec<Path> = listed.map_ok(|part| part.location).try_collect().await?;
        parts.sort_unstable();
        for part in parts.iter().rev() {
            self.delete(part).await?;
        }
        Ok(())
    }

    async fn delete(&self, path: &Path) -> Result<(), ApiError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The tenant's uploads that nothing was made of yet, the one that ends first in front. What has
    /// expired is removed.
    pub(super) async fn open(&self) -> Result<Vec<UploadRecord>, ApiError> {
        let mut open = Vec::new();
        for id in self.ids().await? {
            match self.read(id).await? {
                Some(record) if record.expires_at <= self.now => self.remove(id).await?,
                Some(record) if record.made.is_none() => open.push(record),
                Some(_) => {}
                // Parts that came while their upload was removed.
                None if id.created_at().plus_millis(self.config.life.0) <= self.now => {
                    self.remove(id).await?;
                }
                None => {}
            }
        }
        open.sort_by_key(|record| (record.expires_at, record.id));
        Ok(open)
    }

    async fn ids(&self) -> Result<Vec<UploadId>, ApiError> {
        let prefix = Path::from(object::uploads(self.tenant));
        let listed = self.objects.list_with_delimiter(Some(&prefix)).await?;
        let names = listed.common_prefixes.iter().filter_map(Path::filename);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes what has expired, and refuses when too many uploads are open.
    pub(super) async fn make_room(&self) -> Result<(), ApiError> {
        let open = self.open().await?;
        let max = self.config.open_max;
        match open.first() {
            Some(first) if open.len() >= max => {
                let detail = format!(
                    "{} uploads are open, {max} are allowed for a tenant: finish or delete one (`stoker upload list`); the oldest is `{}`, which expires at {}",
                    open.len(),
                    first.id,
                    first.expires_at
                );
                Err(ApiError::new(ErrorCode::Conflict, detail))
            }
            _ => Ok(()),
        }
    }
}

/// An upload that was used already.
pub(super) fn already(id: UploadId, made: &Made) -> ApiError {
    let detail = format!(
        "upload `{id}` has become `{}` already: start a new one",
        made.dataset
    );
    ApiError::new(ErrorCode::Conflict, detail)
}
