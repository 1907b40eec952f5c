//! A column, row by row.

use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, Int96};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::leaf::{Kind, Leaf};
use super::remote::Remote;
use super::time;
use crate::chunk::{Texts, Values};
use crate::error::{DataError, shown};
use crate::number::{in_range, too_large};

/// Most bytes that the texts of a chunk's column may have: a file can say a long text many times
/// in a few bytes.
const TEXTS_MAX_BYTES: usize = 256 << 20;

/// Rows of a column.
pub(super) struct Part {
    pub(super) values: Values,
    /// Rows without a value, or a list with a value missing.
    pub(super) missing: u64,
    /// Shape of a row's list, once one was seen.
    pub(super) shape: Option<Vec<u32>>,
}

/// Opens the pages of a column in a row group.
pub(super) type Open = dyn Fn(usize, &Leaf) -> Result<Option<Remote>, DataError> + Send;

/// A column that is read from its first row to its last.
pub(super) struct Column {
    leaf: Leaf,
    metadata: Arc<ParquetMetaData>,
    open: Box<Open>,
    group: usize,
    reader: Option<ColumnReader>,
    row: u64,
    shape: Option<Vec<u32>>,
    levels: Levels,
}

/// What says where values are missing, and where lists begin (Dremel's levels).
#[derive(Default)]
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Column {
    /// A column whose lists are to have that shape, where it is known.
    pub(super) fn new(
        leaf: Leaf,
        metadata: Arc<ParquetMetaData>,
        shape: Option<Vec<u32>>,
        open: Box<Open>,
    ) -> Self {
        let shape = if leaf.is_list() { shape } else { Some(vec![]) };
        Self {
            leaf,
            metadata,
            open,
            group: 0,
            reader: None,
            row: 0,
            shape,
            levels: Levels::default(),
        }
    }

    /// The next rows, all of them.
    pub(super) fn read(&mut self, rows: usize) -> Result<Part, DataError> {
        let mut numbers = Vec::new();
        let mut texts = Texts::default();
        let (mut read, mut missing) = (0, 0);
        while read < rows {
            let Some(mut reader) = self
                .reader
                .take()
                .map_or_else(|| self.next_group(), |r| Ok(Some(r)))?
            else {
                return Err(self.broken("has fewer rows than the file says"));
            };
            self.levels.definition.clear();
            self.levels.repetition.clear();
            let wanted = rows - read;
            let out = (&mut numbers, &mut texts);
            let (count, without) = self.some(&mut reader, wanted, out)?;
            if count > 0 {
                self.reader = Some(reader);
            }
            read += count;
            self.row += count as u64;
            missing += without;
        }
        Ok(Part {
            values: if self.leaf.kind.is_text() {
                Values::Texts(texts)
            } else {
                Values::Numbers(numbers)
            },
            missing,
            shape: self.shape.clone(),
        })
    }

    fn broken(&self, why: &str) -> DataError {
        DataError::Malformed(format!("column `{}` {why}", self.leaf.name))
    }

    fn refused(&self, error: ParquetError) -> DataError {
        self.broken(&format!("can't be read: {error}"))
    }

    fn next_group(&mut self) -> Result<Option<ColumnReader>, DataError> {
        let Some(remote) = (self.open)(self.group, &self.leaf)? else {
            return Ok(None);
        };
        let group = self.metadata.row_group(self.group);
        self.group += 1;
        let chunk = group.column(self.leaf.index);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::new(remote), chunk, rows, None);
        let pages = pages.map_err(|error| self.refused(error))?;
        let descr = self.leaf.descr.clone();
        Ok(Some(get_column_reader(descr, Box::new(pages))))
    }

    /// Reads at most `rows` rows of the row group: how many there were, and how many miss a value.
    fn some(
        &mut self,
        reader: &mut ColumnReader,
        rows: usize,
        (numbers, texts): (&mut Vec<f64>, &mut Texts),
    ) -> Result<(usize, u64), DataError> {
        let kind = self.leaf.kind;
        macro_rules! numbers {
            ($reader:expr, $of:expr) => {{
                let (count, values) = self.records($reader, rows)?;
                let missing = self.place(count, values.iter().map($of), numbers)?;
                Ok((count, missing))
            }};
        }
        macro_rules! texts {
            ($reader:expr, $of:expr) => {{
                let (count, values) = self.records($reader, rows)?;
                let missing = self.write(count, values.iter().map($of), texts)?;
                Ok((count, missing))
            }};
        }
        match (reader, kind) {
            (ColumnReader::BoolColumnReader(r), _) => {
                numbers!(r, |&value: &bool| f64::from(u8::from(value)))
            }
            (ColumnReader::FloatColumnReader(r), _) => numbers!(r, |&value: &f32| f64::from(value)),
            (ColumnReader::DoubleColumnReader(r), _) => numbers!(r, |&value: &f64| value),
            (ColumnReader::Int32ColumnReader(r), Kind::Unsigned) => {
                numbers!(r, |&value: &i32| f64::from(value.cast_unsigned()))
            }
            (ColumnReader::Int64ColumnReader(r), Kind::Unsigned) => {
                numbers!(r, |&value: &i64| value.cast_unsigned() as f64)
            }
            (ColumnReader::Int32ColumnReader(r), Kind::Numbers(scale)) => {
                numbers!(r, |&value: &i32| f64::from(value) * scale)
            }
            (ColumnReader::Int64ColumnReader(r), Kind::Numbers(scale)) => {
                numbers!(r, |&value: &i64| value as f64 * scale)
            }
            (ColumnReader::ByteArrayColumnReader(r), Kind::Numbers(scale)) => {
                numbers!(r, |value: &ByteArray| decimal(value.data(), scale))
            }
            (ColumnReader::FixedLenByteArrayColumnReader(r), Kind::Numbers(scale)) => {
                numbers!(r, |value: &parquet::data_type::FixedLenByteArray| decimal(
                    value.data(),
                    scale
                ))
            }
            (ColumnReader::FixedLenByteArrayColumnReader(r), Kind::Half) => {
                numbers!(r, |value: &parquet::data_type::FixedLenByteArray| half(
                    value.data()
                ))
            }
            (ColumnReader::Int32ColumnReader(r), kind) => {
                texts!(r, |&value: &i32| point(kind, value.into()))
            }
            (ColumnReader::Int64ColumnReader(r), kind) => {
                texts!(r, |&value: &i64| point(kind, value))
            }
            (ColumnReader::Int96ColumnReader(r), _) => texts!(r, |value: &Int96| {
                let words = value.data().first_chunk().copied();
                Some(time::timestamp_of_96(words.unwrap_or_default()))
            }),
            (ColumnReader::ByteArrayColumnReader(r), _) => {
                texts!(r, |value: &ByteArray| value.as_utf8().ok())
            }
            (ColumnReader::FixedLenByteArrayColumnReader(r), _) => {
                texts!(r, |value: &parquet::data_type::FixedLenByteArray| Some(
                    uuid(value.data())
                ))
            }
        }
    }

    fn records<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
    ) -> Result<(usize, Vec<T::T>), DataError> {
        let mut values = Vec::new();
        let levels = &mut self.levels;
        let read = reader.read_records(
            rows,
            Some(&mut levels.definition),
            Some(&mut levels.repetition),
            &mut values,
        );
        let (count, _, _) = read.map_err(|error| self.refused(error))?;
        Ok((count, values))
    }

    /// Puts numbers where they belong, NaN where there are none; gives the rows that miss some.
    fn place(
        &mut self,
        rows: usize,
        values: impl ExactSizeIterator<Item = f64>,
        numbers: &mut Vec<f64>,
    ) -> Result<u64, DataError> {
        let before = numbers.len();
        if self.leaf.is_list() {
            self.lists(values, numbers)?;
        } else if self.leaf.descr.max_def_level() == 0 || values.len() == rows {
            numbers.extend(values);
        } else {
            let mut values = values;
            let there = self.leaf.descr.max_def_level();
            let definition = self.levels.definition.iter();
            numbers.extend(definition.map(|&level| {
                let value = (level == there).then(|| values.next());
                value.flatten().unwrap_or(f64::NAN)
            }));
        }
        let width: usize = self.shape.iter().flatten().map(|&n| n as usize).product();
        let added = &numbers[before..];
        if let Some(index) = added.iter().position(|v| !in_range(*v) && !v.is_nan()) {
            let row = self.row + (index / width) as u64 + 1;
            return Err(DataError::record(
                row,
                &self.leaf.name,
                too_large(added[index]),
            ));
        }
        let missing = added
            .chunks(width)
            .filter(|row| row.iter().any(|v| v.is_nan()));
        let unknown = if self.shape.is_none() { rows } else { 0 };
        Ok((missing.count() + unknown) as u64)
    }

    /// Lists of numbers, each of the shape that the first has.
    fn lists(
        &mut self,
        mut values: impl Iterator<Item = f64>,
        numbers: &mut Vec<f64>,
    ) -> Result<(), DataError> {
        let Levels {
            definition,
            repetition,
        } = &self.levels;
        let depth = self.leaf.descr.max_rep_level();
        let there = self.leaf.descr.max_def_level();
        // The level from which a list has an element, null or not.
        let element = self.leaf.descr.repeated_ancestor_def_level();
        let (mut begin, mut row) = (0, self.row);
        while begin < repetition.len() {
            row += 1;
            let more = repetition[begin + 1..]
                .iter()
                .take_while(|&&level| level > 0);
            let end = begin + 1 + more.count();
            if definition[begin] < element && end == begin + 1 {
                let width = self.shape.as_ref().map_or(0, |shape| width_of(shape));
                numbers.resize(numbers.len() + width, f64::NAN);
                begin = end;
                continue;
            }
            let levels = &repetition[begin..end];
            let shape = self.shape.get_or_insert_with(|| shape_of(levels, depth));
            if !has_shape(levels, shape) {
                let message = format!(
                    "a list of {} numbers that hasn't the shape {shape:?} of those before; make \
                     the lists equally long",
                    levels.len()
                );
                return Err(DataError::record(row, &self.leaf.name, message));
            }
            let items = definition[begin..end].iter();
            numbers.extend(items.map(|&level| {
                let value = (level == there).then(|| values.next());
                value.flatten().unwrap_or(f64::NAN)
            }));
            begin = end;
        }
        Ok(())
    }

    /// Writes texts, nothing where there are none; gives the rows that miss one.
    fn write<T: AsRef<str>>(
        &self,
        rows: usize,
        mut values: impl ExactSizeIterator<Item = Option<T>>,
        texts: &mut Texts,
    ) -> Result<u64, DataError> {
        let there = self.leaf.descr.max_def_level();
        let all = there == 0 || values.len() == rows;
        let mut missing = 0;
        for row in 0..rows {
            let is_there = all || self.levels.definition.get(row) == Some(&there);
            let value = is_there.then(|| values.next()).flatten();
            match &value {
                Some(Some(text)) => {
                    missing += u64::from(text.as_ref().is_empty());
                    texts.push(text.as_ref());
                }
                Some(None) => {
                    let message = "the value isn't UTF-8; write it as a string";
                    let row = self.row + row as u64 + 1;
                    return Err(DataError::record(row, &self.leaf.name, message));
                }
                None => {
                    missing += 1;
                    texts.push("");
                }
            }
            if texts.size_bytes() > TEXTS_MAX_BYTES {
                return Err(DataError::TooLarge(format!(
                    "column `{}`: the texts of one part have more than {TEXTS_MAX_BYTES} bytes",
                    shown(&self.leaf.name)
                )));
            }
        }
        Ok(missing)
    }
}

