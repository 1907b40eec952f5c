//! Points of one metric as a Parquet file: columns `step`, `token` and `value`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parquet::basic::Encoding;
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use stoker_domain::port::StoredPoint;
use uuid::Uuid;

const SCHEMA: &str = "message points {
    required int64 step (integer(64, false));
    required int64 token (integer(64, false));
    required double value;
}";
/// Points of one row group.
const GROUP_POINTS: usize = 1 << 20;

/// Where a file of points lies: `<when it was made>.<first step>-<last step>.parquet`. Names go by
/// time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    key: Path,
    first: u64,
    last: u64,
}

impl Name {
    pub(super) fn new(folder: &str, steps: RangeInclusive<u64>) -> Self {
        let (first, last) = steps.into_inner();
        let made = Uuid::now_v7().simple();
        Self {
            key: Path::from(format!("{folder}/{made}.{first}-{last}.parquet")),
            first,
            last,
        }
    }

    /// `None` when it isn't a name of ours.
    pub(super) fn parse(key: Path) -> Option<Self> {
        let (_, steps) = key.filename()?.strip_suffix(".parquet")?.split_once('.')?;
        let (first, last) = steps.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        Some(Self { key, first, last })
    }

    pub(super) const fn key(&self) -> &Path {
        &self.key
    }

    pub(super) fn may_hold(&self, steps: &RangeInclusive<u64>) -> bool {
        self.first <= *steps.end() && self.last >= *steps.start()
    }
}

/// A file of points that are in order, with their first and last step.
pub(super) fn write(points: Vec<StoredPoint>) -> Result<(RangeInclusive<u64>, Vec<u8>), String> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Err("a file of no points".to_owned());
    };
    let range = first.step..=last.step;
    let bytes = encode(&points).map_err(|error| error.to_string())?;
    Ok((range, bytes))
}

fn encode(points: &[StoredPoint]) -> Result<Vec<u8>, ParquetError> {
    let step = ColumnPath::from("step");
    let value = ColumnPath::from("value");
    let properties = WriterProperties::builder()
        .set_column_dictionary_enabled(step.clone(), false)
        .set_column_encoding(step, Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(value.clone(), false)
        .set_column_encoding(value, Encoding::PLAIN)
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for group in points.chunks(GROUP_POINTS) {
        let mut columns = writer.next_row_group()?;
        let of = |number: fn(&StoredPoint) -> u64| -> Vec<i64> {
            group
                .iter()
                .map(|point| number(point).cast_signed())
                .collect()
        };
        column::<Int64Type>(&mut columns, &of(|point| point.step))?;
        column::<Int64Type>(&mut columns, &of(|point| point.token))?;
        let values: Vec<f64> = group.iter().map(|point| point.value).collect();
        column::<DoubleType>(&mut columns, &values)?;
        columns.close()?;
    }
    writer.into_inner()
}

fn column<T: DataType>(
    columns: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns".to_owned());
    let mut column = columns.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// A file's points, in its order.
pub(super) fn read(bytes: Bytes) -> Result<Vec<StoredPoint>, String> {
    decode(bytes).map_err(|error| error.to_string())
}

fn decode(bytes: Bytes) -> Result<Vec<StoredPoint>, ParquetError> {
    let reader = SerializedFileReader::new(bytes)?;
    let names: Vec<&str> = (reader.metadata().file_metadata().schema_descr().columns())
        .iter()
        .map(|column| column.name())
        .collect();
    if names != ["step", "token", "value"] {
        return Err(ParquetError::General(format!("its columns are {names:?}")));
    }
    let mut points = Vec::new();
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        let steps = values::<Int64Type>(group.get_column_reader(0)?, rows)?;
        let tokens = values::<Int64Type>(group.get_column_reader(1)?, rows)?;
        let values = values::<DoubleType>(group.get_column_reader(2)?, rows)?;
        let numbers = steps.into_iter().zip(tokens);
        points.extend(
            numbers
                .zip(values)
                .map(|((step, token), value)| StoredPoint {
                    step: step.cast_unsigned(),
                    token: token.cast_unsigned(),
                    value,
                }),
        );
    }
    Ok(points)
}

fn values<T: DataType>(column: ColumnReader, rows: usize) -> Result<Vec<T::T>, ParquetError> {
    let mut reader = get_typed_column_reader::<T>(column);
    let mut values = Vec::new();
    while values.len() < rows {
        let (read, ..) = reader.read_records(rows - values.len(), None, None, &mut values)?;
        if read == 0 {
            return Err(ParquetError::EOF(format!(
                "{} of {rows} points",
                values.len()
            )));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_refused() {
        let points: Vec<_> = (0..5_000_u32)
            .map(|step| StoredPoint {
                step: u64::from(step) << 40,
                token: u64::from(step / 1_000),
                value: f64::from(step).sqrt(),
            })
            .collect();
        let (range, bytes) = write(points.clone()).unwrap();
        assert_eq!(range, 0..=4_999 << 40);
        assert_eq!(read(bytes.clone().into()).unwrap(), points);
        for length in [0, 7, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(bytes[..length].to_vec().into()).is_err());
        }
        assert!(write(Vec::new()).is_err());
        let name = Name::new("jobs/job-1/points/train.loss", range);
        let again = Name::parse(name.key().clone()).unwrap();
        assert_eq!(again, name);
        assert!(again.may_hold(&(7..=7)) && !again.may_hold(&((5_000 << 40)..=u64::MAX)));
        assert_eq!(
            Name::parse(Path::from("jobs/job-1/points/a/b.parquet")),
            None
        );
    }
}
