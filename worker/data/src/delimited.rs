//! CSV (RFC 4180).

use std::collections::HashSet;
use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder};
use stoker_domain::dataset::{Column, ColumnKind, Schema};

use crate::bounded::Bounded;
use crate::error::{DataError, shown};
use crate::statistics::{Budget, Running};
use crate::table::{ColumnValues, Table, Wrong, check, check_memory, parse};
use crate::{Header, Limits};

/// Longest name of a column, in bytes.
const NAME_MAX_BYTES: usize = 256;

/// What is known of a column while its values come by.
struct Tally {
    name: String,
    numbers: u64,
    others: u64,
    first_wrong: Option<(u64, String)>,
    running: Running,
}

impl Tally {
    fn new(name: String) -> Self {
        Self {
            name,
            numbers: 0,
            others: 0,
            first_wrong: None,
            running: Running::default(),
        }
    }

    fn add(&mut self, line: impl Fn() -> u64, field: &[u8], budget: &mut Budget) {
        let wrong = match parse(field) {
            Ok(value) => {
                self.numbers += 1;
                match check(value) {
                    Ok(_) => return self.running.add(value, budget),
                    Err(message) => message,
                }
            }
            Err(wrong) => {
                self.others += u64::from(wrong == Wrong::NotANumber);
                if self.first_wrong.is_some() {
                    return;
                }
                wrong.message(field)
            }
        };
        self.first_wrong.get_or_insert_with(|| (line(), wrong));
    }

    fn is_text(&self) -> bool {
        self.others > self.numbers || self.numbers == 0
    }

    fn error(&self) -> Option<DataError> {
        let (row, message) = self.first_wrong.as_ref().filter(|_| !self.is_text())?;
        Some(DataError::record(*row, &self.name, message))
    }

    fn column(&self) -> Column {
        let described = self.running.finish().filter(|_| !self.is_text());
        let (kind, statistics) = match described {
            Some((kind, statistics)) => (kind, Some(statistics)),
            None => (ColumnKind::Text, None),
        };
        Column {
            name: self.name.clone(),
            kind,
            shape: Vec::new(),
            statistics,
            missing: 0,
            categories: None,
        }
    }
}

/// As [`crate::describe`].
pub(crate) fn describe<R: Read>(
    source: Bounded<R>,
    header: Header,
    limits: &Limits,
) -> Result<(Schema, bool), DataError> {
    let mut rows = Rows::open(source, header, limits)?;
    let mut tallies: Vec<Tally> = rows.names.drain(..).map(Tally::new).collect();
    let mut budget = Budget::default();
    while rows.next()? {
        for (tally, field) in tallies.iter_mut().zip(&rows.record) {
            tally.add(|| rows.line(), field, &mut budget);
        }
    }
    let first_wrong = tallies
        .iter()
        .filter_map(|tally| Some((tally.first_wrong.as_ref()?.0, tally.error()?)))
        .min_by_key(|(row, _)| *row);
    if let Some((_, error)) = first_wrong {
        return Err(error);
    }
    let schema = Schema {
        rows: rows.count,
        columns: tallies.iter().map(Tally::column).collect(),
    };
    rows.require_some()?;
    Ok((schema, rows.has_header))
}

