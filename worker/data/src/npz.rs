//! NPZ: named NumPy arrays in a zip archive, each a column.

use std::io::{BufReader, Read};

use stoker_domain::dataset::Schema;

use crate::Limits;
use crate::archive::{self, Entry};
use crate::bounded::expansion_max;
use crate::chunks::Inner;
use crate::error::DataError;
use crate::npy::{Array, SideBySide, common};
use crate::shared::Shared;
use crate::statistics::Budget;

/// Most arrays of an archive: all of them are open at once.
const ARRAYS_MAX: usize = 1_024;

/// As [`crate::describe`].
pub(crate) fn describe(
    source: &Shared<'_>,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let arrays = arrays(source, size, limits)?;
    let mut budget = Budget::default();
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    for (name, entry) in &arrays {
        let mut array = open(source, name, entry, limits)?;
        rows.push(array.rows);
        let column = array.describe(&mut budget);
        columns.push(column.map_err(|error| about(name, error))?);
    }
    let names = arrays.iter().map(|(name, _)| name.as_str());
    let rows = common(names.zip(rows))?;
    Ok(Schema { rows, columns })
}

/// As [`crate::read`].
pub(crate) fn read<'a>(
    source: &Shared<'a>,
    size: u64,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    let arrays = arrays(source, size, limits)?;
    let opened = columns.iter().map(|wanted| {
        let found = arrays.iter().find(|(name, _)| name == wanted);
        let known = || arrays.iter().map(|(name, _)| name.as_str());
        let (name, entry) = found.ok_or_else(|| DataError::no_column(wanted, known()))?;
        open(source, name, entry, limits)
    });
    let side_by_side = SideBySide::new(opened.collect::<Result<_, _>>()?)?;
    Ok(Box::new(side_by_side))
}

/// The archive's arrays by name.
fn arrays(
    source: &Shared<'_>,
    size: u64,
    limits: &Limits,
) -> Result<Vec<(String, Entry)>, DataError> {
    let entries = archive::entries(source, size, limits.columns.min(ARRAYS_MAX), "arrays")?;
    if entries.is_empty() {
        return Err(DataError::Malformed("the archive is empty".to_owned()));
    }
    let mut left = expansion_max(size, limits);
    let mut arrays: Vec<(String, Entry)> = Vec::new();
    for entry in entries {
        let name = entry.name.strip_suffix(".npy").filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| {
            DataError::Malformed(format!(
                "{:?} in the archive is not an NPY file",
                entry.name
            ))
        })?;
        let name = name.to_owned();
        if arrays.iter().any(|(other, _)| *other == name) {
            return Err(DataError::Malformed(format!(
                "two arrays have the name `{name}`"
            )));
        }
        left = left.checked_sub(entry.size).ok_or_else(|| {
            DataError::TooLarge("the archive expands to more than is allowed".to_owned())
        })?;
        arrays.push((name, entry));
    }
    Ok(arrays)
}

fn open<'a>(
    source: &Shared<'a>,
    name: &str,
    entry: &Entry,
    limits: &Limits,
) -> Result<Array<BufReader<Box<dyn Read + Send + 'a>>>, DataError> {
    let inner = archive::open(source, entry).map_err(|error| about(name, error))?;
    let array = Array::open(BufReader::new(inner), name, entry.size, limits);
    array.map_err(|error| about(name, error))
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
