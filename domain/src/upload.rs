//! Uploads in parts: what is kept of one until a data set is made of it.

use serde::{Deserialize, Serialize};

use crate::id::UploadId;
use crate::time::Timestamp;
use crate::view::UploadView;

/// Version tag of stored upload records.
pub const RECORD_VERSION: u16 = 1;

/// An upload, as stored. Its parts are objects beside it; how far it is follows from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// Its id.
    pub id: UploadId,
    /// Length of the whole.
    pub size_bytes: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends, whatever has come by then.
    pub expires_at: Timestamp,
    /// What became of it; absent until a data set was made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// The data set that an upload became. Its parts are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// `name@version`.
    pub dataset: String,
    /// BLAKE3 of the whole.
    pub blake3: String,
}

impl UploadRecord {
    /// Its owner's view, `offset` bytes into it.
    #[must_use]
    pub fn view(&self, offset: u64, part_max_bytes: u64) -> UploadView {
        UploadView {
            id: self.id,
            size_bytes: self.size_bytes,
            offset,
            part_max_bytes,
            expires_at: self.expires_at,
            dataset: self.made.as_ref().map(|made| made.dataset.clone()),
        }
    }
}
