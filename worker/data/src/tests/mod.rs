use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use stoker_domain::ErrorCode;
use stoker_domain::dataset::ColumnKind;
use zip::write::SimpleFileOptions;

use super::*;

mod arrays;
mod dirty;
mod fuzz;
mod images;
mod jsonl;
mod parquet;
mod plain;

fn boxed(bytes: &[u8]) -> Box<dyn Source + Send> {
    Box::new(Cursor::new(bytes.to_vec()))
}

fn described(bytes: &[u8], format: DataFormat) -> Result<Description, DataError> {
    describe(boxed(bytes), format, Header::Auto, &Limits::default())
}

fn refusal(bytes: &[u8], format: DataFormat) -> String {
    described(bytes, format).unwrap_err().to_string()
}

/// All rows of some columns, as one chunk.
fn all(bytes: &[u8], format: DataFormat, names: &[&str]) -> Chunk {
    let description = described(bytes, format).unwrap();
    collected(bytes, format, description, names, &Limits::default()).unwrap()
}

fn collected(
    bytes: &[u8],
    format: DataFormat,
    description: Description,
    names: &[&str],
    limits: &Limits,
) -> Result<Chunk, DataError> {
    let layout = Layout {
        format,
        header: description.header,
        delimiter: description.delimiter,
        schema: Some(description.schema),
    };
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut whole: Option<Chunk> = None;
    for chunk in read(boxed(bytes), &layout, &names, limits)? {
        let chunk = chunk?;
        assert!((1..=8_192).contains(&chunk.rows));
        let Some(whole) = &mut whole else {
            whole = Some(chunk);
            continue;
        };
        assert_eq!(whole.rows as u64, chunk.first_row);
        whole.rows += chunk.rows;
        for (to, from) in whole.columns.iter_mut().zip(chunk.columns) {
            match (&mut to.values, from.values) {
                (Values::Numbers(to), Values::Numbers(from)) => to.extend(from),
                (Values::Texts(to), Values::Texts(from)) => from.iter().for_each(|t| to.push(t)),
                (Values::Pictures(to), Values::Pictures(from)) => to.extend(from),
                _ => panic!("a column's kind changed"),
            }
        }
    }
    Ok(whole.unwrap())
}

fn numbers(chunk: &Chunk, column: usize) -> &[f64] {
    match &chunk.columns[column].values {
        Values::Numbers(numbers) => numbers,
        other => panic!("{other:?}"),
    }
}

fn texts(chunk: &Chunk, column: usize) -> Vec<&str> {
    match &chunk.columns[column].values {
        Values::Texts(texts) => texts.iter().collect(),
        other => panic!("{other:?}"),
    }
}

/// As bits, so that NaN equals NaN.
fn same(found: &[f64], expected: &[f64]) {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(expected), "{found:?} {expected:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn npy(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let deflated =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        zip.start_file(*name, deflated).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
