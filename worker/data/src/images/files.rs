//! The files of an archive of pictures.

use std::io::Read;

use super::tar::Tar;
use crate::Limits;
use crate::archive::{self, Entry};
use crate::bounded::{expansion_max, gunzip};
use crate::error::{DataError, shown};
use crate::shared::Shared;

/// A file that may be a picture.
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// An archive that is read from begin to end.
pub(super) enum Files<'a> {
    Tar(Tar<Box<dyn Read + Send + 'a>>),
    Zip {
        source: Shared<'a>,
        entries: std::vec::IntoIter<Entry>,
        file_max: u64,
    },
}

impl<'a> Files<'a> {
    /// Opens an archive of `size` bytes, telling its kind by its first bytes.
    pub(super) fn open(source: &Shared<'a>, size: u64, limits: &Limits) -> Result<Self, DataError> {
        let file_max = limits.picture_bytes;
        let first = source.bytes(0, 4.min(size as usize))?;
        let whole = source.whole(size);
        let inner: Box<dyn Read + Send + 'a> = match first.as_slice() {
            [b'P', b'K', ..] => return Self::zip(source, size, limits),
            [0x1f, 0x8b, ..] => Box::new(gunzip(whole, size, limits)),
            _ => Box::new(whole),
        };
        Ok(Self::Tar(Tar::new(inner, file_max)))
    }

    fn zip(source: &Shared<'a>, size: u64, limits: &Limits) -> Result<Self, DataError> {
        let count_max = usize::try_from(limits.rows).unwrap_or(usize::MAX);
        let entries = archive::entries(source, size, count_max, "files")?;
        let expanded = entries
            .iter()
            .fold(0_u64, |all, e| all.saturating_add(e.size));
        if expanded > expansion_max(size, limits) {
            return Err(DataError::TooLarge(
                "the archive expands to more than is allowed".to_owned(),
            ));
        }
        Ok(Self::Zip {
            source: source.clone(),
            entries: entries.into_iter(),
            file_max: limits.picture_bytes,
        })
    }

    /// The next file that may be a picture.
    pub(super) fn next(&mut self) -> Result<Option<File>, DataError> {
        let (source, entries, file_max) = match self {
            Self::Tar(tar) => return tar.next(),
            Self::Zip {
                source,
                entries,
                file_max,
            } => (source, entries, *file_max),
        };
        for entry in entries {
            let path = entry.name.clone();
            if entry.is_link {
                return Err(refuse(&path, "is a link; put the picture itself there"));
            }
            if path.ends_with('/') || !wanted(&path)? {
                continue;
            }
            if entry.size > file_max {
                return Err(DataError::TooLarge(format!(
                    "{path:?} in the archive has {} bytes, at most {file_max} are allowed",
                    entry.size
                )));
            }
            let mut bytes = Vec::new();
            archive::open(source, &entry)?.read_to_end(&mut bytes)?;
            return Ok(Some(File { path, bytes }));
        }
        Ok(None)
    }
}

/// Whether a file may be a picture: what systems leave in folders is passed over.
pub(super) fn wanted(path: &str) -> Result<bool, DataError> {
    let is_windows_root = path.as_bytes().get(1) == Some(&b':');
    if path.starts_with(['/', '\\']) || is_windows_root {
        return Err(refuse(
            path,
            "has an absolute path; pack the folder by a relative one",
        ));
    }
    if path.split(['/', '\\']).any(|part| part == "..") {
        return Err(refuse(path, "has `..` in its path; pack the folder itself"));
    }
    if path.contains('\0') {
        return Err(refuse(path, "has a NUL byte in its path"));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_left_over = name.starts_with('.')
        || path.split('/').any(|part| part == "__MACOSX")
        || ["thumbs.db", "desktop.ini"].contains(&name.to_ascii_lowercase().as_str());
    Ok(!is_left_over)
}

/// The name of the folder that a picture is in.
pub(super) fn label(path: &str) -> &str {
    let mut parts = path.rsplit('/').skip(1).filter(|part| !part.is_empty());
    parts.next().filter(|part| *part != ".").unwrap_or_default()
}

pub(super) fn refuse(path: &str, why: &str) -> DataError {
    DataError::Malformed(format!("{:?} in the archive {why}", shown(path)))
}
