//! A file that another thread reads for those who decode it.

use std::io::Read;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Largest page, in bytes once decompressed; writers make them of about 1 MiB.
const PAGE_MAX_BYTES: i64 = 64 << 20;
/// What a page's header may have, in bytes.
const HEADER_BYTES: usize = 32 << 10;
/// What is read after a page, so that the next one's header is there.
const AFTER_BYTES: usize = 64 << 10;

/// Bytes that somebody wants.
pub(super) struct Need {
    pub(super) begin: u64,
    pub(super) length: usize,
    pub(super) reply: Sender<std::result::Result<Bytes, String>>,
}

/// One column of a row group, read ahead a little.
pub(super) struct Remote {
    ask: Box<dyn Fn(Need) -> bool + Send + Sync>,
    end: u64,
    ahead: usize,
    /// Bytes that are here, and where they begin.
    here: Mutex<(u64, Bytes)>,
}

impl Remote {
    /// Up to `end`; `ask` says whether anybody heard.
    pub(super) fn new(
        end: u64,
        ahead: usize,
        ask: impl Fn(Need) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            ask: Box::new(ask),
            end,
            ahead,
            here: Mutex::new((0, Bytes::new())),
        }
    }

    /// At least `wanted` bytes from `begin` where there are so many.
    fn bytes(&self, begin: u64, wanted: usize) -> Result<Bytes> {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let left = usize::try_from(self.end.saturating_sub(begin)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let offset = begin
            .checked_sub(here.0)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(offset) = offset.filter(|&at| at + wanted <= here.1.len()) {
            return Ok(here.1.slice(offset..));
        }
        let (reply, answer) = channel();
        let need = Need {
            begin,
            length: (wanted + AFTER_BYTES).max(self.ahead).min(left),
            reply,
        };
        let gone = || ParquetError::EOF("reading was given up".to_owned());
        if !(self.ask)(need) {
            return Err(gone());
        }
        let bytes = answer
            .recv()
            .map_err(|_| gone())?
            .map_err(ParquetError::EOF)?;
        *here = (begin, bytes.clone());
        Ok(bytes)
    }
}

impl Length for Remote {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Remote {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, begin: u64) -> Result<Self::T> {
        let bytes = self.bytes(begin, HEADER_BYTES)?;
        if let Some(size) = page_size(&bytes).filter(|&size| size > PAGE_MAX_BYTES) {
            return Err(ParquetError::General(format!(
                "a page has {size} bytes, at most {PAGE_MAX_BYTES} are allowed; write smaller pages"
            )));
        }
        Ok(bytes.reader())
    }

    fn get_bytes(&self, begin: u64, length: usize) -> Result<Bytes> {
        let bytes = self.bytes(begin, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("a page ends too early".to_owned()));
        }
        Ok(bytes.slice(..length))
    }
}

/// What a page has once decompressed, in bytes, where a header begins here: type, size, compressed
/// size, each a zigzag number after the byte that announces the next field (Thrift compact).
fn page_size(bytes: &[u8]) -> Option<i64> {
    let mut rest = bytes;
    let mut field = || {
        let mut byte = [0];
        rest.read_exact(&mut byte).ok()?;
        if byte[0] != 0x15 {
            return None;
        }
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            rest.read_exact(&mut byte).ok()?;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        None
    };
    let (kind, size, _) = (field()?, field()?, field()?);
    (0..=3).contains(&kind).then_some(size)
}
