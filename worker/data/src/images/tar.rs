//! The files in a tar, as they come by (POSIX.1-1988 ustar, pax, and GNU's long names).

use std::io::Read;

use tar::{EntryType, Header, PaxExtensions};

use super::files::{File, refuse, wanted};
use crate::error::DataError;

/// What a tar is made of.
const BLOCK_BYTES: usize = 512;
/// Longest extended header.
const EXTENDED_MAX_BYTES: u64 = 1 << 20;

/// Reads a tar from begin to end.
pub(super) struct Tar<R> {
    source: R,
    file_max: u64,
    begun: bool,
    ended: bool,
}

impl<R: Read> Tar<R> {
    pub(super) const fn new(source: R, file_max: u64) -> Self {
        Self {
            source,
            file_max,
            begun: false,
            ended: false,
        }
    }

    /// The next file that may be a picture.
    pub(super) fn next(&mut self) -> Result<Option<File>, DataError> {
        let (mut long_path, mut long_size) = (None, None);
        while !self.ended {
            let Some(header) = self.header()? else {
                self.ended = true;
                break;
            };
            let kind = header.entry_type();
            let path = match &long_path {
                Some(path) => path,
                None => &header.path_bytes().into_owned(),
            };
            let path = String::from_utf8(path.clone()).map_err(|_| {
                let shown = String::from_utf8_lossy(path);
                refuse(&shown, "has a name that isn't UTF-8; rename it")
            })?;
            let size = match long_size {
                Some(size) => size,
                None => header.entry_size().map_err(|_| no_tar())?,
            };
            match kind {
                EntryType::GNULongName => {
                    let mut name = self.bytes(size, EXTENDED_MAX_BYTES, &path)?;
                    name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
                    long_path = Some(name);
                    continue;
                }
                EntryType::XHeader => {
                    let extended = self.bytes(size, EXTENDED_MAX_BYTES, &path)?;
                    for record in PaxExtensions::new(&extended) {
                        let record = record.map_err(|_| no_tar())?;
                        match record.key_bytes() {
                            b"path" => long_path = Some(record.value_bytes().to_vec()),
                            b"size" => {
                                let size = record.value().ok().and_then(|size| size.parse().ok());
                                long_size = Some(size.ok_or_else(no_tar)?);
                            }
                            _ => {}
                        }
                    }
                    continue;
                }
                EntryType::XGlobalHeader => {
                    self.bytes(size, EXTENDED_MAX_BYTES, &path)?;
                    continue;
                }
                EntryType::Directory => self.pass(size)?,
                EntryType::Regular | EntryType::Continuous => {
                    if wanted(&path)? {
                        let bytes = self.bytes(size, self.file_max, &path)?;
                        return Ok(Some(File { path, bytes }));
                    }
                    self.pass(size)?;
                }
                EntryType::Symlink | EntryType::Link => {
                    return Err(refuse(&path, "is a link; put the picture itself there"));
                }
                _ => return Err(refuse(&path, "is no plain file; leave it out")),
            }
            (long_path, long_size) = (None, None);
        }
        Ok(None)
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<Header>, DataError> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut read = Vec::with_capacity(BLOCK_BYTES);
        (&mut self.source)
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut read)?;
        if read.is_empty() || read.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let begun = std::mem::replace(&mut self.begun, true);
        if read.len() < BLOCK_BYTES {
            return Err(if begun { cut_off() } else { no_tar() });
        }
        bytes.copy_from_slice(&read);
        let plain = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
        let sum = read
            .iter()
            .enumerate()
            .map(|(at, &b)| u32::from(plain(at, b)));
        if header.cksum().ok() != Some(sum.sum()) {
            return Err(no_tar());
        }
        Ok(Some(header))
    }

    /// A file's bytes.
    fn bytes(&mut self, size: u64, max: u64, path: &str) -> Result<Vec<u8>, DataError> {
        if size > max {
            return Err(DataError::TooLarge(format!(
                "{path:?} in the archive has {size} bytes, at most {max} are allowed"
            )));
        }
        let mut bytes = Vec::new();
        (&mut self.source).take(size).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < size {
            return Err(cut_off());
        }
        self.pass_padding(size)?;
        Ok(bytes)
    }

    fn pass(&mut self, size: u64) -> Result<(), DataError> {
        let passed = std::io::copy(&mut (&mut self.source).take(size), &mut std::io::sink())?;
        if passed < size {
            return Err(cut_off());
        }
        self.pass_padding(size)
    }

    fn pass_padding(&mut self, size: u64) -> Result<(), DataError> {
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        std::io::copy(&mut (&mut self.source).take(padding), &mut std::io::sink())?;
        Ok(())
    }
}

fn no_tar() -> DataError {
    DataError::Malformed("the file isn't a tar archive, or is broken".to_owned())
}

fn cut_off() -> DataError {
    DataError::Malformed("the archive ends in the middle of a file".to_owned())
}
