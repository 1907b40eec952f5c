//! Files for the time of this process: they have no names, so that whatever ends it frees them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use stoker_domain::job::{Failure, FailureKind};

/// Bytes that are fetched at a time.
const PART_BYTES: u64 = 8 << 20;
/// Parts in flight.
const PARTS_MAX: usize = 2;

/// Where files lie, and how much of the rows of a data set goes where.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// The system's directory for temporary files when absent.
    pub(crate) dir: Option<PathBuf>,
    /// Most bytes of the prepared rows of a data set in memory, and at all.
    pub(crate) memory_bytes: u64,
    pub(crate) most_bytes: u64,
}

/// A file that only this process has.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: Arc<File>,
    size: u64,
}

/// Why an object didn't get to the disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("can't read the data set: {0}")]
    Objects(#[from] object_store::Error),
    #[error("can't write the data set to the disk of the worker: {0}")]
    Disk(#[from] io::Error),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let kind = match error {
            FetchError::Objects(_) => FailureKind::Platform,
            FetchError::Disk(_) => FailureKind::Capacity,
        };
        Self::new(kind, error.to_string())
    }
}

impl Disk {
    pub(crate) fn make_file(&self) -> io::Result<File> {
        match &self.dir {
            None => tempfile::tempfile(),
            Some(dir) => {
                std::fs::create_dir_all(dir)?;
                tempfile::tempfile_in(dir)
            }
        }
    }

    /// Copies an object of so many bytes to a file, part by part, and gives its BLAKE3.
    pub(crate) async fn fetch(
        &self,
        objects: &Arc<dyn ObjectStore>,
        location: &Path,
        size: u64,
    ) -> Result<(Scratch, blake3::Hash), FetchError> {
        let begins = (0..size.div_ceil(PART_BYTES)).map(|part| part * PART_BYTES);
        let mut parts = stream::iter(begins)
            .map(|begin| objects.get_range(location, begin..size.min(begin + PART_BYTES)))
            .buffered(PARTS_MAX);
        let (mut file, mut hasher) = (self.make_file()?, blake3::Hasher::new());
        while let Some(part) = parts.try_next().await? {
            let written = tokio::task::spawn_blocking(move || {
                hasher.update(&part);
                file.write_all(&part).map(|()| (file, hasher))
            });
            (file, hasher) = written.await.map_err(io::Error::other)??;
        }
        let file = Arc::new(file);
        Ok((Scratch { file, size }, hasher.finalize()))
    }
}

impl Scratch {
    /// Reads the file from its begin, whoever else does, while `wanted` is.
    pub(crate) fn reader(&self, wanted: &Weak<()>) -> ScratchReader {
        ScratchReader {
            file: Arc::clone(&self.file),
            wanted: wanted.clone(),
            size: self.size,
            at: 0,
        }
    }
}

/// A place in a file.
pub(crate) struct ScratchReader {
    file: Arc<File>,
    wanted: Weak<()>,
    size: u64,
    at: u64,
}

impl Read for ScratchReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wanted.strong_count() == 0 {
            return Err(io::Error::other("nobody waits for the rows any more"));
        }
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ScratchReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn objects_come_whole_and_are_read_from_any_place() {
        let dir = std::env::temp_dir();
        for (dir, size) in [
            (None, 0),
            (Some(dir), 1),
            (None, 2 * PART_BYTES as usize + 3),
        ] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let location = Path::from("a");
            objects.put(&location, bytes.clone().into()).await.unwrap();
            let disk = Disk {
                dir,
                memory_bytes: 0,
                most_bytes: 0,
            };
            let (file, hash) = disk.fetch(&objects, &location, size as u64).await.unwrap();
            assert_eq!(hash, blake3::hash(&bytes));
            let wanted = Arc::new(());
            let open = || file.reader(&Arc::downgrade(&wanted));
            let mut all = Vec::new();
            open().read_to_end(&mut all).unwrap();
            assert!(all == bytes);
            let mut reader = open();
            let back = -i64::try_from(size.min(5)).unwrap();
            let at = reader.seek(SeekFrom::End(back)).unwrap();
            all.clear();
            reader.read_to_end(&mut all).unwrap();
            assert!(all == bytes[at as usize..]);
            assert!(reader.seek(SeekFrom::Current(-1 - size as i64)).is_err());
            drop(wanted);
            assert!(reader.read(&mut [0]).is_err(), "nobody wants it any more");
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_cut_short_is_an_error() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let disk = Disk {
            dir: None,
            memory_bytes: 0,
            most_bytes: 0,
        };
        let location = Path::from("a");
        let missing = disk.fetch(&objects, &location, 3).await;
        assert!(matches!(
            missing,
            Err(FetchError::Objects(object_store::Error::NotFound { .. }))
        ));
        let nowhere = Disk {
            dir: Some("/proc/none".into()),
            ..disk
        };
        let unwritable = nowhere.fetch(&objects, &location, 0).await;
        assert!(matches!(unwritable, Err(FetchError::Disk(_))));
    }
}
