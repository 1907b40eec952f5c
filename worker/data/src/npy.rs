//! NPY: one NumPy array (format versions 1.0 to 3.0, NEP 1).

use std::io::{BufReader, Read};

use stoker_domain::dataset::{Column, Schema};

use crate::error::{DataError, shown};
use crate::statistics::{Budget, Running};
use crate::table::{ColumnValues, Table, check, check_memory};
use crate::{Limits, Source};

/// Name of the column that a lone array makes.
const COLUMN: &str = "array";
/// Longest header: NumPy's own limit.
const HEADER_MAX_BYTES: usize = 10_000;
/// Most axes of an array.
const AXES_MAX: usize = 8;

/// As [`crate::describe`], for a whole file.
pub(crate) fn describe(
    source: &mut dyn Source,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let mut array = Array::open(BufReader::new(source), COLUMN, size, limits)?;
    let column = array.describe(&mut Budget::default())?;
    Ok(Schema {
        rows: array.rows,
        columns: vec![column],
    })
}

/// As [`crate::read_columns`], for a whole file.
pub(crate) fn read(
    source: &mut dyn Source,
    size: u64,
    columns: &[String],
    limits: &Limits,
) -> Result<Table, DataError> {
    if let Some(other) = columns.iter().find(|name| *name != COLUMN) {
        return Err(DataError::no_column(other, [COLUMN]));
    }
    let mut array = Array::open(BufReader::new(source), COLUMN, size, limits)?;
    let rows = array.rows;
    let values = array.read(limits)?;
    Ok(Table {
        rows: usize::try_from(rows).unwrap_or(usize::MAX),
        columns: columns.iter().map(|_| values.clone()).collect(),
    })
}

/// An array whose header was read and whose values follow.
pub(crate) struct Array<R> {
    source: R,
    name: String,
    dtype: Dtype,
    fortran: bool,
    /// Extent of the first axis.
    pub(crate) rows: u64,
    shape: Vec<u32>,
    width: u64,
}

