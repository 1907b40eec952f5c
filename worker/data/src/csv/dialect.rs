//! What stands between the fields, and what the columns are called.

use std::collections::HashSet;
use std::io::Read;

use super::fields::{Fields, first_record_end, last_record_end};
use crate::blocks::{Block, Blocks, text};
use crate::error::{DataError, shown};
use crate::number::{self, Field};
use crate::{Header, Limits};

/// Longest name of a column, in bytes.
const NAME_MAX_BYTES: usize = 256;
/// What may stand between fields.
const DELIMITERS: [u8; 4] = *b",;\t|";
/// Records that are looked at to tell the delimiter.
const TELLING_ROWS: usize = 100;
/// Bytes that are looked at to tell the delimiter.
const TELLING_BYTES: usize = 64 << 10;

/// How a file is written, found at its begin.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) has_header: bool,
    pub(crate) names: Vec<String>,
}

/// Finds the dialect, and passes over byte order mark and header.
pub(crate) fn open<R: Read>(
    blocks: &mut Blocks<R>,
    header: Header,
    delimiter: Option<char>,
    limits: &Limits,
) -> Result<Dialect, DataError> {
    blocks.skip_mark()?;
    let delimiter = match delimiter {
        Some(given) => ascii(given)?,
        None => {
            blocks.peek()?;
            let is_whole = blocks.is_whole();
            tell(blocks.peek()?, is_whole)
        }
    };
    blocks.set_delimiter(delimiter);
    let Some((first, skipped, length)) = first_record(blocks, delimiter)? else {
        return Err(DataError::Malformed("the file is empty".to_owned()));
    };
    let text = text(&first)?;
    let mut fields = Fields::new(&first, text, delimiter);
    fields.begin_record();
    let mut record = Vec::new();
    loop {
        if record.len() == limits.columns {
            return Err(too_many_columns(text, delimiter, limits));
        }
        record.push(fields.text());
        if fields.at_record_end() {
            break;
        }
    }
    let row = first.line;
    let line = text.trim_end();
    if line.contains('\r') && !line.contains(['"', '\n']) {
        let message = "the lines end with a carriage return alone; save the file with line feeds";
        return Err(DataError::Row {
            row,
            message: message.to_owned(),
        });
    }
    let has_header = match header {
        Header::Yes => true,
        Header::No => false,
        Header::Auto => record.iter().all(|field| !is_number(field)),
    };
    let names = if has_header {
        blocks.skip(skipped + length);
        names(row, &record)?
    } else {
        let unnamed = (0..record.len()).map(|index| format!("column_{index}"));
        unnamed.collect()
    };
    Ok(Dialect {
        delimiter,
        has_header,
        names,
    })
}

fn ascii(delimiter: char) -> Result<u8, DataError> {
    let byte = u8::try_from(delimiter).ok();
    byte.filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte))
        .ok_or_else(|| {
            DataError::Malformed(format!("{delimiter:?} can't stand between the fields"))
        })
}

fn is_number(field: &str) -> bool {
    matches!(number::read(field), Field::Number(_) | Field::TooLarge(_))
}

/// The first record that isn't a blank line, the bytes before it, and its length.
fn first_record<R: Read>(
    blocks: &mut Blocks<R>,
    delimiter: u8,
) -> Result<Option<(Block, usize, usize)>, DataError> {
    blocks.peek_record()?;
    let bytes = blocks.peek()?;
    let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let skipped = bytes.iter().take_while(|byte| is_blank(byte)).count();
    let line = 1 + bytes[..skipped].iter().filter(|&&b| b == b'\n').count() as u64;
    let rest = &bytes[skipped..];
    if rest.is_empty() {
        return Ok(None);
    }
    if let Some(length) = first_record_end(rest, delimiter) {
        let bytes = rest[..length].to_vec();
        return Ok(Some((Block { bytes, line }, skipped, length)));
    }
    Err(blocks.unclosed())
}

fn too_many_columns(text: &str, delimiter: u8, limits: &Limits) -> DataError {
    let count = 1 + memchr::memchr_iter(delimiter, text.as_bytes()).count();
    DataError::TooLarge(format!(
        "the file has {count} columns, at most {} are allowed",
        limits.columns
    ))
}

fn names(row: u64, record: &[impl AsRef<str>]) -> Result<Vec<String>, DataError> {
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(record.len());
    let refused = |message: String| DataError::Row { row, message };
    for (index, field) in record.iter().enumerate() {
        let name = match field.as_ref().trim() {
            "" => format!("column_{index}"),
            name if name.len() <= NAME_MAX_BYTES => name.to_owned(),
            name => {
                return Err(refused(format!(
                    "the name {:?} has {} bytes, at most {NAME_MAX_BYTES} are allowed",
                    shown(name),
                    name.len()
                )));
            }
        };
        if !seen.insert(name.clone()) {
            return Err(refused(format!(
                "two columns have the name `{name}`; rename one"
            )));
        }
        names.push(name);
    }
    Ok(names)
}

/// The delimiter with which most of the first records have as many fields as the first one, more
/// than one; of those that are equal, the one with most fields.
fn tell(bytes: &[u8], is_whole: bool) -> u8 {
    let sample = &bytes[..bytes.len().min(TELLING_BYTES)];
    let whole = is_whole && sample.len() == bytes.len();
    let score = |delimiter: u8| {
        let end = last_record_end(sample, delimiter);
        let end = if whole { Some(sample.len()) } else { end };
        let counts = field_counts(&sample[..end.unwrap_or(sample.len())], delimiter);
        let (&first, rest) = counts.split_first()?;
        let agreeing = rest.iter().filter(|&&count| count == first).count();
        (first > 1).then_some((agreeing, first))
    };
    let scored = DELIMITERS
        .iter()
        .filter_map(|&byte| Some((score(byte)?, byte)));
    // `max_by_key` gives the last of equals: the comma is to win over others.
    let best = scored.rev().max_by_key(|(score, _)| *score);
    best.map_or(b',', |(_, byte)| byte)
}

/// Fields of the first records.
fn field_counts(bytes: &[u8], delimiter: u8) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut quoted, mut at_start, mut before) = (1, false, true, b'\n');
    for &byte in bytes {
        match byte {
            b'"' if quoted || at_start => quoted = !quoted,
            b'\n' if !quoted => {
                // A blank line is no record.
                if count > 1 || !matches!(before, b'\n' | b'\r') {
                    counts.push(count);
                }
                if counts.len() == TELLING_ROWS {
                    break;
                }
                count = 1;
            }
            byte if byte == delimiter && !quoted => count += 1,
            _ => {}
        }
        // After a quotation mark, another one is an escaped one.
        at_start = matches!(byte, b'\n' | b'\r' | b'"') || byte == delimiter;
        before = byte;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::tell;

    #[test]
    fn the_delimiter_is_told_by_its_rows() {
        let cases: [(&[u8], u8); 8] = [
            (b"a,b\n1,2\n", b','),
            (b"a;b\n1,5;2,5\n", b';'),
            (b"user_id:token\titem_id:token\n1\t2\n", b'\t'),
            (b"a|b|c\n1|2|3\n", b'|'),
            (b"\"a;b;c\",x\n\"d;e;f\",y\n", b','),
            (b"text, and more\none; two\nthree, four\n", b','),
            (b"alone\n1\n2\n", b','),
            (b"1 2,3\n4 5,6\n", b','),
        ];
        for (bytes, delimiter) in cases {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(tell(bytes, true), delimiter, "{text:?}");
        }
    }
}
