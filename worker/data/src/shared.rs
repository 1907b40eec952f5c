//! One file that is read in several places at once.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Source;
use crate::error::DataError;

/// Bytes that a section reads at once.
const SECTION_BYTES: usize = 128 << 10;

/// A file that several readers have a place of their own in.
#[derive(Clone)]
pub(crate) struct Shared<'a>(Arc<Mutex<Box<dyn Source + Send + 'a>>>);

impl<'a> Shared<'a> {
    pub(crate) fn new(source: Box<dyn Source + Send + 'a>) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    /// The bytes from `begin` up to `end`.
    pub(crate) fn section(&self, begin: u64, end: u64) -> BufReader<Section<'a>> {
        self.section_by(begin, end, SECTION_BYTES)
    }

    /// The same, read so many bytes at once.
    pub(crate) fn section_by(
        &self,
        begin: u64,
        end: u64,
        at_once: usize,
    ) -> BufReader<Section<'a>> {
        let section = Section {
            source: self.clone(),
            at: begin,
            end,
        };
        BufReader::with_capacity(at_once, section)
    }

    /// All of its `size` bytes, from any place.
    pub(crate) fn whole(&self, size: u64) -> BufReader<Section<'a>> {
        self.section(0, size)
    }

    /// `length` bytes from `begin`, all of them; the file has them.
    pub(crate) fn bytes(&self, begin: u64, length: usize) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; length];
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        source.seek(SeekFrom::Start(begin))?;
        source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A part of a file.
pub(crate) struct Section<'a> {
    source: Shared<'a>,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let mut source = self.source.0.lock().unwrap_or_else(PoisonError::into_inner);
        source.seek(SeekFrom::Start(self.at))?;
        let count = source.read(&mut buffer[..wanted])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Section<'_> {
    /// From the begin of the file, or the end of the section.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
