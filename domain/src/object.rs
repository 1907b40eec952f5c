//! Where things lie in object storage. Keys hold no user's text but names that were checked.

use crate::id::{JobId, TenantId, UploadId};

/// A data set's bytes, by their BLAKE3.
#[must_use]
pub fn dataset(tenant: &TenantId, blake3: &str) -> String {
    format!("datasets/{tenant}/{blake3}")
}

/// All uploads of a tenant, each under its id.
#[must_use]
pub fn uploads(tenant: &TenantId) -> String {
    format!("uploads/{tenant}")
}

/// An upload's record, a [`crate::upload::UploadRecord`].
#[must_use]
pub fn upload(tenant: &TenantId, id: UploadId) -> String {
    format!("uploads/{tenant}/{id}/upload.json")
}

/// The parts of an upload.
#[must_use]
pub fn upload_parts(tenant: &TenantId, id: UploadId) -> String {
    format!("uploads/{tenant}/{id}/parts")
}

/// The part of an upload that begins at `offset`: one name for each offset, so that of two clients
/// who write there one comes first. Parts sort by offset.
#[must_use]
pub fn upload_part(tenant: &TenantId, id: UploadId, offset: u64) -> String {
    format!("uploads/{tenant}/{id}/parts/{offset:020}")
}

/// A plugin's module as it was uploaded, by its BLAKE3.
#[must_use]
pub fn plugin_module(tenant: &TenantId, blake3: &str) -> String {
    format!("plugins/{tenant}/{blake3}.wasm")
}

/// A plugin's native code for one engine build and CPU.
#[must_use]
pub fn plugin_artifact(tenant: &TenantId, blake3: &str, engine_hash: &str) -> String {
    format!("plugins/{tenant}/{blake3}.{engine_hash}.native")
}

/// Everything of a job.
#[must_use]
pub fn job(id: JobId) -> String {
    format!("jobs/{id}")
}

/// Everything of the attempt with `token`. What no commit in the store names is garbage.
#[must_use]
pub fn attempt(id: JobId, token: u64) -> String {
    format!("jobs/{id}/{token}")
}

/// A checkpoint.
#[must_use]
pub fn checkpoint(id: JobId, token: u64, step: u64) -> String {
    format!("jobs/{id}/{token}/checkpoint-{step}.safetensors")
}

/// A file that the job produced.
#[must_use]
pub fn artifact(id: JobId, token: u64, name: &str) -> String {
    format!("jobs/{id}/{token}/artifacts/{name}")
}

/// The list of an attempt's artifacts; its BLAKE3 is what the commit names.
#[must_use]
pub fn manifest(id: JobId, token: u64) -> String {
    format!("jobs/{id}/{token}/manifest.json")
}

/// A chunk of an attempt's log: JSON lines of [`crate::view::LogLine`]. Chunks sort by name.
#[must_use]
pub fn log_chunk(id: JobId, token: u64, chunk: u64) -> String {
    format!("jobs/{id}/{token}/logs/{chunk:08}.jsonl")
}
