//! Readers that stop at a limit instead of filling the memory.

use std::io::{self, BufReader, Read, SeekFrom};

use flate2::bufread::MultiGzDecoder;

use crate::error::DataError;
use crate::{Limits, Source};

/// What a compressed file may expand to whatever its size.
const FREE_EXPANSION_BYTES: u64 = 64 << 20;
/// Bytes of a compressed file that are read at once.
const COMPRESSED_BYTES: usize = 128 << 10;

/// The file's size, when it is within the limit; the file stands at its begin afterwards.
pub(crate) fn size_of(source: &mut dyn Source, limits: &Limits) -> Result<u64, DataError> {
    let size = source.seek(SeekFrom::End(0)).map_err(DataError::Read)?;
    source.rewind().map_err(DataError::Read)?;
    if size > limits.size_bytes {
        return Err(DataError::TooLarge(format!(
            "the file has {size} bytes, at most {} are allowed",
            limits.size_bytes
        )));
    }
    Ok(size)
}

/// Most bytes that a compressed file of `size` bytes may expand to.
pub(crate) fn expansion_max(size: u64, limits: &Limits) -> u64 {
    let by_ratio = size.saturating_mul(limits.expansion_ratio);
    limits
        .expanded_bytes
        .min(by_ratio.saturating_add(FREE_EXPANSION_BYTES))
}

/// What a file of `size` bytes expands to.
pub(crate) fn gunzip<R: Read>(
    source: R,
    size: u64,
    limits: &Limits,
) -> Bounded<MultiGzDecoder<BufReader<R>>> {
    let source = BufReader::with_capacity(COMPRESSED_BYTES, source);
    Bounded::new(MultiGzDecoder::new(source), expansion_max(size, limits))
}

/// A reader that gives at most so many bytes.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    max: u64,
}

impl<R> Bounded<R> {
    pub(crate) const fn new(inner: R, max: u64) -> Self {
        Self {
            inner,
            left: max,
            max,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(DataError::TooLarge(format!(
                "the file expands to more than {} bytes",
                self.max
            )))
        })?;
        Ok(count)
    }
}
