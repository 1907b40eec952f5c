//! NPZ: named NumPy arrays in a zip archive, each a column.

use std::io::{BufReader, Read};

use stoker_domain::dataset::Schema;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::bounded::{Bounded, expansion_max};
use crate::error::DataError;
use crate::npy::Array;
use crate::statistics::Budget;
use crate::table::{Table, check_memory};
use crate::{Limits, Source};

/// As [`crate::describe`].
pub(crate) fn describe(
    source: &mut dyn Source,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let mut archive = Archive::open(source, size, limits)?;
    let mut budget = Budget::default();
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    for name in archive.names.clone() {
        let mut array = archive.array(&name, limits)?;
        rows.push(array.rows);
        columns.push(
            array
                .describe(&mut budget)
                .map_err(|error| about(&name, error))?,
        );
    }
    let rows = common(&rows, archive.names.iter())?;
    Ok(Schema { rows, columns })
}

/// As [`crate::read_columns`].
pub(crate) fn read(
    source: &mut dyn Source,
    size: u64,
    columns: &[String],
    limits: &Limits,
) -> Result<Table, DataError> {
    let mut archive = Archive::open(source, size, limits)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    let mut held = 0;
    for name in columns {
        if !archive.names.contains(name) {
            let known = archive.names.iter().map(String::as_str);
            return Err(DataError::no_column(name, known));
        }
        let mut array = archive.array(name, limits)?;
        rows.push(array.rows);
        let column = array.read(limits).map_err(|error| about(name, error))?;
        held += column.values.len() as u64;
        check_memory(held, limits)?;
        values.push(column);
    }
    let rows = common(&rows, columns.iter())?;
    Ok(Table {
        rows: usize::try_from(rows).unwrap_or(usize::MAX),
        columns: values,
    })
}

/// The archive with what it may still expand to.
struct Archive<'a> {
    zip: ZipArchive<BufReader<&'a mut dyn Source>>,
    names: Vec<String>,
    expansion_left: u64,
}

impl<'a> Archive<'a> {
    fn open(source: &'a mut dyn Source, size: u64, limits: &Limits) -> Result<Self, DataError> {
        let zip = ZipArchive::new(BufReader::new(source)).map_err(refused)?;
        if zip.len() > limits.columns {
            return Err(DataError::TooLarge(format!(
                "the archive has {} arrays, at most {} are allowed",
                zip.len(),
                limits.columns
            )));
        }
        let mut names = Vec::new();
        for file in zip.file_names() {
            let file = file.map_err(refused)?;
            let name = file.strip_suffix(".npy").filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| {
                DataError::Malformed(format!("{file:?} in the archive is not an NPY file"))
            })?;
            names.push(name.to_owned());
        }
        if names.is_empty() {
            return Err(DataError::Malformed("the archive is empty".to_owned()));
        }
        Ok(Self {
            zip,
            names,
            expansion_left: expansion_max(size, limits),
        })
    }

    fn array(&mut self, name: &str, limits: &Limits) -> Result<Array<impl Read>, DataError> {
        let file = self.zip.by_name(&format!("{name}.npy")).map_err(refused)?;
        let size = file.size();
        self.expansion_left = self.expansion_left.checked_sub(size).ok_or_else(|| {
            DataError::TooLarge("the archive expands to more than is allowed".to_owned())
        })?;
        // The directory's size is only a claim: the reader is held to it.
        let bounded = BufReader::new(Bounded::new(file, size, u64::MAX));
        Array::open(bounded, name, size, limits).map_err(|error| about(name, error))
    }
}

/// The number of rows, when all columns have it in common.
fn common<'a>(rows: &[u64], mut names: impl Iterator<Item = &'a String>) -> Result<u64, DataError> {
    let first = rows.first().copied().unwrap_or(0);
    let (Some(first_name), Some((other, count))) = (
        names.next(),
        names
            .zip(rows.iter().skip(1))
            .find(|(_, count)| **count != first),
    ) else {
        return Ok(first);
    };
    Err(DataError::Malformed(format!(
        "column `{first_name}` has {first} rows, `{other}` has {count}"
    )))
}

/// Names the array that an error about the file is about.
fn about(name: &str, error: DataError) -> DataError {
    match error {
        DataError::Malformed(message) => {
            DataError::Malformed(format!("column `{name}`: {message}"))
        }
        DataError::TooLarge(message) => DataError::TooLarge(format!("column `{name}`: {message}")),
        other => other,
    }
}

fn refused(error: ZipError) -> DataError {
    match error {
        ZipError::Io(error) => DataError::from(error),
        other => DataError::Malformed(format!("the archive can't be read: {other}")),
    }
}