impl<R: Read> Array<R> {
    /// Reads the header; `size` is what header and values may have in bytes.
    pub(crate) fn open(
        mut source: R,
        name: &str,
        size: u64,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let text = read_header(&mut source)?;
        let header = Header::parse(&text).ok_or_else(|| {
            DataError::Malformed(format!("{:?} is not an NPY header", shown(&text)))
        })?;
        let dtype = Dtype::parse(&header.descr)?;
        let (rows, shape, width) = extents(&header.shape)?;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the array has {rows} rows, at most {} are allowed",
                limits.rows
            )));
        }
        let bytes = rows
            .checked_mul(width)
            .and_then(|values| values.checked_mul(dtype.size as u64));
        match bytes {
            Some(bytes) if bytes <= size => {}
            _ => {
                return Err(DataError::Malformed(format!(
                    "the shape {:?} needs more bytes than the file has",
                    header.shape
                )));
            }
        }
        Ok(Self {
            source,
            name: name.to_owned(),
            dtype,
            fortran: header.fortran,
            rows,
            shape,
            width,
        })
    }

    /// Parses all values.
    pub(crate) fn describe(&mut self, budget: &mut Budget) -> Result<Column, DataError> {
        let mut running = Running::default();
        self.each(|_, value, _| running.add(value, budget))?;
        let (kind, statistics) = running
            .finish()
            .ok_or_else(|| DataError::Malformed("the array is empty".to_owned()))?;
        Ok(Column {
            name: self.name.clone(),
            kind,
            shape: self.shape.clone(),
            statistics: Some(statistics),
        })
    }

    /// Reads all values.
    pub(crate) fn read(&mut self, limits: &Limits) -> Result<ColumnValues, DataError> {
        check_memory(self.rows.saturating_mul(self.width), limits)?;
        let count = usize::try_from(self.rows * self.width)
            .map_err(|_| DataError::TooLarge("the array doesn't fit this machine".to_owned()))?;
        let mut values = vec![0.0; count];
        self.each(|index, _, narrow| values[index] = narrow)?;
        Ok(ColumnValues {
            name: self.name.clone(),
            shape: self.shape.clone(),
            width: usize::try_from(self.width).unwrap_or(usize::MAX),
            values,
        })
    }

    /// Calls `visit(index in row-major order, value, value as f32)` for each value, in the order of
    /// the file.
    fn each(&mut self, mut visit: impl FnMut(usize, f64, f32)) -> Result<(), DataError> {
        let mut buffer = vec![0; self.dtype.size * 4096];
        let mut position = Position::new(self.rows, &self.shape, self.fortran);
        let mut left = self.rows * self.width;
        while left > 0 {
            let count = left.min(4096);
            let bytes = &mut buffer[..self.dtype.size * count as usize];
            self.source.read_exact(bytes)?;
            for bytes in bytes.chunks_exact(self.dtype.size) {
                let value = self.dtype.value(bytes);
                let index = position.next();
                let narrow = check(value).map_err(|message| {
                    let row = index as u64 / self.width + 1;
                    DataError::record(row, &self.name, message)
                })?;
                visit(index, value, narrow);
            }
            left -= count;
        }
        let mut rest = [0];
        if self.source.read(&mut rest)? > 0 {
            return Err(DataError::Malformed(
                "there are bytes after the array's last value".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Rows, shape of a row, and values per row.
fn extents(shape: &[u64]) -> Result<(u64, Vec<u32>, u64), DataError> {
    let refused = |why: &str| DataError::Malformed(format!("the array's shape {shape:?} {why}"));
    let (&rows, rest) = shape.split_first().ok_or_else(|| refused("has no rows"))?;
    if shape.contains(&0) {
        return Err(refused("is empty"));
    }
    if shape.len() > AXES_MAX {
        return Err(refused(&format!("has more than {AXES_MAX} axes")));
    }
    let row = rest.iter().map(|&n| u32::try_from(n));
    let row = row.collect::<Result<Vec<_>, _>>();
    let width = rest.iter().try_fold(1_u64, |all, &n| all.checked_mul(n));
    match (row, width) {
        (Ok(row), Some(width)) => Ok((rows, row, width)),
        _ => Err(refused("is too large")),
    }
}

/// Where the file's next value lies in row-major order.
struct Position {
    shape: Vec<usize>,
    strides: Vec<usize>,
    at: Vec<usize>,
    index: usize,
    fortran: bool,
}

impl Position {
    fn new(rows: u64, row_shape: &[u32], fortran: bool) -> Self {
        let mut shape = vec![usize::try_from(rows).unwrap_or(usize::MAX)];
        shape.extend(row_shape.iter().map(|&n| n as usize));
        let mut strides = vec![1_usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Self {
            at: vec![0; shape.len()],
            shape,
            strides,
            index: 0,
            fortran,
        }
    }

    fn next(&mut self) -> usize {
        let index = self.index;
        if !self.fortran {
            self.index += 1;
            return index;
        }
        for axis in 0..self.shape.len() {
            self.at[axis] += 1;
            self.index += self.strides[axis];
            if self.at[axis] < self.shape[axis] {
                break;
            }
            self.index -= self.strides[axis] * self.shape[axis];
            self.at[axis] = 0;
        }
        index
    }
}

/// The kind of number that a `Dtype` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// How one value is written.
#[derive(Debug, Clone, Copy)]
struct Dtype {
    number: Number,
    size: usize,
    big_endian: bool,
}

impl Dtype {
    fn parse(descr: &str) -> Result<Self, DataError> {
        let (order, rest) = descr.split_at_checked(1).unwrap_or_default();
        let (letter, size) = rest.split_at_checked(1).unwrap_or_default();
        let number = match (letter, size) {
            ("f", "4" | "8") => Number::Float,
            ("i", "1" | "2" | "4" | "8") => Number::Signed,
            ("u", "1" | "2" | "4" | "8") => Number::Unsigned,
            ("b", "1") => Number::Bool,
            _ => return Err(Self::unknown(descr)),
        };
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return Err(Self::unknown(descr)),
        };
        let size = size.parse().map_err(|_| Self::unknown(descr))?;
        Ok(Self {
            number,
            size,
            big_endian,
        })
    }

    fn unknown(descr: &str) -> DataError {
        DataError::Malformed(format!(
            "the array's type {:?} can't be read; those that can: f4, f8, i1, i2, i4, i8, u1, u2, u4, u8, bool",
            shown(descr)
        ))
    }

    fn value(self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.big_endian {
            wide[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        match (self.number, self.size) {
            (Number::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Number::Float, _) => f64::from_bits(bits),
            (Number::Signed, size) => {
                let unused = 64 - 8 * size as u32;
                ((bits << unused) as i64 >> unused) as f64
            }
            (Number::Unsigned, _) => bits as f64,
            (Number::Bool, _) => f64::from(u8::from(bits != 0)),
        }
    }
}

fn read_header(source: &mut impl Read) -> Result<String, DataError> {
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
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    /// Reads the three entries in any order. A structured `descr` is given as it is written, and is
    /// refused as a type.
    fn parse(text: &str) -> Option<Self> {
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
