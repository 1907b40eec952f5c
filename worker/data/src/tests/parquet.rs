//! Parquet.

use std::sync::Arc;

use ::parquet::basic::{Compression as Codec, ZstdLevel};
use ::parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    Int32Type, Int64Type,
};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;

use super::*;

type Group<'g> = SerializedRowGroupWriter<'g, Vec<u8>>;

/// A file of that schema, its row groups written by `groups`.
pub(super) fn file(
    schema: &str,
    codec: Codec,
    groups: usize,
    write: impl Fn(usize, &mut Group<'_>),
) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_data_page_row_count_limit(1_000)
        .set_write_batch_size(500)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties.into()).unwrap();
    for group in 0..groups {
        let mut columns = writer.next_row_group().unwrap();
        write(group, &mut columns);
        columns.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// Writes the next column: values, and levels of definition and repetition.
macro_rules! column {
    ($group:expr, $type:ty, $values:expr, $definition:expr, $repetition:expr) => {{
        let mut column = $group.next_column().unwrap().unwrap();
        let typed = column.typed::<$type>();
        typed
            .write_batch($values, $definition, $repetition)
            .unwrap();
        column.close().unwrap();
    }};
}

const KINDS: &str = "message rows {
    required int32 whole;
    optional double real;
    required boolean ok;
    optional binary name (STRING);
    required int32 day (DATE);
    required int64 at (TIMESTAMP(MICROS, true));
    required int32 price (DECIMAL(9, 2));
    required fixed_len_byte_array(3) cost (DECIMAL(6, 1));
    required int32 big (INTEGER(32, false));
    optional group vector (LIST) { repeated group list { optional double element; } }
    required group matrix (LIST) { repeated group list { required group element (LIST) {
        repeated group list { required int32 element; } } } }
}";

pub(super) fn kinds(codec: Codec) -> Vec<u8> {
    file(KINDS, codec, 1, |_, group| {
        column!(group, Int32Type, &[1, -2, 3], None, None);
        column!(group, DoubleType, &[0.5, 2.5], Some(&[1, 0, 1]), None);
        column!(group, BoolType, &[true, false, true], None, None);
        let names = ["Ada", "Zoë"].map(ByteArray::from);
        column!(group, ByteArrayType, &names, Some(&[1, 1, 0]), None);
        column!(group, Int32Type, &[0, 20_782, -1], None, None);
        column!(
            group,
            Int64Type,
            &[0, 1_500_000, 86_400_000_000],
            None,
            None
        );
        column!(group, Int32Type, &[1999, -5, 0], None, None);
        let costs = [[0, 0, 15], [0xff, 0xff, 0xff], [1, 0, 0]];
        let costs = costs.map(|c| FixedLenByteArray::from(c.to_vec()));
        column!(group, FixedLenByteArrayType, &costs, None, None);
        column!(group, Int32Type, &[-1, 0, 7], None, None);
        // [1, null], null, [3, 4]
        column!(
            group,
            DoubleType,
            &[1.0, 3.0, 4.0],
            Some(&[3, 2, 0, 3, 3]),
            Some(&[0, 1, 0, 0, 1])
        );
        let numbers: Vec<i32> = (0..18).collect();
        column!(
            group,
            Int32Type,
            &numbers,
            Some(&[2; 18]),
            Some(&[0, 2, 2, 1, 2, 2].repeat(3))
        );
    })
}

