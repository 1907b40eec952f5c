//! Uploads in parts: what has arrived stays, so that a broken one goes on where it was, in this
//! process or another.

use reqwest::Url;
use serde::de::DeserializeOwned;
use stoker_domain::view::{UploadList, UploadView};
use stoker_domain::{ErrorCode, Timestamp, UploadId};

use crate::backoff::{Backoff, Failed};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::page;
use crate::send::{CONTENT_BLAKE3, Call, UPLOAD_OFFSET};
use crate::upload::{Prepared, Progress, Upload};

/// An upload in parts that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its id on the server.
    pub id: UploadId,
    /// The key of the request that makes something of it.
    pub key: IdempotencyKey,
    /// That request's path and query.
    pub request: String,
    /// BLAKE3 of the whole, as lower-case hex.
    pub blake3: String,
    /// Length of the whole.
    pub size_bytes: u64,
    /// When the server drops it.
    pub expires_at: Timestamp,
}

/// Remembers one upload in parts across processes. What it can't keep is only sent again.
pub trait UploadMemory: Send + Sync {
    /// What was kept last.
    fn recall(&self) -> Option<Begun>;
    /// Keeps it, in place of what was kept before.
    fn keep(&self, begun: &Begun);
    /// Keeps nothing any more.
    fn forget(&self);
    /// Told when an upload goes on, and from where.
    fn resumed(&self, from: Progress);
}

impl Client {
    /// Starts an upload in parts of `size_bytes` bytes.
    ///
    /// # Errors
    /// When the call fails; `too_large` when no data set may be as large, `conflict` when too many
    /// uploads are open.
    pub async fn create_upload(&self, size_bytes: u64, key: &IdempotencyKey) -> Result<UploadView> {
        let mut url = self.url(&["v1", "uploads"]);
        page::set_query(&mut url, [("size_bytes", Some(size_bytes.to_string()))]);
        self.fetch(&Call::post(url, key)).await
    }

