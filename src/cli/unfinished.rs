//! Uploads that were begun and not ended: a file each in the data dir, so that the same command goes
//! on where the last one was stopped.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stoker_domain::{Clock, Timestamp, UploadId};
use stoker_infra::SystemClock;
use stoker_sdk::{Begun, Progress, UploadMemory};

use super::context::{read_toml, write_toml};
use super::{Output, Session};

/// Version tag of these files.
const VERSION: u16 = 1;

/// A begun upload, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u16,
    server: String,
    /// The file or folder, for people.
    path: PathBuf,
    id: UploadId,
    idempotency_key: String,
    request: String,
    blake3: String,
    size_bytes: u64,
    expires_at: Timestamp,
}

/// Where the upload of one file to one server is remembered.
pub(super) struct Unfinished {
    file: PathBuf,
    server: String,
    path: PathBuf,
    output: Output,
}

impl Unfinished {
    /// The memory for that file or folder; none when there is no place for it.
    pub(super) fn of(path: &Path, session: &Session) -> Option<Self> {
        let dir = session.uploads_dir.as_ref()?;
        let path = fs::canonicalize(path).ok()?;
        let server = session.client.server().to_owned();
        let mut hasher = blake3::Hasher::new();
        hasher.update(server.as_bytes()).update(&[0]);
        hasher.update(path.as_os_str().as_encoded_bytes());
        let name: String = hasher.finalize().to_hex().chars().take(32).collect();
        sweep(dir, SystemClock::new().now());
        Some(Self {
            file: dir.join(format!("{name}.toml")),
            server,
            path,
            output: session.output.clone(),
        })
    }
}

/// Removes what the servers have dropped by now.
fn sweep(dir: &Path, now: Timestamp) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        if matches!(read_toml::<Kept>(&path), Ok(Some(kept)) if kept.expires_at <= now) {
            // Best effort: it would be passed over anyway.
            let _ = fs::remove_file(path);
        }
    }
}

impl UploadMemory for Unfinished {
    fn recall(&self) -> Option<Begun> {
        // A file that can't be read is as good as none: the upload begins anew.
        let kept: Kept = read_toml(&self.file).ok()??;
        let is_ours = kept.version == VERSION && kept.server == self.server;
        let key = kept.idempotency_key.parse().ok().filter(|_| is_ours)?;
        Some(Begun {
            id: kept.id,
            key,
            request: kept.request,
            blake3: kept.blake3,
            size_bytes: kept.size_bytes,
            expires_at: kept.expires_at,
        })
    }

    fn keep(&self, begun: &Begun) {
        let kept = Kept {
            version: VERSION,
            server: self.server.clone(),
            path: self.path.clone(),
            id: begun.id,
            idempotency_key: begun.key.to_string(),
            request: begun.request.clone(),
            blake3: begun.blake3.clone(),
            size_bytes: begun.size_bytes,
            expires_at: begun.expires_at,
        };
        if let Err(error) = write_toml(&self.file, &kept) {
            self.output.note(&format!(
                "{}: {error}; if this is stopped, the upload begins anew",
                self.file.display()
            ));
        }
    }

    fn forget(&self) {
        // A file that is left is found out by the server's answer.
        let _ = fs::remove_file(&self.file);
    }

    fn resumed(&self, from: Progress) {
        let percent = from.bytes.saturating_mul(100) / from.total_bytes.max(1);
        self.output.note(&format!("resuming at {percent} %"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn memory(dir: &Path) -> Unfinished {
        Unfinished {
            file: dir.join("uploads/one.toml"),
            server: "http://localhost/".to_owned(),
            path: "a.csv".into(),
            output: Output::new(&Environment::default()),
        }
    }

    #[test]
    fn what_was_begun_is_remembered_until_it_ended_or_expired() {
        let dir = tempfile::tempdir().unwrap();
        let begun = Begun {
            id: UploadId::generate(),
            key: "a-key".parse().unwrap(),
            request: "/v1/datasets?name=a".to_owned(),
            blake3: "ab".repeat(32),
            size_bytes: 5,
            expires_at: Timestamp::from_millis(1_000),
        };
        let memory = memory(dir.path());
        assert_eq!(memory.recall(), None);
        memory.keep(&begun);
        assert_eq!(memory.recall(), Some(begun.clone()));
        let other = Unfinished {
            server: "http://elsewhere/".to_owned(),
            ..self::memory(dir.path())
        };
        assert_eq!(other.recall(), None);
        memory.forget();
        assert_eq!(memory.recall(), None);

        memory.keep(&begun);
        sweep(&dir.path().join("uploads"), Timestamp::from_millis(999));
        assert!(memory.recall().is_some());
        sweep(&dir.path().join("uploads"), Timestamp::from_millis(1_000));
        assert_eq!(memory.recall(), None);

        memory.keep(&begun);
        fs::write(&memory.file, "version = 9").unwrap();
        assert_eq!(memory.recall(), None);
    }
}
