//! The first rows of a data set, as somebody looks at it.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use actix_web::{get, web};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Map, Value, json};
use stoker_data::{Chunk, ChunkColumn, DataError, Layout, Limits, Values};
use stoker_domain::dataset::{ColumnKind, DatasetRecord, Schema};
use stoker_domain::view::{DatasetPreview, Problem};
use stoker_domain::{Ref, object};
use tokio::runtime::Handle;

use super::datasets;
use crate::extract::{Authorized, Look, Params};
use crate::problem::ApiError;

/// Rows that are shown when none are asked for.
const ROWS: usize = 10;
/// Most rows that are shown.
const ROWS_MAX: usize = 100;
/// Most columns that are shown.
const COLUMNS_MAX: usize = 256;
/// Numbers of a list that are shown.
const NUMBERS_MAX: usize = 16;
/// Characters of a text that are shown.
const TEXT_MAX: usize = 200;
/// Bytes that are fetched at once.
const FETCHED_BYTES: u64 = 1 << 20;

/// The first rows of a data set; pictures by their size alone, long texts and lists cut.
#[utoipa::path(tag = "datasets", params(
    ("reference" = Ref, Path, description = "`name@version` or `name`"),
    ("rows" = Option<u32>, Query, description = "how many rows, 1 to 100; 10 by default"),
), responses((status = 200, body = DatasetPreview), (status = "default", body = Problem)))]
#[get("/v1/datasets/{reference}/preview")]
pub(crate) async fn preview_dataset(
    authorized: Authorized<Look>,
    reference: web::Path<String>,
    params: Params,
) -> Result<web::Json<DatasetPreview>, ApiError> {
    params.only(&["rows"])?;
    let rows = rows(&params)?;
    let record = datasets::find(&authorized, &reference).await?;
    let location = object::dataset(&authorized.caller.tenant, &record.blake3);
    let source = Stored {
        objects: Arc::clone(&authorized.ports.objects),
        location: Path::from(location),
        size: record.size_bytes,
        at: 0,
        fetched: (0, Bytes::new()),
        runtime: Handle::current(),
    };
    let name = format!("{}@{}", record.name, record.version);
    let all = record.schema.columns.iter();
    let columns: Vec<String> = all.map(|c| c.name.clone()).take(COLUMNS_MAX).collect();
    let (total_rows, total_columns) = (record.schema.rows, record.schema.columns.len() as u64);
    let shown = columns.clone();
    let reading = tokio::task::spawn_blocking(move || first(source, &record, &shown, rows));
    let rows = reading.await.map_err(ApiError::internal)?;
    Ok(web::Json(DatasetPreview {
        dataset: name,
        total_rows,
        total_columns,
        columns,
        rows: rows.map_err(refused)?,
    }))
}

fn rows(params: &Params) -> Result<usize, ApiError> {
    let Some(given) = params.text("rows")? else {
        return Ok(ROWS);
    };
    let rows = given.parse::<usize>().ok();
    rows.filter(|rows| (1..=ROWS_MAX).contains(rows))
        .ok_or_else(|| {
            let message = format!("{given:?} is not a number from 1 to {ROWS_MAX}");
            ApiError::syntax_field("rows", message)
        })
}

/// What was described can be read: all that goes wrong is ours.
fn refused(error: DataError) -> ApiError {
    match error {
        DataError::Read(cause) => ApiError::unavailable(cause),
        other => ApiError::internal(other),
    }
}

/// The first rows as JSON.
fn first(
    source: Stored,
    record: &DatasetRecord,
    columns: &[String],
    rows: usize,
) -> Result<Vec<Map<String, Value>>, DataError> {
    let limits = Limits {
        size_bytes: u64::MAX,
        threads: 1,
        ..Limits::default()
    };
    let layout = Layout::from(record);
    let mut shown = Vec::new();
    for chunk in stoker_data::read(Box::new(source), &layout, columns, &limits)? {
        let chunk = chunk?;
        let more = chunk.rows.min(rows - shown.len());
        shown.extend((0..more).map(|row| row_of(&chunk, row, &record.schema)));
        if shown.len() == rows {
            break;
        }
    }
    Ok(shown)
}

fn row_of(chunk: &Chunk, row: usize, schema: &Schema) -> Map<String, Value> {
    let columns = chunk.columns.iter().map(|column| {
        let kind = schema.column(&column.name).map(|described| described.kind);
        let whole = kind == Some(ColumnKind::Integer);
        (
            column.name.clone(),
            value_of(column, row, chunk.rows, whole),
        )
    });
    columns.collect()
}

fn value_of(column: &ChunkColumn, row: usize, rows: usize, whole: bool) -> Value {
    match &column.values {
        Values::Numbers(numbers) => {
            let width = numbers.len() / rows;
            let numbers = &numbers[row * width..][..width];
            let number = |&number: &f64| match number {
                number if number.is_nan() => Value::Null,
                number if whole => Value::from(number as i64),
                number => Value::from(number),
            };
            match numbers {
                [only] if column.shape.is_empty() => number(only),
                _ if width <= NUMBERS_MAX => numbers.iter().map(number).collect(),
                _ => json!({
                    "shape": column.shape,
                    "first": numbers[..NUMBERS_MAX].iter().map(number).collect::<Vec<_>>(),
                }),
            }
        }
        Values::Texts(texts) => match texts.iter().nth(row) {
            None | Some("") => Value::Null,
            Some(text) => match text.char_indices().nth(TEXT_MAX) {
                None => Value::from(text),
                Some((end, _)) => Value::from(format!("{}…", &text[..end])),
            },
        },
        Values::Pictures(pictures) => {
            let picture = &pictures[row];
            json!({
                "width": picture.width,
                "height": picture.height,
                "channels": picture.channels,
            })
        }
    }
}

/// A file in object storage, fetched piece by piece as it is read; on a thread that may wait.
struct Stored {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
    at: u64,
    fetched: (u64, Bytes),
    runtime: Handle,
}

impl Stored {
    /// The bytes from here on that are at hand, after a fetch where there are none.
    fn here(&mut self) -> io::Result<&[u8]> {
        let (begin, bytes) = &self.fetched;
        let is_here = (*begin..begin + bytes.len() as u64).contains(&self.at);
        if !is_here && self.at < self.size {
            let end = self.size.min(self.at + FETCHED_BYTES);
            let fetch = self.objects.get_range(&self.location, self.at..end);
            let bytes = self.runtime.block_on(fetch).map_err(io::Error::other)?;
            self.fetched = (self.at, bytes);
        }
        let (begin, bytes) = &self.fetched;
        let offset = self
            .at
            .checked_sub(*begin)
            .and_then(|at| usize::try_from(at).ok());
        Ok(offset.and_then(|at| bytes.get(at..)).unwrap_or_default())
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(buffer.len());
        buffer[..count].copy_from_slice(&here[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Stored {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