    /// The uploads in parts that nothing was made of yet, the one that ends first in front.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_uploads(&self) -> Result<UploadList> {
        self.fetch(&Call::get(self.url(&["v1", "uploads"]))).await
    }

    /// How far an upload in parts is.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such upload, or none any more.
    pub async fn get_upload(&self, id: UploadId) -> Result<UploadView> {
        self.fetch(&Call::get(self.upload_url(id))).await
    }

    /// Appends bytes to an upload in parts, at its offset; tried once.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the upload is at another offset.
    pub async fn append_upload(
        &self,
        id: UploadId,
        offset: u64,
        part: &Upload,
    ) -> Result<UploadView> {
        let part = part.prepare().await?;
        self.try_append(id, offset, &part)
            .await
            .map_err(|failed| failed.error)
    }

    /// Removes an upload in parts. A data set that was made of it stays.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_upload(&self, id: UploadId) -> Result<()> {
        let call = Call::delete(self.upload_url(id));
        self.fetch_bytes(&call).await.map(drop)
    }

    fn upload_url(&self, id: UploadId) -> Url {
        self.url(&["v1", "uploads", &id.to_string()])
    }

    async fn try_append(
        &self,
        id: UploadId,
        offset: u64,
        part: &Prepared,
    ) -> Result<UploadView, Failed> {
        let call = Call::patch(self.upload_url(id))
            .header(UPLOAD_OFFSET, offset.to_string())
            .upload(part);
        let bytes = self.try_fetch(&call).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Decode(error.to_string()).into())
    }

    /// Uploads in parts, or goes on with what is remembered, and posts to `url` what to make of it.
    pub(crate) async fn create_of_parts<T: DeserializeOwned>(
        &self,
        url: Url,
        prepared: &Prepared,
    ) -> Result<T> {
        let request = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        if let Some((begun, view)) = self.begun_before(prepared, &request).await? {
            match self.finish(&url, prepared, &begun, view).await {
                // It ended, or was used by somebody else, in between.
                Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Conflict) => {
                }
                outcome => return outcome,
            }
        }
        let upload = &prepared.upload;
        let fresh = IdempotencyKey::generate();
        let view = self.create_upload(prepared.size_bytes, &fresh).await?;
        let begun = Begun {
            id: view.id,
            key: upload.key().clone(),
            request,
            blake3: prepared.blake3.clone(),
            size_bytes: prepared.size_bytes,
            expires_at: view.expires_at,
        };
        if let Some(memory) = upload.memory() {
            memory.keep(&begun);
        }
        self.finish(&url, prepared, &begun, view).await
    }

    /// The remembered upload of these bytes, if it can go on.
    async fn begun_before(
        &self,
        prepared: &Prepared,
        request: &str,
    ) -> Result<Option<(Begun, UploadView)>> {
        let upload = &prepared.upload;
        let Some((memory, mut begun)) = upload.memory().and_then(|m| Some((m, m.recall()?))) else {
            return Ok(None);
        };
        let is_same = begun.blake3 == prepared.blake3 && begun.size_bytes == prepared.size_bytes;
        if !is_same {
            // The file has changed: what was sent of it is of no use. The server would drop it later.
            let _ = self.delete_upload(begun.id).await;
            return Ok(None);
        }
        let view = match self.get_upload(begun.id).await {
            Ok(view) => view,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_repeat = begun.request == request;
        if view.dataset.is_some() && !is_repeat {
            return Ok(None);
        }
        if upload.key_was_given() || !is_repeat {
            begun.key = upload.key().clone();
            begun.request = request.to_owned();
            memory.keep(&begun);
        }
        if view.offset > 0 {
            memory.resumed(Progress {
                bytes: view.offset,
                total_bytes: view.size_bytes,
            });
        }
        Ok(Some((begun, view)))
    }

    /// Sends what is missing, then the request that uses the upload.
    async fn finish<T: DeserializeOwned>(
        &self,
        url: &Url,
        prepared: &Prepared,
        begun: &Begun,
        view: UploadView,
    ) -> Result<T> {
        self.send_parts(prepared, view).await?;
        let mut url = url.clone();
        url.query_pairs_mut()
            .append_pair("upload", &begun.id.to_string());
        let call = Call::post(url, &begun.key)
            .header(CONTENT_BLAKE3, prepared.blake3.clone())
            .slow();
        let outcome = self.fetch(&call).await;
        match (&outcome, prepared.upload.memory()) {
            (Ok(_), Some(memory)) => memory.forget(),
            // Nobody will come back for it. The server would drop it later.
            (Err(error), None) if !error.retryable() => {
                let _ = self.delete_upload(begun.id).await;
            }
            // What was refused may be asked for otherwise, without sending it again.
            _ => {}
        }
        outcome
    }

    async fn send_parts(&self, prepared: &Prepared, view: UploadView) -> Result<()> {
        let (id, max) = (view.id, view.part_max_bytes.max(1));
        let mut offset = view.offset;
        let mut backoff = Backoff::new(self.retries());
        prepared.show(offset);
        while offset < prepared.size_bytes {
            let part = prepared.part(offset, max).await?;
            match self.try_append(id, offset, &part).await {
                Ok(view) => {
                    offset = view.offset;
                    backoff.reset();
                }
                // An earlier try arrived after all, or somebody else sends the same.
                Err(failed) if failed.error.code() == ErrorCode::Conflict => {
                    let there = self.get_upload(id).await?.offset;
                    if there == offset {
                        return Err(failed.error);
                    }
                    offset = there;
                }
                Err(failed) => {
                    let there = self.offset_after(id, failed, &mut backoff).await?;
                    if there > offset {
                        backoff.reset();
                    }
                    offset = there;
                }
            }
            prepared.show(offset);
        }
        Ok(())
    }

    /// Where to go on after a try that failed.
    async fn offset_after(
        &self,
        id: UploadId,
        mut failed: Failed,
        backoff: &mut Backoff,
    ) -> Result<u64> {
        loop {
            backoff.pause(failed).await?;
            match self.get_upload(id).await {
                Ok(view) => return Ok(view.offset),
                Err(error) => failed = error.into(),
            }
        }
    }
}
