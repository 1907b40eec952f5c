//! Readers that stop at a limit instead of filling the memory.

use std::io::{self, Read, SeekFrom};

use flate2::read::MultiGzDecoder;

use crate::error::DataError;
use crate::{Limits, Source};

/// What a compressed file may expand to whatever its size.
const FREE_EXPANSION_BYTES: u64 = 64 << 20;

/// Ends a last line that has no end, so that every row has one; a blank line otherwise.
const LAST_LINE_END: &[u8] = b"\n";

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

/// A CSV's bytes as they are.
pub(crate) fn plain<'a>(
    source: &'a mut dyn Source,
    limits: &Limits,
) -> Bounded<Box<dyn Read + 'a>> {
    let source = Box::new(source.chain(LAST_LINE_END));
    Bounded::new(
        source,
        limits.size_bytes.saturating_add(1),
        limits.row_bytes,
    )
}

/// A CSV's bytes out of gzip.
pub(crate) fn gunzip<'a>(
    source: &'a mut dyn Source,
    size: u64,
    limits: &Limits,
) -> Bounded<Box<dyn Read + 'a>> {
    let decoder = MultiGzDecoder::new(io::BufReader::new(source));
    Bounded::new(
        Box::new(decoder.chain(LAST_LINE_END)),
        expansion_max(size, limits),
        limits.row_bytes,
    )
}

/// A reader that gives at most so many bytes in all, and at most so many per record.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    max: u64,
    record_left: u64,
    record_max: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, max: u64, record_max: u64) -> Self {
        Self {
            inner,
            left: max,
            max,
            record_left: record_max,
            record_max,
        }
    }

    /// A new record begins: its allowance starts again.
    pub(crate) fn begin_record(&mut self) {
        self.record_left = self.record_max;
    }

    fn take(&mut self, count: u64) -> Result<(), DataError> {
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            DataError::TooLarge(format!("the file expands to more than {} bytes", self.max))
        })?;
        self.record_left = self.record_left.checked_sub(count).ok_or_else(|| {
            DataError::TooLarge(format!(
                "a row has more than {} bytes; is a quotation mark left open?",
                self.record_max
            ))
        })?;
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.take(count as u64).map_err(io::Error::other)?;
        Ok(count)
    }
}
