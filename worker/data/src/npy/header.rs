//! The header of an NPY file.

use std::io::Read;

use crate::error::DataError;

/// Longest header: NumPy's own limit.
const HEADER_MAX_BYTES: usize = 10_000;

/// Reads the header's text.
pub(super) fn read_header(source: &mut impl Read) -> Result<String, DataError> {
    let not_npy = || DataError::Malformed("this is not an NPY file".to_owned());
    let mut start = [0; 10];
    source.read_exact(&mut start).map_err(|_| not_npy())?;
    let [magic @ .., major, _, low, high] = start;
    if magic != *b"\x93NUMPY" {
        return Err(not_npy());
    }
    let length = match major {
        1 => usize::from(u16::from_le_bytes([low, high])),
        2 | 3 => {
            let mut rest = [0; 2];
            source.read_exact(&mut rest).map_err(|_| not_npy())?;
            u32::from_le_bytes([low, high, rest[0], rest[1]]) as usize
        }
        _ => {
            return Err(DataError::Malformed(format!(
                "version {major} of the NPY format can't be read; those that can: 1, 2, 3"
            )));
        }
    };
    if length > HEADER_MAX_BYTES {
        return Err(DataError::TooLarge(format!(
            "the NPY header has {length} bytes, at most {HEADER_MAX_BYTES} are allowed"
        )));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| not_npy())
}

/// What an NPY header says, as `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) descr: String,
    pub(super) fortran: bool,
    pub(super) shape: Vec<u64>,
}

impl Header {
    /// Reads the three entries in any order. A structured `descr` is given as it is written, and is
    /// refused as a type.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let after = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" => {
                    let (value, after) = quoted(after).or_else(|| bracketed(after))?;
                    descr = Some(value.to_owned());
                    after
                }
                "fortran_order" => {
                    let (value, after) = after.split_at_checked(after.find([',', '}'])?)?;
                    fortran = Some(match value.trim() {
                        "True" => true,
                        "False" => false,
                        _ => return None,
                    });
                    after
                }
                "shape" => {
                    let (inside, after) = after.strip_prefix('(')?.split_once(')')?;
                    shape = Some(tuple(inside)?);
                    after
                }
                _ => return None,
            };
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        Some(Self {
            descr: descr?,
            fortran: fortran?,
            shape: shape?,
        })
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// A list, up to its last bracket: enough to name it in an error.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let end = text.strip_prefix('[').and(text.rfind(']'))?;
    text.split_at_checked(end + 1)
}

fn tuple(inside: &str) -> Option<Vec<u64>> {
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside
        .split(',')
        .map(|extent| extent.trim().trim_end_matches('L').parse().ok())
        .collect()
}