#[test]
fn every_kind_of_column_is_read() {
    let zstd = Codec::ZSTD(ZstdLevel::default());
    let gzip = Codec::GZIP(Default::default());
    for codec in [
        Codec::UNCOMPRESSED,
        Codec::SNAPPY,
        zstd,
        gzip,
        Codec::LZ4_RAW,
    ] {
        let bytes = kinds(codec);
        let schema = described(&bytes, DataFormat::Parquet).unwrap().schema;
        assert_eq!(schema.rows, 3);
        let missing: Vec<_> = schema.columns.iter().map(|c| c.missing).collect();
        assert_eq!(missing, [0, 1, 0, 1, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(schema.column("vector").unwrap().shape, [2]);
        assert_eq!(schema.column("matrix").unwrap().shape, [2, 3]);
        assert_eq!(schema.column("whole").unwrap().kind, ColumnKind::Integer);
        assert_eq!(
            schema.column("name").unwrap().categories.clone().unwrap(),
            ["Ada", "Zoë"]
        );
        let names: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
        let chunk = all(&bytes, DataFormat::Parquet, &names);
        let nan = f64::NAN;
        same(numbers(&chunk, 0), &[1.0, -2.0, 3.0]);
        same(numbers(&chunk, 1), &[0.5, nan, 2.5]);
        same(numbers(&chunk, 2), &[1.0, 0.0, 1.0]);
        assert_eq!(texts(&chunk, 3), ["Ada", "Zoë", ""]);
        assert_eq!(texts(&chunk, 4), ["1970-01-01", "2026-11-25", "1969-12-31"]);
        assert_eq!(
            texts(&chunk, 5)[1..],
            ["1970-01-01T00:00:01.5Z", "1970-01-02T00:00:00Z"]
        );
        let price = numbers(&chunk, 6);
        assert!((price[0] - 19.99).abs() < 1e-12 && (price[1] + 0.05).abs() < 1e-12);
        let cost = numbers(&chunk, 7);
        assert!((cost[1] + 0.1).abs() < 1e-12 && (cost[2] - 6553.6).abs() < 1e-9);
        same(numbers(&chunk, 8), &[4_294_967_295.0, 0.0, 7.0]);
        same(numbers(&chunk, 9), &[1.0, nan, nan, nan, 3.0, 4.0]);
        let matrix: Vec<f64> = (0..18).map(f64::from).collect();
        same(numbers(&chunk, 10), &matrix);
    }
}

#[test]
fn row_groups_and_pages_follow_one_another() {
    let schema = "message rows { required double x; optional int64 y; optional binary z (STRING);
        optional group v (LIST) { repeated group list { required double element; } } }";
    let bytes = file(schema, Codec::SNAPPY, 3, |group, columns| {
        let first = group * 20_000;
        let xs: Vec<f64> = (first..first + 20_000).map(|i| i as f64).collect();
        column!(columns, DoubleType, &xs, None, None);
        let there: Vec<i16> = (0..20_000).map(|i| i16::from(i % 3 != 0)).collect();
        let ys: Vec<i64> = (first as i64..)
            .take(20_000)
            .filter(|i| (i - first as i64) % 3 != 0)
            .collect();
        column!(columns, Int64Type, &ys, Some(&there), None);
        let zs: Vec<ByteArray> = (first..first + 20_000)
            .map(|i| ByteArray::from(format!("text {i}").as_str()))
            .collect();
        column!(columns, ByteArrayType, &zs, Some(&[1; 20_000]), None);
        let vs: Vec<f64> = (0..60_000).map(f64::from).collect();
        let begins = [0, 1, 1].repeat(20_000);
        column!(columns, DoubleType, &vs, Some(&[2; 60_000]), Some(&begins));
    });
    let schema = described(&bytes, DataFormat::Parquet).unwrap().schema;
    assert_eq!(
        (schema.rows, schema.columns[1].missing),
        (60_000, 3 * 6_667)
    );
    assert_eq!(schema.columns[2].categories, None);
    let chunk = all(&bytes, DataFormat::Parquet, &["z", "y", "v", "x"]);
    assert_eq!(chunk.rows, 60_000);
    assert_eq!(texts(&chunk, 0)[59_999], "text 59999");
    assert_eq!(numbers(&chunk, 1)[59_999], 59_999.0);
    assert!(numbers(&chunk, 1)[40_000].is_nan());
    assert_eq!(numbers(&chunk, 2)[3 * 45_000 + 1], 15_001.0);
    assert_eq!(numbers(&chunk, 3)[33_333], 33_333.0);
}

#[test]
fn what_no_model_can_use_is_refused_by_name() {
    let nested = file(
        "message rows { required group point { required double x; required double y; } }",
        Codec::SNAPPY,
        1,
        |_, group| {
            column!(group, DoubleType, &[1.0], None, None);
            column!(group, DoubleType, &[1.0], None, None);
        },
    );
    let found = refusal(&nested, DataFormat::Parquet);
    assert!(
        found.starts_with("column `point` has parts of its own"),
        "{found}"
    );
    let schema = "message rows { required group v (LIST) { repeated group list {
        required double element; } } }";
    let uneven = file(schema, Codec::SNAPPY, 1, |_, group| {
        column!(
            group,
            DoubleType,
            &[1.0; 5],
            Some(&[1; 5]),
            Some(&[0, 1, 1, 0, 1])
        );
    });
    let found = refusal(&uneven, DataFormat::Parquet);
    assert!(
        found.starts_with("row 2, column `v`: a list of 2 numbers that hasn't the shape [3]"),
        "{found}"
    );
}

#[test]
fn values_that_no_model_can_use_are_refused_by_row() {
    let infinite = file(
        "message rows { required double x; }",
        Codec::SNAPPY,
        1,
        |_, group| {
            column!(group, DoubleType, &[1.0, f64::INFINITY], None, None);
        },
    );
    let found = refusal(&infinite, DataFormat::Parquet);
    assert!(
        found.starts_with("row 2, column `x`: inf is beyond"),
        "{found}"
    );
    let binary = file(
        "message rows { required binary x; }",
        Codec::SNAPPY,
        1,
        |_, group| {
            let values = [ByteArray::from("ok"), ByteArray::from(vec![0xff])];
            column!(group, ByteArrayType, &values, None, None);
        },
    );
    let found = refusal(&binary, DataFormat::Parquet);
    assert!(
        found.starts_with("row 2, column `x`: the value isn't UTF-8"),
        "{found}"
    );
    let empty = file(
        "message rows { required double x; }",
        Codec::SNAPPY,
        0,
        |_, _| {},
    );
    assert!(refusal(&empty, DataFormat::Parquet).contains("no rows"));
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let whole = kinds(Codec::SNAPPY);
    for cut in [5, 100, whole.len() - 1] {
        let found = refusal(&whole[..cut], DataFormat::Parquet);
        assert!(found.contains("cut off"), "{found}");
    }
    let hint = collected(
        &whole,
        DataFormat::Parquet,
        described(&whole, DataFormat::Parquet).unwrap(),
        &["prise"],
        &Limits::default(),
    );
    assert!(
        hint.unwrap_err()
            .to_string()
            .contains("did you mean `price`?")
    );
}
