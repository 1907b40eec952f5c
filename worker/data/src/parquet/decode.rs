//! A column, row by row.

use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::leaf::{Kind, Leaf};
use super::list::{has_shape, shape_of, width_of};
use super::remote::Remote;
use super::time;
use super::value::{decimal, half, point, uuid};
use crate::chunk::{Texts, Values};
use crate::error::{DataError, shown};
use crate::number::{first_too_large, in_range, rows_missing, too_large};

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
            (ColumnReader::DoubleColumnReader(r), _) if !self.leaf.is_list() => {
                let before = numbers.len();
                let count = self.records_into(r, rows, numbers)?;
                self.spread(numbers, before, count);
                Ok((count, self.check(numbers, before, count)?))
            }
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
                numbers!(r, |value: &FixedLenByteArray| decimal(value.data(), scale))
            }
            (ColumnReader::FixedLenByteArrayColumnReader(r), Kind::Half) => {
                numbers!(r, |value: &FixedLenByteArray| half(value.data()))
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
                texts!(r, |value: &FixedLenByteArray| Some(uuid(value.data())))
            }
        }
    }

    fn records<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
    ) -> Result<(usize, Vec<T::T>), DataError> {
        let mut values = Vec::new();
        let count = self.records_into(reader, rows, &mut values)?;
        Ok((count, values))
    }

    fn records_into<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        values: &mut Vec<T::T>,
    ) -> Result<usize, DataError> {
        let levels = &mut self.levels;
        let read = reader.read_records(
            rows,
            Some(&mut levels.definition),
            Some(&mut levels.repetition),
            values,
        );
        let (count, _, _) = read.map_err(|error| self.refused(error))?;
        Ok(count)
    }

    /// Spreads the values that were read, from `before` on, over their rows.
    fn spread(&self, numbers: &mut Vec<f64>, before: usize, rows: usize) {
        let mut read = numbers.len().min(before + rows);
        if numbers.len() == before + rows {
            return;
        }
        numbers.resize(before + rows, f64::NAN);
        let there = self.leaf.descr.max_def_level();
        let levels = self.levels.definition.iter().take(rows).enumerate();
        for (row, &level) in levels.rev() {
            if level == there && read > before {
                read -= 1;
                numbers[before + row] = numbers[read];
            } else {
                numbers[before + row] = f64::NAN;
            }
        }
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
        self.check(numbers, before, rows)
    }

    /// Checks the numbers from `before` on; gives the rows that miss some.
    fn check(&self, numbers: &[f64], before: usize, rows: usize) -> Result<u64, DataError> {
        let width: usize = self.shape.iter().flatten().map(|&n| n as usize).product();
        let added = &numbers[before..];
        if added.iter().filter(|value| !in_range(**value)).count() == 0 && self.shape.is_some() {
            return Ok(0);
        }
        if let Some(index) = first_too_large(added) {
            let row = self.row + (index / width) as u64 + 1;
            return Err(DataError::record(
                row,
                &self.leaf.name,
                too_large(added[index]),
            ));
        }
        let missing = rows_missing(added, width.max(1));
        let unknown = if self.shape.is_none() { rows } else { 0 };
        Ok(missing + unknown as u64)
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
