//! Pictures in an archive: a tar, gzip or not, or a zip.
//!
//! The order is the archive's. Grey pictures stay grey, all others become red, green and blue;
//! what is transparent is laid on white; 16 bits become the upper 8.

mod decode;
mod files;
mod tar;

use stoker_domain::dataset::{Column, ColumnKind, Schema};

use crate::Limits;
use crate::categories::Categories;
use crate::chunk::{Chunk, ChunkColumn, Picture, Texts, Values};
use crate::chunks::{Inner, ROWS_MAX, VALUES_MAX_BYTES};
use crate::error::DataError;
use crate::parallel::Parallel;
use crate::shared::Shared;
use files::{File, Files, label};

/// The columns.
const COLUMNS: [&str; 3] = ["image", "label", "path"];
/// Pixels that are decoded at once, unless one picture has more.
const BATCH_PIXELS: u64 = 256 << 10;
/// Bytes of files that are taken at once, unless one file has more.
const BATCH_BYTES: usize = 1 << 20;
/// Files that are taken at once.
const BATCH_FILES: usize = 256;

/// Decodes a picture that came by itself.
pub(crate) fn decode_picture(bytes: &[u8]) -> Result<Picture, String> {
    let (width, height) = decode::size(bytes)?;
    let max = Limits::default().picture_pixels;
    if u64::from(width) * u64::from(height) > max {
        return Err(format!(
            "it has {width} x {height} pixels, at most {max} are allowed"
        ));
    }
    decode::decode(bytes)
}

/// As [`crate::describe`].
pub(crate) fn describe(
    source: &Shared<'_>,
    size: u64,
    limits: &Limits,
) -> Result<Schema, DataError> {
    let all = COLUMNS.map(str::to_owned);
    let mut rows = 0;
    let mut shape = Shape::default();
    let mut texts = [Categories::default(), Categories::default()];
    let mut unlabelled = 0;
    for chunk in read(source, size, None, &all, limits)? {
        let chunk = chunk?;
        rows += chunk.rows as u64;
        if rows > limits.rows {
            return Err(DataError::TooLarge(format!(
                "the archive has more than {} pictures",
                limits.rows
            )));
        }
        let mut of_texts = texts.iter_mut();
        for column in &chunk.columns {
            match &column.values {
                Values::Pictures(pictures) => pictures.iter().for_each(|p| shape.add(p)),
                Values::Texts(values) => {
                    if column.name == COLUMNS[1] {
                        unlabelled += values.iter().filter(|text| text.is_empty()).count() as u64;
                    }
                    if let Some(categories) = of_texts.next() {
                        values.iter().for_each(|text| categories.add(text));
                    }
                }
                Values::Numbers(_) => {}
            }
        }
    }
    if rows == 0 {
        let message = "the archive has no pictures";
        return Err(DataError::Malformed(message.to_owned()));
    }
    let [labels, paths] = texts;
    let column = |name: &str, kind, shape, missing, categories| Column {
        name: name.to_owned(),
        kind,
        shape,
        statistics: None,
        missing,
        categories,
    };
    let columns = vec![
        column(COLUMNS[0], ColumnKind::Image, shape.finish(), 0, None),
        column(
            COLUMNS[1],
            ColumnKind::Text,
            vec![],
            unlabelled,
            labels.finish(),
        ),
        column(COLUMNS[2], ColumnKind::Text, vec![], 0, paths.finish()),
    ];
    Ok(Schema { rows, columns })
}

/// The shape that pictures have in common.
#[derive(Default)]
struct Shape {
    first: Option<[u32; 3]>,
    differs: bool,
}

impl Shape {
    fn add(&mut self, picture: &Picture) {
        let shape = [picture.height, picture.width, u32::from(picture.channels)];
        self.differs |= *self.first.get_or_insert(shape) != shape;
    }

    fn finish(&self) -> Vec<u32> {
        let common = self.first.filter(|_| !self.differs);
        common.map_or_else(Vec::new, |shape| shape.to_vec())
    }
}

