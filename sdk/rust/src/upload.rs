//! Bytes on their way to the server: from memory or a file, hashed first, sent in chunks.

use std::fmt;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use reqwest::Body;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::parts::UploadMemory;

/// Bytes per chunk.
const CHUNK_BYTES: usize = 256 * 1024;
/// What is larger goes in parts, when it becomes a data set.
const WHOLE_MAX_BYTES: u64 = 16 << 20;

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes sent or received; goes back to what arrived when a try failed.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Told about a transfer's progress.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What to upload: bytes or a file, under one idempotency key.
#[derive(Clone)]
pub struct Upload {
    source: Source,
    key: IdempotencyKey,
    key_was_given: bool,
    in_parts: bool,
    memory: Option<Arc<dyn UploadMemory>>,
    progress: Option<OnProgress>,
}

#[derive(Clone)]
enum Source {
    Bytes(Bytes),
    Path(PathBuf),
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Upload");
        match &self.source {
            Source::Bytes(bytes) => debug.field("size_bytes", &bytes.len()),
            Source::Path(path) => debug.field("path", path),
        };
        debug.field("key", &self.key).finish_non_exhaustive()
    }
}

impl Upload {
    /// These bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(Source::Bytes(bytes.into()))
    }

    /// A file's bytes; it is read twice, first for its hash, and never held in memory.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        Self::new(Source::Path(path.into()))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            key: IdempotencyKey::generate(),
            key_was_given: false,
            in_parts: false,
            memory: None,
            progress: None,
        }
    }

    /// Under this key instead of a fresh one.
    #[must_use]
    pub fn with_key(mut self, key: IdempotencyKey) -> Self {
        self.key = key;
        self.key_was_given = true;
        self
    }

    /// In parts, whatever its size, so that it goes on where it broke. What is larger than 16 MiB is
    /// sent so anyway, when it is for a data set.
    #[must_use]
    pub const fn in_parts(mut self) -> Self {
        self.in_parts = true;
        self
    }

    /// Remembers there how far an upload in parts is, so that another process can go on with it.
    #[must_use]
    pub fn with_memory(mut self, memory: impl UploadMemory + 'static) -> Self {
        self.memory = Some(Arc::new(memory));
        self
    }

    /// Calls `progress` after each chunk. It must not block.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Whether an upload of this was begun and remembered, and hasn't ended.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        self.memory()
            .is_some_and(|memory| memory.recall().is_some())
    }

    pub(crate) const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    pub(crate) const fn key_was_given(&self) -> bool {
        self.key_was_given
    }

    pub(crate) fn memory(&self) -> Option<&dyn UploadMemory> {
        self.memory.as_deref()
    }

    /// Measures and hashes the bytes.
    pub(crate) async fn prepare(&self) -> Result<Prepared> {
        let (size_bytes, blake3) = match &self.source {
            Source::Bytes(bytes) => (bytes.len() as u64, blake3::hash(bytes)),
            Source::Path(path) => hash_file(path).await?,
        };
        Ok(Prepared {
            upload: self.clone(),
            size_bytes,
            blake3: blake3.to_hex().to_string(),
            begins_at: 0,
            total_bytes: size_bytes,
        })
    }
}

async fn hash_file(path: &Path) -> Result<(u64, blake3::Hash)> {
    let file = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(file)?)?;
        Ok((hasher.count(), hasher.finalize()))
    });
    hashing
        .await
        .unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
        .map_err(|source| unreadable(path, source))
}

async fn read_at(path: &Path, offset: u64, length: u64) -> std::io::Result<Bytes> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 == length {
        return Ok(bytes.into());
    }
    Err(std::io::Error::other("it became shorter while it was sent"))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.display().to_string(),
        source,
    }
}

/// An upload, or a part of one, of known length and hash.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) upload: Upload,
    pub(crate) size_bytes: u64,
    pub(crate) blake3: String,
    begins_at: u64,
    total_bytes: u64,
}

impl Prepared {
    /// Whether it is to be sent in parts.
    pub(crate) const fn goes_in_parts(&self) -> bool {
        self.size_bytes > 0 && (self.upload.in_parts || self.size_bytes > WHOLE_MAX_BYTES)
    }

