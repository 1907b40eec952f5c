//! The files in a zip archive, read in several places at once.

use std::io::{self, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::bounded::Bounded;
use crate::error::DataError;
use crate::shared::Shared;

/// Bytes of a file that are read at once: many may be open.
const AT_ONCE_BYTES: usize = 32 << 10;

/// A file in an archive.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// What the archive says that it expands to, in bytes.
    pub(crate) size: u64,
    /// Whether it stands for another file.
    pub(crate) is_link: bool,
    begin: u64,
    compressed_size: u64,
    method: CompressionMethod,
    crc32: u32,
}

/// What is in an archive of `size` bytes, at most `count_max` files.
pub(crate) fn entries(
    source: &Shared<'_>,
    size: u64,
    count_max: usize,
    what: &str,
) -> Result<Vec<Entry>, DataError> {
    let mut zip = ZipArchive::new(source.whole(size)).map_err(refused)?;
    if zip.len() > count_max {
        return Err(DataError::TooLarge(format!(
            "the archive has {} {what}, at most {count_max} are allowed",
            zip.len()
        )));
    }
    let mut entries = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let file = zip.by_index_raw(index).map_err(refused)?;
        let name = file.name().map_err(refused)?.into_owned();
        let broken = || DataError::Malformed(format!("{name:?} in the archive can't be read"));
        if file.encrypted() {
            return Err(DataError::Malformed(format!(
                "{name:?} in the archive is encrypted"
            )));
        }
        entries.push(Entry {
            size: file.size(),
            is_link: file.is_symlink(),
            begin: file.data_start().ok_or_else(broken)?,
            compressed_size: file.compressed_size(),
            method: file.compression(),
            crc32: file.crc32(),
            name,
        });
    }
    Ok(entries)
}

/// The bytes of a file: as many as the archive says, with the checksum that it says.
pub(crate) fn open<'a>(
    source: &Shared<'a>,
    entry: &Entry,
) -> Result<Box<dyn Read + Send + 'a>, DataError> {
    let end = entry.begin.saturating_add(entry.compressed_size);
    let section = source.section_by(entry.begin, end, AT_ONCE_BYTES);
    let expanded: Box<dyn Read + Send + 'a> = match entry.method {
        CompressionMethod::Stored => Box::new(section),
        CompressionMethod::Deflated => Box::new(DeflateDecoder::new(section)),
        other => {
            return Err(DataError::Malformed(format!(
                "{:?} is compressed by {other}, which can't be read; those that can: stored, \
                 deflated",
                entry.name
            )));
        }
    };
    // The directory's size is only a claim: the reader is held to it.
    let bounded = Bounded::new(expanded, entry.size);
    Ok(Box::new(Checked {
        inner: bounded,
        crc: Crc::new(),
        crc32: entry.crc32,
    }))
}

/// Compares the checksum at the end.
struct Checked<R> {
    inner: R,
    crc: Crc,
    crc32: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && self.crc.sum() != self.crc32 {
            let message = "its checksum isn't the one that the archive has";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

fn refused(error: ZipError) -> DataError {
    match error {
        ZipError::Io(error) => DataError::from(error),
        other => DataError::Malformed(format!("the archive can't be read: {other}")),
    }
}
