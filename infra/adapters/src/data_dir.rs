//! The data directory's lock: two processes over one embedded store would each believe that they
//! alone are the platform.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::setup::SetupError;

const LOCK_FILE: &str = "stoker.lock";

/// A data directory that this process alone uses. Dropping it, or the end of the process however
/// it comes, lets go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// [`SetupError::Locked`] with the holder's process id when another process has it;
    /// [`SetupError::File`] when it can't be made or written.
    pub fn lock(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = path.as_ref().to_owned();
        fs::create_dir_all(&path).map_err(|error| unusable(&path, &error))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| unusable(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(SetupError::Locked { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path, &error)),
        }
        write_pid(&mut lock).map_err(|error| unusable(&lock_path, &error))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the directory.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> SetupError {
    SetupError::File {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let pid = lock.read_to_string(&mut text).ok().map(|_| text.trim());
    match pid {
        Some(pid) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    write!(lock, "{}", std::process::id())?;
    lock.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::lock(&path).unwrap();
        let refused = DataDir::lock(&path).unwrap_err().to_string();
        let pid = std::process::id().to_string();
        assert!(refused.contains(&format!("process {pid}")), "{refused}");
        drop(held);
        DataDir::lock(&path).unwrap();
    }
}