/// As [`crate::read_columns`].
pub(crate) fn read<R: Read>(
    source: Bounded<R>,
    header: bool,
    columns: &[String],
    limits: &Limits,
) -> Result<Table, DataError> {
    let header = if header { Header::Yes } else { Header::No };
    let mut rows = Rows::open(source, header, limits)?;
    let indices = columns
        .iter()
        .map(|name| {
            let known = || rows.names.iter().map(String::as_str);
            let index = known().position(|known| known == name);
            index.ok_or_else(|| DataError::no_column(name, known()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut values = vec![Vec::new(); columns.len()];
    while rows.next()? {
        check_memory(rows.count.saturating_mul(columns.len() as u64), limits)?;
        for ((&index, name), values) in indices.iter().zip(columns).zip(&mut values) {
            let field = rows.record.get(index).unwrap_or_default();
            let value = parse(field)
                .map_err(|wrong| wrong.message(field))
                .and_then(check)
                .map_err(|message| DataError::record(rows.line(), name, message))?;
            values.push(value);
        }
    }
    rows.require_some()?;
    let column = |(name, values): (&String, Vec<f32>)| ColumnValues {
        name: name.clone(),
        shape: Vec::new(),
        width: 1,
        values,
    };
    Ok(Table {
        rows: usize::try_from(rows.count).unwrap_or(usize::MAX),
        columns: columns.iter().zip(values).map(column).collect(),
    })
}

/// A CSV's rows, each checked to have as many fields as the first.
struct Rows<R> {
    reader: Reader<Bounded<R>>,
    record: ByteRecord,
    names: Vec<String>,
    width: usize,
    has_header: bool,
    /// Rows of values so far.
    count: u64,
    rows_max: u64,
    /// The first record holds values and wasn't given out yet.
    pending: bool,
}

impl<R: Read> Rows<R> {
    fn open(source: Bounded<R>, header: Header, limits: &Limits) -> Result<Self, DataError> {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // A carriage return before the line feed is trimmed with the last field.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(source);
        let mut record = ByteRecord::new();
        if !read_record(&mut reader, &mut record)? {
            return Err(DataError::Malformed("the file is empty".to_owned()));
        }
        let has_header = match header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => record.iter().all(|field| parse(field).is_err()),
        };
        let width = record.len();
        if width > limits.columns {
            return Err(DataError::TooLarge(format!(
                "the file has {width} columns, at most {} are allowed",
                limits.columns
            )));
        }
        let names = if has_header {
            header_names(&record)?
        } else {
            (0..width).map(|index| format!("column_{index}")).collect()
        };
        Ok(Self {
            reader,
            record,
            names,
            width,
            has_header,
            count: 0,
            rows_max: limits.rows,
            pending: !has_header,
        })
    }

    /// Reads the next row of values into `record`; `false` when there is none.
    fn next(&mut self) -> Result<bool, DataError> {
        if !std::mem::take(&mut self.pending) && !read_record(&mut self.reader, &mut self.record)? {
            return Ok(false);
        }
        if self.record.len() != self.width {
            return Err(DataError::Row {
                row: self.line(),
                message: format!(
                    "{} fields where the first row has {}",
                    self.record.len(),
                    self.width
                ),
            });
        }
        self.count += 1;
        if self.count > self.rows_max {
            return Err(DataError::TooLarge(format!(
                "the file has more than {} rows",
                self.rows_max
            )));
        }
        Ok(true)
    }

    /// The line of the file that the present row begins on. The reader's own position of a record
    /// is before the blank lines that it skips; what it has read ends with the row's line feed.
    fn line(&self) -> u64 {
        let inside = self.record.as_slice().iter().filter(|&&b| b == b'\n');
        let end = self.reader.position().line();
        end.saturating_sub(1 + inside.count() as u64)
    }

    fn require_some(&self) -> Result<(), DataError> {
        if self.count > 0 {
            return Ok(());
        }
        Err(DataError::Malformed(
            "the file has a header but no rows".to_owned(),
        ))
    }
}

fn read_record<R: Read>(
    reader: &mut Reader<Bounded<R>>,
    record: &mut ByteRecord,
) -> Result<bool, DataError> {
    loop {
        reader.get_mut().begin_record();
        let found = reader.read_byte_record(record);
        let found = found.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => DataError::from(error),
            other => DataError::Malformed(format!("the file is broken: {other:?}")),
        })?;
        let is_blank_line = record.len() == 1 && record.as_slice() == b"\r";
        if !found || !is_blank_line {
            return Ok(found);
        }
    }
}

fn header_names(record: &ByteRecord) -> Result<Vec<String>, DataError> {
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(record.len());
    for (index, field) in record.iter().enumerate() {
        let refused = |message: String| DataError::Row { row: 1, message };
        let name = match std::str::from_utf8(field).map(str::trim) {
            Ok("") => format!("column_{index}"),
            Ok(name) if name.len() <= NAME_MAX_BYTES => name.to_owned(),
            Ok(name) => {
                return Err(refused(format!(
                    "the name {:?} has {} bytes, at most {NAME_MAX_BYTES} are allowed",
                    shown(name),
                    name.len()
                )));
            }
            Err(_) => return Err(refused(format!("the name of column {index} isn't UTF-8"))),
        };
        if !seen.insert(name.clone()) {
            return Err(refused(format!("two columns have the name `{name}`")));
        }
        names.push(name);
    }
    Ok(names)
}
