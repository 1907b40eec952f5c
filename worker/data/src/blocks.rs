//! A file of lines or records, cut into blocks of whole ones.

use std::io::Read;

use memchr::{memchr_iter, memrchr};

use crate::Limits;
use crate::error::DataError;

/// What a block usually has.
const BLOCK_BYTES: usize = 512 << 10;

/// Whole records that follow one another, each with the line feed that ends it.
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    /// The line of the file that the block begins on; from 1.
    pub(crate) line: u64,
}

/// Where the last whole record of some bytes ends, or what is open where none does.
pub(crate) type Cut = fn(&[u8], u8) -> Option<usize>;

/// Cuts at line feeds.
pub(crate) fn at_lines(bytes: &[u8], _: u8) -> Option<usize> {
    memrchr(b'\n', bytes).map(|at| at + 1)
}

/// Cuts a file as it is read.
pub(crate) struct Blocks<R> {
    source: R,
    cut: Cut,
    delimiter: u8,
    /// Bytes that were read; those before `start` were given out.
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    line: u64,
    row_max: u64,
    lines_max: usize,
}

impl<R: Read> Blocks<R> {
    pub(crate) fn new(source: R, cut: Cut, limits: &Limits) -> Self {
        Self {
            source,
            cut,
            delimiter: b',',
            buffer: Vec::new(),
            start: 0,
            ended: false,
            line: 1,
            row_max: limits.row_bytes,
            lines_max: usize::MAX,
        }
    }

    /// What stands between fields from now on.
    pub(crate) const fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// A block has at most so many lines from now on; for files whose records are lines.
    pub(crate) const fn set_lines_max(&mut self, lines_max: usize) {
        self.lines_max = lines_max;
    }

    /// The file's first bytes, a block of them where there are so many.
    pub(crate) fn peek(&mut self) -> Result<&[u8], DataError> {
        self.fill(BLOCK_BYTES)?;
        Ok(self.rest())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Passes over a byte order mark.
    pub(crate) fn skip_mark(&mut self) -> Result<(), DataError> {
        if self.peek()?.starts_with(b"\xef\xbb\xbf") {
            self.skip(3);
        }
        Ok(())
    }

    /// Reads on until [`Self::peek`] shows a whole record after the blank lines, or all there is.
    pub(crate) fn peek_record(&mut self) -> Result<(), DataError> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted)?;
            let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let rest = self.rest();
            let blank = rest.iter().take_while(|byte| is_blank(byte)).count();
            let found = (self.cut)(&rest[blank..], self.delimiter).is_some();
            if found || self.ended {
                return Ok(());
            }
            self.check_row()?;
            wanted = self.rest().len() * 2;
        }
    }

    /// Whether [`Self::peek`] shows all there is.
    pub(crate) const fn is_whole(&self) -> bool {
        self.ended
    }

    /// Passes over the first bytes of what [`Self::peek`] shows.
    pub(crate) fn skip(&mut self, count: usize) {
        let skipped = &self.rest()[..count];
        let lines = memchr_iter(b'\n', skipped).count() as u64;
        self.line += lines;
        self.start += count;
    }

    /// Reads until there are `wanted` bytes or no more.
    fn fill(&mut self, wanted: usize) -> Result<(), DataError> {
        if self.ended || self.rest().len() >= wanted {
            return Ok(());
        }
        self.buffer.drain(..std::mem::take(&mut self.start));
        while !self.ended && self.buffer.len() < wanted {
            let missing = (wanted - self.buffer.len()) as u64;
            let count = (&mut self.source)
                .take(missing)
                .read_to_end(&mut self.buffer)?;
            if count as u64 == missing {
                continue;
            }
            self.ended = true;
            if self.buffer.last().is_some_and(|&byte| byte != b'\n') {
                self.buffer.push(b'\n');
            }
        }
        Ok(())
    }

    /// The next whole records.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, DataError> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted)?;
            if self.rest().is_empty() {
                return Ok(None);
            }
            if let Some(end) = self.end() {
                return Ok(Some(self.give(end)));
            }
            if self.ended {
                return Err(self.unclosed());
            }
            self.check_row()?;
            wanted = self.rest().len() * 2;
        }
    }

    fn end(&self) -> Option<usize> {
        let rest = self.rest();
        let last_line = self.lines_max.checked_sub(1)?;
        let many = match self.lines_max {
            usize::MAX => None,
            _ => memchr_iter(b'\n', rest).nth(last_line).map(|at| at + 1),
        };
        many.or_else(|| (self.cut)(rest, self.delimiter))
    }

    fn check_row(&self) -> Result<(), DataError> {
        if self.rest().len() as u64 <= self.row_max {
            return Ok(());
        }
        Err(DataError::TooLarge(format!(
            "row {}: more than {} bytes; is a quotation mark left open?",
            self.line, self.row_max
        )))
    }

    fn give(&mut self, end: usize) -> Block {
        let bytes = self.rest()[..end].to_vec();
        let line = self.line;
        self.skip(end);
        Block { bytes, line }
    }

    /// Says that a record doesn't end.
    pub(crate) fn unclosed(&self) -> DataError {
        DataError::Row {
            row: self.line,
            message: "a quotation mark is opened here and never closed; close it, or double it \
                      where it is meant as a character"
                .to_owned(),
        }
    }
}

/// Checks that a block is text, and gives it as such.
pub(crate) fn text(block: &Block) -> Result<&str, DataError> {
    let broken = |at: usize, message: String| DataError::Row {
        row: block.line + memchr_iter(b'\n', &block.bytes[..at]).count() as u64,
        message,
    };
    let text = std::str::from_utf8(&block.bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = block.bytes.get(at).copied().unwrap_or_default();
        broken(
            at,
            format!(
                "the byte 0x{byte:02x} isn't UTF-8; save the file as UTF-8 (from Windows-1252: \
                 `iconv -f windows-1252 -t utf-8`)"
            ),
        )
    })?;
    match memchr::memchr(0, &block.bytes) {
        None => Ok(text),
        Some(at) => Err(broken(
            at,
            "there is a NUL byte; the file isn't text, or is in UTF-16: save it as UTF-8"
                .to_owned(),
        )),
    }
}