/// As [`crate::read`], of a file with that schema.
pub(crate) fn read<'a>(
    source: &Shared<'a>,
    size: u64,
    schema: Option<&Schema>,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    if let Some(other) = columns
        .iter()
        .find(|name| !COLUMNS.contains(&name.as_str()))
    {
        return Err(DataError::no_column(other, COLUMNS));
    }
    let image = schema.and_then(|schema| schema.column(COLUMNS[0]));
    let shape = image.map_or_else(Vec::new, |column| column.shape.clone());
    let decodes = columns.iter().any(|name| name == COLUMNS[0]);
    let mut batches = Batches {
        files: Files::open(source, size, limits)?,
        decodes,
        pixels_max: limits.picture_pixels,
        row: 0,
    };
    let work = move |files: Vec<File>| -> Vec<Row> {
        let rows = files.into_iter().map(|file| Row {
            picture: decodes.then(|| decode::decode(&file.bytes)),
            path: file.path,
        });
        rows.collect()
    };
    Ok(Box::new(Rows {
        inner: Parallel::new(limits.threads, move || batches.next(), work),
        columns: columns.to_vec(),
        shape,
        waiting: Vec::new().into_iter(),
        held: None,
        row: 0,
    }))
}

/// Files to decode at once.
struct Batches<'a> {
    files: Files<'a>,
    decodes: bool,
    pixels_max: u64,
    row: u64,
}

impl Batches<'_> {
    fn next(&mut self) -> Result<Option<Vec<File>>, DataError> {
        let mut batch = Vec::new();
        let (mut pixels, mut bytes) = (0, 0);
        while batch.len() < BATCH_FILES && pixels < BATCH_PIXELS && bytes < BATCH_BYTES {
            let Some(mut file) = self.files.next()? else {
                break;
            };
            self.row += 1;
            if self.decodes {
                pixels += self.check(&file)?;
            } else {
                file.bytes.clear();
            }
            bytes += file.bytes.len();
            batch.push(file);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The picture's pixels, when they are few enough to be decoded.
    fn check(&self, file: &File) -> Result<u64, DataError> {
        let size = decode::size(&file.bytes);
        let (width, height) = size.map_err(|why| wrong(self.row, &file.path, &why))?;
        let pixels = u64::from(width) * u64::from(height);
        if pixels <= self.pixels_max {
            return Ok(pixels);
        }
        Err(DataError::TooLarge(format!(
            "row {}, column `image`: {:?} has {width} x {height} pixels, at most {} are allowed; \
             make it smaller",
            self.row, file.path, self.pixels_max
        )))
    }
}

fn wrong(row: u64, path: &str, why: &str) -> DataError {
    DataError::record(row, COLUMNS[0], format!("{path:?}: {why}"))
}

/// A picture that was decoded, where it was to be.
struct Row {
    path: String,
    picture: Option<Result<Picture, String>>,
}

/// Puts rows together to chunks.
struct Rows<I> {
    inner: I,
    columns: Vec<String>,
    shape: Vec<u32>,
    waiting: std::vec::IntoIter<Row>,
    /// A row that the chunk before had no room for.
    held: Option<(String, Option<Picture>)>,
    row: u64,
}

impl<I: Iterator<Item = Result<Vec<Row>, DataError>>> Rows<I> {
    fn row(&mut self) -> Result<Option<(String, Option<Picture>)>, DataError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            if let Some(row) = self.waiting.next() {
                self.row += 1;
                let picture = row.picture.transpose();
                let picture = picture.map_err(|why| wrong(self.row, &row.path, &why))?;
                return Ok(Some((row.path, picture)));
            }
            match self.inner.next() {
                Some(rows) => self.waiting = rows?.into_iter(),
                None => return Ok(None),
            }
        }
    }

    fn chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut paths = Vec::new();
        let mut pictures = Vec::new();
        let mut bytes = 0;
        while paths.len() < ROWS_MAX {
            let Some((path, picture)) = self.row()? else {
                break;
            };
            let size = path.len() + picture.as_ref().map_or(0, |p| p.pixels.len());
            if !paths.is_empty() && bytes + size > VALUES_MAX_BYTES {
                self.held = Some((path, picture));
                break;
            }
            bytes += size;
            paths.push(path);
            pictures.extend(picture);
        }
        if paths.is_empty() {
            return Ok(None);
        }
        let columns = self.columns.iter().map(|name| match name.as_str() {
            "image" => (
                self.shape.clone(),
                Values::Pictures(std::mem::take(&mut pictures)),
            ),
            "label" => {
                let labels: Texts = paths.iter().map(|path| label(path)).collect();
                (Vec::new(), Values::Texts(labels))
            }
            _ => (Vec::new(), Values::Texts(paths.iter().collect())),
        });
        let columns = self.columns.iter().zip(columns);
        let columns = columns.map(|(name, (shape, values))| ChunkColumn {
            name: name.clone(),
            shape,
            values,
        });
        Ok(Some(Chunk {
            first_row: 0,
            rows: paths.len(),
            columns: columns.collect(),
        }))
    }
}

impl<I: Iterator<Item = Result<Vec<Row>, DataError>>> Iterator for Rows<I> {
    type Item = Result<Chunk, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}