    /// The part that begins at `offset`, of at most `max` bytes.
    pub(crate) async fn part(&self, offset: u64, max: u64) -> Result<Self> {
        let length = max.min(self.size_bytes.saturating_sub(offset));
        let bytes = match &self.upload.source {
            Source::Bytes(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(place(offset)..place(offset + length))
            }
            Source::Path(path) => {
                let read = read_at(path, offset, length).await;
                read.map_err(|error| unreadable(path, error))?
            }
        };
        Ok(Self {
            size_bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            upload: Upload {
                source: Source::Bytes(bytes),
                ..self.upload.clone()
            },
            begins_at: offset,
            total_bytes: self.total_bytes,
        })
    }

    /// Tells that so many bytes have arrived.
    pub(crate) fn show(&self, bytes: u64) {
        if let Some(progress) = &self.upload.progress {
            let total_bytes = self.total_bytes;
            progress(Progress { bytes, total_bytes });
        }
    }

    /// The body of one try, and a watch over it.
    pub(crate) async fn open(&self) -> Result<(Body, Watch)> {
        let (sent, seen) = watch::channel(0);
        let failure = Arc::new(Mutex::new(None));
        let chunks = match &self.upload.source {
            Source::Bytes(bytes) => chunks_of_bytes(bytes.clone()).boxed(),
            Source::Path(path) => {
                let file = File::open(path).await.map_err(|e| unreadable(path, e))?;
                chunks_of_file(file, path.clone(), Arc::clone(&failure)).boxed()
            }
        };
        let progress = self.upload.progress.clone();
        let (begins_at, total_bytes) = (self.begins_at, self.total_bytes);
        let count = AtomicU64::new(0);
        let counted = chunks.inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let bytes = count.fetch_add(length, Ordering::Relaxed) + length;
            sent.send_replace(bytes);
            if let Some(progress) = &progress {
                let bytes = begins_at + bytes;
                progress(Progress { bytes, total_bytes });
            }
        });
        let watch = Watch {
            seen,
            total_bytes: self.size_bytes,
            failure,
        };
        Ok((Body::wrap_stream(counted), watch))
    }
}

type Chunk = std::io::Result<Bytes>;

fn chunks_of_bytes(bytes: Bytes) -> impl Stream<Item = Chunk> + Send {
    stream::unfold(bytes, async |mut rest| {
        let length = rest.len().min(CHUNK_BYTES);
        (length > 0).then(|| (Ok(rest.split_to(length)), rest))
    })
}

fn chunks_of_file(
    file: File,
    path: PathBuf,
    failure: Arc<Mutex<Option<Error>>>,
) -> impl Stream<Item = Chunk> + Send {
    stream::unfold(Some(file), move |file| {
        let path = path.clone();
        let failure = Arc::clone(&failure);
        async move {
            let mut file = file?;
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            match (&mut file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)
                .await
            {
                Ok(0) => None,
                Ok(_) => Some((Ok(Bytes::from(chunk)), Some(file))),
                Err(error) => {
                    let told = std::io::Error::from(error.kind());
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(unreadable(&path, error));
                    Some((Err(told), None))
                }
            }
        }
    })
}

/// Watches one try's body from outside.
pub(crate) struct Watch {
    seen: watch::Receiver<u64>,
    total_bytes: u64,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Watch {
    /// Ends, with the wait that was too long, when no chunk was taken for `idle`, or no answer came
    /// for `answer` after the last one.
    pub(crate) async fn stalled(&mut self, idle: Duration, answer: Duration) -> Duration {
        loop {
            let complete = *self.seen.borrow_and_update() >= self.total_bytes;
            let limit = if complete { answer } else { idle };
            match tokio::time::timeout(limit, self.seen.changed()).await {
                Ok(Ok(())) => {}
                // The body is gone: only the answer is to come.
                Ok(Err(_)) => {
                    tokio::time::sleep(answer).await;
                    return answer;
                }
                Err(_) => return limit,
            }
        }
    }

    /// Why the file couldn't be read, if it couldn't.
    pub(crate) fn read_error(&self) -> Option<Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
