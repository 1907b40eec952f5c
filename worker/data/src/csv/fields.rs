//! The fields of a block of records.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

use crate::blocks::Block;
use crate::error::DataError;
use crate::number::in_range;

/// Bytes of a field that are looked at one by one before a longer search is worth its start.
const SHORT: usize = 16;

/// Where the last whole record ends. A quotation mark counts at the begin of a field alone; what
/// follows the closing one up to the delimiter belongs to the field.
pub(crate) fn last_record_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    if memchr(b'"', bytes).is_none() {
        return memchr::memrchr(b'\n', bytes).map(|at| at + 1);
    }
    let (mut begin, mut end) = (0, None);
    while let Some(next) = first_record_end(&bytes[begin..], delimiter) {
        begin += next;
        end = Some(begin);
    }
    end
}

/// Where the first record ends.
pub(crate) fn first_record_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at = after_quotes(bytes, at)?;
        }
        at += memchr2(delimiter, b'\n', &bytes[at..])? + 1;
        if bytes[at - 1] == b'\n' {
            return Some(at);
        }
    }
    None
}

/// The place after the quotation mark that closes the one at `at`.
fn after_quotes(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr(b'"', &bytes[at..])? + 1;
        if bytes.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Walks over a block of whole records.
pub(crate) struct Fields<'b> {
    text: &'b str,
    bytes: &'b [u8],
    delimiter: u8,
    first_line: u64,
    record: usize,
    at: usize,
}

impl<'b> Fields<'b> {
    /// `text` is the block's.
    pub(crate) fn new(block: &Block, text: &'b str, delimiter: u8) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            delimiter,
            first_line: block.line,
            record: 0,
            at: 0,
        }
    }

    /// Goes to the next record; blank lines are none.
    pub(crate) fn begin_record(&mut self) -> bool {
        loop {
            match self.bytes[self.at..] {
                [] => return false,
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                _ => break,
            }
        }
        self.record = self.at;
        true
    }

    /// The line that the present record begins on.
    pub(crate) fn line(&self) -> u64 {
        self.first_line + memchr_iter(b'\n', &self.bytes[..self.record]).count() as u64
    }

    /// Whether the last field that was given was its record's last.
    pub(crate) fn at_record_end(&self) -> bool {
        self.bytes[self.at - 1] == b'\n'
    }

    /// The next field as a number with its text, where it is plainly one that training can use.
    #[inline]
    pub(crate) fn number(&mut self) -> Option<(f64, &'b str)> {
        let rest = &self.bytes[self.at..];
        let (value, length) = fast_float2::parse_partial::<f64, _>(rest).ok()?;
        let after = match *rest.get(length)? {
            b'\n' => length + 1,
            byte if byte == self.delimiter => length + 1,
            b'\r' if rest.get(length + 1) == Some(&b'\n') => length + 2,
            _ => return None,
        };
        if length == 0 || !in_range(value) {
            return None;
        }
        let text = &self.text[self.at..self.at + length];
        self.at += after;
        Some((value, text))
    }

    /// The next field.
    pub(crate) fn text(&mut self) -> Cow<'b, str> {
        if self.bytes[self.at] == b'"' {
            return self.quoted();
        }
        let begin = self.at;
        let end = self.end_of_field();
        Cow::Borrowed(&self.text[begin..end])
    }

    /// Goes to the end of the field, which is given, and over what ends it.
    fn end_of_field(&mut self) -> usize {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| *byte == self.delimiter || *byte == b'\n';
        let short = rest.iter().take(SHORT).position(ends);
        let length = match short {
            Some(length) => length,
            None => memchr2(self.delimiter, b'\n', rest).unwrap_or(rest.len() - 1),
        };
        let end = self.at + length;
        self.at = end + 1;
        let is_crlf = self.bytes[end] == b'\n' && length > 0 && self.bytes[end - 1] == b'\r';
        end - usize::from(is_crlf)
    }

    fn quoted(&mut self) -> Cow<'b, str> {
        let inside = self.at + 1;
        // The block was cut so that every quotation mark is closed in it.
        let after = after_quotes(self.bytes, self.at).unwrap_or(self.bytes.len() - 1);
        self.at = after;
        let end = self.end_of_field();
        let quoted = &self.text[inside..(after - 1).max(inside)];
        let tail = &self.text[after..end.max(after)];
        match (memchr(b'"', quoted.as_bytes()), tail) {
            (None, "") => Cow::Borrowed(quoted),
            _ => Cow::Owned(quoted.replace("\"\"", "\"") + tail),
        }
    }

    /// Says that the record hasn't `width` fields, of which `count` were given.
    pub(crate) fn ragged(&mut self, mut count: usize, width: usize) -> DataError {
        while !self.at_record_end() {
            self.text();
            count += 1;
        }
        DataError::Row {
            row: self.line(),
            message: format!(
                "{count} fields where the first row has {width}; put a field that holds the \
                 delimiter in quotation marks"
            ),
        }
    }
}
