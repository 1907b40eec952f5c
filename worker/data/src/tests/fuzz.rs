//! No input makes a reader panic or take much memory, and what is described can be read.

use ::image::ImageFormat;
use proptest::prelude::*;

use super::images::{encode, red, tar};
use super::*;

fn small() -> Limits {
    Limits {
        expanded_bytes: 1 << 20,
        row_values: 1 << 16,
        picture_pixels: 1 << 16,
        ..Limits::default()
    }
}

/// Reads whatever `bytes` are in every format.
fn survives(bytes: &[u8]) {
    for format in DataFormat::ALL {
        survives_as(bytes, format);
    }
}

fn survives_as(bytes: &[u8], format: DataFormat) {
    let Ok(found) = describe(boxed(bytes), format, Header::Auto, &small()) else {
        return;
    };
    let schema = found.schema.clone();
    let names: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let chunk = collected(bytes, format, found, &names, &small()).unwrap();
    assert_eq!(chunk.rows as u64, schema.rows);
    for (column, described) in chunk.columns.iter().zip(&schema.columns) {
        assert_eq!(column.shape, described.shape);
        let (length, is_right) = match &column.values {
            Values::Numbers(numbers) => {
                let width: usize = column.shape.iter().map(|&n| n as usize).product();
                let is_number = !matches!(described.kind, ColumnKind::Text | ColumnKind::Image);
                (numbers.len() / width, is_number)
            }
            Values::Texts(texts) => (texts.len(), described.kind == ColumnKind::Text),
            Values::Pictures(pictures) => (pictures.len(), described.kind == ColumnKind::Image),
        };
        assert_eq!(length, chunk.rows);
        assert!(is_right);
    }
}

/// A small file of every format.
fn samples() -> Vec<(DataFormat, Vec<u8>)> {
    let csv = b"name,age\n\"Ada, A\",36\nBob,\n".to_vec();
    let jsonl = b"{\"a\": 1, \"b\": [[1, 2]], \"c\": \"x\"}\n{\"a\": null}\n".to_vec();
    let array = npy("<f4", "True", "(2, 3)", &floats(&[0., 3., 1., 4., 2., 5.]));
    let pictures = [
        ("a/1.png", encode(red(5, 4), ImageFormat::Png)),
        ("b/2.jpg", encode(red(5, 4), ImageFormat::Jpeg)),
    ];
    vec![
        (DataFormat::CsvGz, gzip(&csv)),
        (DataFormat::Csv, csv),
        (DataFormat::JsonlGz, gzip(&jsonl)),
        (DataFormat::Jsonl, jsonl),
        (DataFormat::TextGz, gzip(b"some\nlines\n")),
        (DataFormat::Text, b"some\nlines\n".to_vec()),
        (DataFormat::Tokenizer, crate::tokenizer::SAMPLE.into()),
        (DataFormat::Npz, npz(&[("x.npy", array.clone())])),
        (DataFormat::Npy, array),
        (
            DataFormat::Parquet,
            super::parquet::kinds(::parquet::basic::Compression::SNAPPY),
        ),
        (
            DataFormat::Parquet,
            super::parquet::kinds(::parquet::basic::Compression::UNCOMPRESSED),
        ),
        (DataFormat::Images, gzip(&tar(&pictures))),
        (DataFormat::Images, npz(&pictures)),
        (DataFormat::Images, tar(&pictures)),
    ]
}

#[test]
fn the_samples_are_right() {
    for (format, bytes) in samples() {
        described(&bytes, format).unwrap();
        survives_as(&bytes, format);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        survives(&bytes);
    }

    #[test]
    fn garbage_that_looks_like_csv_never_panics(text in "[0-9a,;\"\r\n. \\-e]{0,200}") {
        survives_as(text.as_bytes(), DataFormat::Csv);
        survives_as(&gzip(text.as_bytes()), DataFormat::CsvGz);
    }

    #[test]
    fn garbage_that_looks_like_json_never_panics(
        lines in prop::collection::vec("(\\{(\"[ab]\": ?(1|null|\"x\"|\\[1,2\\]|true|\\[\\]),?){0,3}\\})|[\\[\\]{}\":,0-9a ]{0,30}", 0..6),
    ) {
        survives_as(lines.join("\n").as_bytes(), DataFormat::Jsonl);
    }

    #[test]
    fn damaged_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for (format, whole) in samples() {
            let mut bytes = whole.clone();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            survives_as(&bytes, format);
            bytes.truncate(cut.index(whole.len()));
            survives_as(&bytes, format);
        }
    }

    #[test]
    fn damaged_ends_of_parquet_never_panic(
        damage in prop::collection::vec((0_usize..1_400, any::<u8>()), 1..4),
    ) {
        let mut bytes = super::parquet::kinds(::parquet::basic::Compression::UNCOMPRESSED);
        let length = bytes.len();
        for (at, byte) in damage {
            bytes[length - 9 - at % (length - 9)] = byte;
        }
        survives_as(&bytes, DataFormat::Parquet);
    }

    #[test]
    fn headers_of_any_text_never_panic(header in "[{}\\[\\]()',:<f4a-z 0-9]{0,120}") {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        survives_as(&bytes, DataFormat::Npy);
    }

    #[test]
    fn a_table_survives_the_round_trip(
        rows in prop::collection::vec(prop::collection::vec(-1e30_f64..1e30, 3), 1..20),
        delimiter in prop::sample::select(vec![",", ";", "\t", "|"]),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(delimiter))
            .collect();
        let text = lines.join("\n");
        let chunk = all(text.as_bytes(), DataFormat::Csv, &["column_0", "column_1", "column_2"]);
        for index in 0..3 {
            let expected: Vec<f64> = rows.iter().map(|row| row[index]).collect();
            prop_assert_eq!(numbers(&chunk, index), &expected[..]);
        }
    }

    #[test]
    fn texts_survive_the_round_trip(
        rows in prop::collection::vec(("[a-z\", \n;]{0,12}", "[^\0\r]{0,8}"), 1..20),
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut text = "first,second\n".to_owned();
        for (first, second) in &rows {
            text += &format!("{},{}\n", quoted(first), quoted(&format!("x{second}")));
        }
        let found = describe(boxed(text.as_bytes()), DataFormat::Csv, Header::Yes, &small());
        let found = found.unwrap();
        prop_assert_eq!(found.delimiter, None);
        let names = ["first", "second"];
        let chunk = collected(text.as_bytes(), DataFormat::Csv, found, &names, &small()).unwrap();
        let seconds: Vec<String> = rows.iter().map(|(_, second)| format!("x{second}")).collect();
        prop_assert_eq!(texts(&chunk, 1), seconds);
    }
}
