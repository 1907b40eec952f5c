//! Where things lie in object storage. Keys hold no user's text but names that were checked.

use crate::id::{JobId, TenantId, UploadId};

/// What keys of jobs' objects begin with.
pub const JOBS: &str = "jobs";
/// What keys of data sets begin with.
pub const DATASETS: &str = "datasets";
/// What keys of plugins begin with.
pub const PLUGINS: &str = "plugins";
/// What keys of uploads begin with.
pub const UPLOADS: &str = "uploads";
/// What keys of objects begin with that are about to be removed; their own key follows.
pub const GARBAGE: &str = "garbage";

/// A data set's bytes, by their BLAKE3.
#[must_use]
pub fn dataset(tenant: &TenantId, blake3: &str) -> String {
    format!("{DATASETS}/{tenant}/{blake3}")
}

/// All uploads of a tenant, each under its id.
#[must_use]
pub fn uploads(tenant: &TenantId) -> String {
    format!("{UPLOADS}/{tenant}")
}

/// An upload's record, a [`crate::upload::UploadRecord`].
#[must_use]
pub fn upload(tenant: &TenantId, id: UploadId) -> String {
    format!("{UPLOADS}/{tenant}/{id}/upload.json")
}

/// The parts of an upload.
#[must_use]
pub fn upload_parts(tenant: &TenantId, id: UploadId) -> String {
    format!("{UPLOADS}/{tenant}/{id}/parts")
}

/// The part of an upload that begins at `offset`: one name for each offset, so that of two clients
/// who write there one comes first. Parts sort by offset.
#[must_use]
pub fn upload_part(tenant: &TenantId, id: UploadId, offset: u64) -> String {
    format!("{UPLOADS}/{tenant}/{id}/parts/{offset:020}")
}

/// A plugin's module as it was uploaded, by its BLAKE3.
#[must_use]
pub fn plugin_module(tenant: &TenantId, blake3: &str) -> String {
    format!("{PLUGINS}/{tenant}/{blake3}.wasm")
}

/// A plugin's native code for one engine build and CPU.
#[must_use]
pub fn plugin_artifact(tenant: &TenantId, blake3: &str, engine_hash: &str) -> String {
    format!("{PLUGINS}/{tenant}/{blake3}.{engine_hash}.native")
}

/// Everything of a job.
#[must_use]
pub fn job(id: JobId) -> String {
    format!("{JOBS}/{id}")
}

/// Everything of the attempt with `token`. What no commit in the store names is garbage.
#[must_use]
pub fn attempt(id: JobId, token: u64) -> String {
    format!("{JOBS}/{id}/{token}")
}

/// A checkpoint.
#[must_use]
pub fn checkpoint(id: JobId, token: u64, step: u64) -> String {
    format!("{JOBS}/{id}/{token}/checkpoint-{step}.safetensors")
}

/// A file that the job produced.
#[must_use]
pub fn artifact(id: JobId, token: u64, name: &str) -> String {
    format!("{JOBS}/{id}/{token}/artifacts/{name}")
}

/// The list of an attempt's artifacts; its BLAKE3 is what the commit names.
#[must_use]
pub fn manifest(id: JobId, token: u64) -> String {
    format!("{JOBS}/{id}/{token}/manifest.json")
}

/// A chunk of an attempt's log: JSON lines of [`crate::view::LogLine`]. Chunks sort by name.
#[must_use]
pub fn log_chunk(id: JobId, token: u64, chunk: u64) -> String {
    format!("{JOBS}/{id}/{token}/logs/{chunk:08}.jsonl")
}

/// All files of a job's metric points.
#[must_use]
pub fn points(id: JobId) -> String {
    format!("{JOBS}/{id}/points")
}

/// The files of one metric's points: each holds some of them, and any of them may be in several.
/// What a name of a metric has beside letters, digits and `.-_@` is written as `=` and two
/// hexadecimal digits for each byte.
#[must_use]
pub fn metric_points(id: JobId, metric: &str) -> String {
    let mut name = String::with_capacity(metric.len());
    for byte in metric.bytes() {
        match byte {
            b'.' | b'-' | b'_' | b'@' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("={byte:02x}")),
        }
    }
    // A part of a key may not be of dots alone.
    if name.bytes().all(|byte| byte == b'.') {
        name = name.replace('.', "=2e");
    }
    format!("{JOBS}/{id}/points/{name}")
}

/// The name of a metric from the part of a key that [`metric_points`] made of it.
#[must_use]
pub fn metric_of(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('=') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_known_by_its_key() {
        let id = JobId::generate();
        for metric in ["train.loss", "a/b", "..", "=", "grün @ 5 %", "x=2e"] {
            let key = metric_points(id, metric);
            let part = key.rsplit('/').next();
            assert_eq!(part.and_then(metric_of).as_deref(), Some(metric), "{key}");
        }
        for part in ["=", "=2", "=zz", "=ff"] {
            assert_eq!(metric_of(part), None, "{part}");
        }
    }
}
