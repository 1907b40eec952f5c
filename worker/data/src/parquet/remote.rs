//! A file that another thread reads for those who decode it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::thrift::{Claim, claim};

/// Largest page, in bytes once decompressed; writers make them of about 1 MiB.
const PAGE_MAX_BYTES: i64 = 64 << 20;
/// Most values of a page.
const PAGE_MAX_VALUES: i64 = 16 << 20;
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

/// One column of a row group, read ahead a little: the next page is asked for when one is given.
pub(super) struct Remote {
    ask: Box<dyn Fn(Need) -> bool + Send + Sync>,
    end: u64,
    ahead: usize,
    window: Mutex<Window>,
}

/// Bytes, and where in the file they begin.
#[derive(Default)]
struct Window {
    begin: u64,
    bytes: Bytes,
    /// What was asked for and not taken yet.
    coming: Option<Coming>,
}

struct Coming {
    begin: u64,
    length: usize,
    answer: Receiver<std::result::Result<Bytes, String>>,
}

impl Window {
    /// What is here from `begin` on, when it is at least `wanted` bytes.
    fn here(&self, begin: u64, wanted: usize) -> Option<Bytes> {
        let offset = usize::try_from(begin.checked_sub(self.begin)?).ok()?;
        let is_here = offset.checked_add(wanted)? <= self.bytes.len();
        is_here.then(|| self.bytes.slice(offset..))
    }
}

impl Coming {
    fn covers(&self, begin: u64, wanted: usize) -> bool {
        let end = self.begin.saturating_add(self.length as u64);
        self.begin <= begin && begin.saturating_add(wanted as u64) <= end
    }
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
            window: Mutex::default(),
        }
    }

    fn left(&self, begin: u64) -> usize {
        usize::try_from(self.end.saturating_sub(begin)).unwrap_or(usize::MAX)
    }

    fn order(&self, begin: u64, wanted: usize) -> Result<Coming> {
        let (reply, answer) = channel();
        let length = wanted.saturating_add(AFTER_BYTES).max(self.ahead);
        let length = length.min(self.left(begin));
        let need = Need {
            begin,
            length,
            reply,
        };
        if !(self.ask)(need) {
            return Err(gone());
        }
        Ok(Coming {
            begin,
            length,
            answer,
        })
    }

    /// At least `wanted` bytes from `begin` where there are so many.
    fn bytes(&self, window: &mut Window, begin: u64, wanted: usize) -> Result<Bytes> {
        let wanted = wanted.min(self.left(begin));
        if let Some(bytes) = window.here(begin, wanted) {
            return Ok(bytes);
        }
        let coming = window.coming.take();
        let coming = match coming.filter(|coming| coming.covers(begin, wanted)) {
            Some(coming) => coming,
            None => self.order(begin, wanted)?,
        };
        let bytes = coming.answer.recv().map_err(|_| gone())?;
        window.bytes = bytes.map_err(ParquetError::EOF)?;
        window.begin = coming.begin;
        window
            .here(begin, wanted)
            .ok_or_else(|| ParquetError::EOF("a page ends too early".to_owned()))
    }

    /// Asks for what follows a page, where it isn't here already.
    fn look_ahead(&self, window: &mut Window, begin: u64, page: usize) -> Result<()> {
        let wanted = page.saturating_add(HEADER_BYTES).min(self.left(begin));
        if wanted > 0 && window.coming.is_none() && window.here(begin, wanted).is_none() {
            window.coming = Some(self.order(begin, wanted)?);
        }
        Ok(())
    }
}

fn gone() -> ParquetError {
    ParquetError::EOF("reading was given up".to_owned())
}

impl Length for Remote {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Remote {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, begin: u64) -> Result<Self::T> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.bytes(&mut window, begin, HEADER_BYTES)?;
        if let Some(claim) = claim(&bytes) {
            check(&claim)?;
        }
        Ok(bytes.reader())
    }

    fn get_bytes(&self, begin: u64, length: usize) -> Result<Bytes> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.bytes(&mut window, begin, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("a page ends too early".to_owned()));
        }
        self.look_ahead(&mut window, begin.saturating_add(length as u64), length)?;
        Ok(bytes.slice(..length))
    }
}

fn check(claim: &Claim) -> Result<()> {
    if claim.bytes <= PAGE_MAX_BYTES && claim.values <= PAGE_MAX_VALUES {
        return Ok(());
    }
    Err(ParquetError::General(format!(
        "a page has {} bytes and {} values, at most {PAGE_MAX_BYTES} and {PAGE_MAX_VALUES} are \
         allowed; write smaller pages",
        claim.bytes, claim.values
    )))
}