fn width_of(shape: &[u32]) -> usize {
    shape.iter().map(|&extent| extent as usize).product()
}

/// The shape that a list's levels tell.
fn shape_of(levels: &[i16], depth: i16) -> Vec<u32> {
    let up_to = |level| levels.iter().filter(|&&found| found <= level).count();
    let extents = (1..=depth).map(|level| up_to(level) / up_to(level - 1).max(1));
    extents.map(|extent| extent as u32).collect()
}

/// Whether a list's levels are those of a shape: an element that begins a list of the level `l`
/// and none above has that level.
fn has_shape(levels: &[i16], shape: &[u32]) -> bool {
    if levels.len() != width_of(shape) {
        return false;
    }
    levels.iter().enumerate().all(|(index, &level)| {
        let mut size = 1;
        let mut expected = shape.len() as i16;
        for &extent in shape.iter().rev() {
            size *= extent as usize;
            if index % size != 0 {
                break;
            }
            expected -= 1;
        }
        level == expected
    })
}

/// A decimal number: an integer in big-endian two's complement, times its scale.
fn decimal(bytes: &[u8], scale: f64) -> f64 {
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let start = if negative { -1.0 } else { 0.0 };
    let whole = bytes
        .iter()
        .fold(start, |value, &byte| value * 256.0 + f64::from(byte));
    whole * scale
}

/// A 16-bit float (IEEE 754).
fn half(bytes: &[u8]) -> f64 {
    let bits = bytes
        .first_chunk()
        .map_or(0, |bytes| u16::from_le_bytes(*bytes));
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    }
}

fn point(kind: Kind, value: i64) -> Option<String> {
    let wide = i128::from(value);
    Some(match kind {
        Kind::Date => time::date(value),
        Kind::Time(unit) => time::time(wide * unit),
        Kind::Timestamp(unit, is_utc) => time::timestamp(wide * unit, is_utc),
        _ => return None,
    })
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
