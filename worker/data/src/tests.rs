use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use stoker_domain::ErrorCode;
use stoker_domain::dataset::ColumnKind;
use zip::write::SimpleFileOptions;

use super::*;

fn described(bytes: &[u8], format: DataFormat) -> Result<(Schema, bool), DataError> {
    describe(
        &mut Cursor::new(bytes),
        format,
        Header::Auto,
        &Limits::default(),
    )
}

fn refusal(bytes: &[u8], format: DataFormat) -> String {
    described(bytes, format).unwrap_err().to_string()
}

fn columns(bytes: &[u8], format: DataFormat, header: bool, names: &[&str]) -> Table {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let source = &mut Cursor::new(bytes);
    read_columns(source, format, header, &names, &Limits::default()).unwrap()
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

const PEOPLE: &str = "name,age,height\r\n\"Ada, \"\"A\"\"\",36,1.5\r\nBob,41,1.75\r\n";

#[test]
fn a_csv_is_described_with_statistics() {
    let (schema, header) = described(PEOPLE.as_bytes(), DataFormat::Csv).unwrap();
    assert!(header);
    assert_eq!(schema.rows, 2);
    let kinds: Vec<_> = schema.columns.iter().map(|c| c.kind).collect();
    assert_eq!(
        kinds,
        [ColumnKind::Text, ColumnKind::Integer, ColumnKind::Float]
    );
    let age = schema.column("age").unwrap().statistics.clone().unwrap();
    assert_eq!((age.min, age.max, age.mean), (36.0, 41.0, 38.5));
    assert_eq!((age.deviation, age.distinct), (2.5, Some(2)));
    let height = schema.column("height").unwrap().statistics.clone().unwrap();
    assert_eq!((height.mean, height.distinct), (1.625, None));
    assert_eq!(schema.columns[0].statistics, None);
}

#[test]
fn columns_come_in_the_order_they_were_asked_for() {
    let bytes = gzip(PEOPLE.as_bytes());
    let table = columns(&bytes, DataFormat::CsvGz, true, &["height", "age"]);
    assert_eq!(table.rows, 2);
    assert_eq!(table.columns[0].values, [1.5, 1.75]);
    assert_eq!(table.columns[1].values, [36.0, 41.0]);
    assert_eq!(
        (table.columns[1].width, table.columns[1].shape.len()),
        (1, 0)
    );
}

#[test]
fn a_first_row_with_a_number_is_no_header() {
    let (schema, header) = described(b"1,x\n2,y\n3,4\n", DataFormat::Csv).unwrap();
    assert!(!header);
    assert_eq!(schema.rows, 3);
    assert_eq!(schema.columns[1].name, "column_1");
    assert_eq!(schema.columns[1].kind, ColumnKind::Text);
    let forced = describe(
        &mut Cursor::new(b"1,x\n2,3\n"),
        DataFormat::Csv,
        Header::Yes,
        &Limits::default(),
    );
    let (schema, header) = forced.unwrap();
    assert!(header);
    assert_eq!((schema.rows, schema.columns[0].name.as_str()), (1, "1"));
}

#[test]
fn a_byte_order_mark_and_blank_lines_are_no_content() {
    let (schema, header) =
        described(b"\xef\xbb\xbfa,b\n\n1,2\n\n3,4\n\n", DataFormat::Csv).unwrap();
    assert!(header);
    assert_eq!(schema.columns[0].name, "a");
    assert_eq!(schema.rows, 2);
}

#[test]
fn whole_numbers_are_integers_however_they_are_written() {
    let (schema, _) = described(b"a,b\n1.0,0.5\n2e0,1\n", DataFormat::Csv).unwrap();
    assert_eq!(schema.columns[0].kind, ColumnKind::Integer);
    assert_eq!(schema.columns[1].kind, ColumnKind::Float);
}

/// A CSV of 2,000 lines whose line 1,234 is `broken`.
fn broken_in_line_1234(line_end: &str, broken: &str) -> String {
    let mut lines = vec!["pixel_1,pixel_2,pixel_3".to_owned()];
    lines.extend((2..=2000).map(|i| format!("{i},0.5,7")));
    lines[1233] = broken.to_owned();
    lines.join(line_end) + line_end
}

#[test]
fn a_broken_record_names_its_line_and_column() {
    let cases = [
        (
            "1,2,abc",
            "row 1234, column `pixel_3`: \"abc\" is not a number",
        ),
        (
            "1,,3",
            "row 1234, column `pixel_2`: there is no value; a number is needed",
        ),
        ("1,2", "row 1234: 2 fields where the first row has 3"),
        ("1,2,3,4", "row 1234: 4 fields where the first row has 3"),
        (
            "1,nan,3",
            "row 1234, column `pixel_2`: NaN is not a number that can be trained on",
        ),
        ("1,-inf,3", "row 1234, column `pixel_2`: -inf is beyond"),
        ("1,1e39,3", "row 1234, column `pixel_2`: 1e39 is beyond"),
    ];
    for (broken, message) in cases {
        for line_end in ["\n", "\r\n"] {
            let text = broken_in_line_1234(line_end, broken);
            let error = described(text.as_bytes(), DataFormat::Csv).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput);
            let found = error
                .to_string()
                .replace("1000000000000000000000000000000000000000", "1e39");
            assert!(found.starts_with(message), "{broken:?}: {found}");
        }
    }
}

#[test]
fn the_first_broken_record_is_the_one_named() {
    let text = "a,b\n1,2\n3,x\ny,4\n5,6\n7,8\n";
    assert!(refusal(text.as_bytes(), DataFormat::Csv).starts_with("row 3, column `b`"));
}

#[test]
fn headers_that_name_nothing_are_refused() {
    for (text, message) in [
        ("a,a\n1,2\n", "two columns have the name `a`"),
        ("a,b\n", "no rows"),
        ("", "the file is empty"),
    ] {
        let found = refusal(text.as_bytes(), DataFormat::Csv);
        assert!(found.contains(message), "{text:?}: {found}");
    }
    let long = format!("{}\n1\n", "x".repeat(300));
    assert!(refusal(long.as_bytes(), DataFormat::Csv).contains("at most 256"));
}

#[test]
fn missing_and_text_columns_are_refused_by_name() {
    let read = |name: &str| {
        let source = &mut Cursor::new(PEOPLE);
        let names = [name.to_owned()];
        read_columns(source, DataFormat::Csv, true, &names, &Limits::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        read("hieght"),
        "there is no column `hieght`; did you mean `height`?"
    );
    assert!(read("name").starts_with("row 2, column `name`: \"Ada,"));
}

#[test]
fn limits_hold() {
    let tight = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let wide = format!("{}\n", vec!["1"; 20_000].join(","));
    let open_quote = format!("\"{}", "a".repeat(100_000));
    let zeros = gzip(&vec![b'0'; 1 << 20]);
    let cases = [
        (
            b"1\n2\n3\n".to_vec(),
            DataFormat::Csv,
            tight(|l| l.size_bytes = 5),
            "the file has 6 bytes, at most 5",
        ),
        (
            b"1\n2\n3\n".to_vec(),
            DataFormat::Csv,
            tight(|l| l.rows = 2),
            "more than 2 rows",
        ),
        (
            wide.into_bytes(),
            DataFormat::Csv,
            Limits::default(),
            "20000 columns, at most 16384",
        ),
        (
            open_quote.into_bytes(),
            DataFormat::Csv,
            tight(|l| l.row_bytes = 65_536),
            "quotation mark",
        ),
        (
            zeros,
            DataFormat::CsvGz,
            tight(|l| l.expanded_bytes = 1 << 16),
            "expands to more than 65536",
        ),
        (
            npy("<f4", "False", "(3,)", &floats(&[1.0; 3])),
            DataFormat::Npy,
            tight(|l| l.rows = 2),
            "3 rows, at most 2",
        ),
        (
            npz(&[("a.npy", npy("|u1", "False", "(70000,)", &[0; 70_000]))]),
            DataFormat::Npz,
            tight(|l| l.expanded_bytes = 1 << 16),
            "expands to more",
        ),
    ];
    for (bytes, format, limits, message) in cases {
        let error = describe(&mut Cursor::new(bytes), format, Header::Auto, &limits).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
        assert_eq!(error.code(), ErrorCode::TooLarge, "{message}");
    }
}

#[test]
fn a_gzip_bomb_stops_at_the_ratio() {
    // 256 MiB of zeros in 260 kB, where 200 times that and 64 MiB are allowed.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let mebibyte = vec![b'\n'; 1 << 20];
    (0..256).for_each(|_| encoder.write_all(&mebibyte).unwrap());
    let bomb = encoder.finish().unwrap();
    let limits = Limits {
        row_bytes: u64::MAX,
        ..Limits::default()
    };
    let error = describe(
        &mut Cursor::new(bomb),
        DataFormat::CsvGz,
        Header::Auto,
        &limits,
    );
    assert_eq!(error.unwrap_err().code(), ErrorCode::TooLarge);
}

#[test]
fn values_that_need_too_much_memory_are_refused() {
    let limits = Limits {
        table_bytes: 8,
        ..Limits::default()
    };
    let csv = (b"a\n1\n2\n3\n".to_vec(), DataFormat::Csv, "a");
    let array = npy("<f4", "False", "(3,)", &floats(&[1.0; 3]));
    for (bytes, format, column) in [
        csv,
        (array.clone(), DataFormat::Npy, "array"),
        (npz(&[("a.npy", array)]), DataFormat::Npz, "a"),
    ] {
        let names = [column.to_owned()];
        let error =
            read_columns(&mut Cursor::new(bytes), format, true, &names, &limits).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge, "{format:?}");
    }
}

#[test]
fn a_cut_off_gzip_is_refused() {
    let whole = gzip("1,2\n".repeat(1000).as_bytes());
    let message = refusal(&whole[..whole.len() - 12], DataFormat::CsvGz);
    assert!(message.contains("middle"), "{message}");
    assert!(refusal(PEOPLE.as_bytes(), DataFormat::CsvGz).contains("broken"));
}

#[test]
fn every_type_of_array_is_read() {
    let cases: [(&str, Vec<u8>, [f32; 2]); 12] = [
        ("<f4", floats(&[1.5, -2.0]), [1.5, -2.0]),
        (
            ">f8",
            [1.5_f64, -2.0]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
            [1.5, -2.0],
        ),
        ("|i1", vec![1, 0xff], [1.0, -1.0]),
        ("<i2", vec![1, 0, 0xfe, 0xff], [1.0, -2.0]),
        (">i2", vec![0, 1, 0xff, 0xfe], [1.0, -2.0]),
        ("<i4", vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], [1.0, -1.0]),
        (
            "<i8",
            [3_i64, -4].iter().flat_map(|v| v.to_le_bytes()).collect(),
            [3.0, -4.0],
        ),
        ("|u1", vec![1, 255], [1.0, 255.0]),
        ("<u2", vec![1, 0, 0, 1], [1.0, 256.0]),
        ("<u4", vec![1, 0, 0, 0, 0, 0, 1, 0], [1.0, 65536.0]),
        (
            "<u8",
            [3_u64, 4].iter().flat_map(|v| v.to_le_bytes()).collect(),
            [3.0, 4.0],
        ),
        ("|b1", vec![0, 1], [0.0, 1.0]),
    ];
    for (descr, values, expected) in cases {
        let bytes = npy(descr, "False", "(2,)", &values);
        let (schema, _) = described(&bytes, DataFormat::Npy).unwrap();
        assert_eq!((schema.rows, schema.columns[0].shape.len()), (2, 0));
        let table = columns(&bytes, DataFormat::Npy, false, &["array"]);
        assert_eq!(table.columns[0].values, expected, "{descr}");
    }
}

#[test]
fn both_orders_of_an_array_give_the_same_rows() {
    // Rows [[0, 1, 2], [3, 4, 5]].
    let c = npy("<f4", "False", "(2, 3)", &floats(&[0., 1., 2., 3., 4., 5.]));
    let fortran = npy("<f4", "True", "(2, 3)", &floats(&[0., 3., 1., 4., 2., 5.]));
    let expected = columns(&c, DataFormat::Npy, false, &["array"]);
    assert_eq!(expected.columns[0].values, [0., 1., 2., 3., 4., 5.]);
    assert_eq!(expected.columns[0].shape, [3]);
    assert_eq!(
        columns(&fortran, DataFormat::Npy, false, &["array"]),
        expected
    );
    let nan = npy("<f4", "True", "(2, 2)", &floats(&[0., f32::NAN, 0., 0.]));
    assert!(refusal(&nan, DataFormat::Npy).starts_with("row 2, column `array`: NaN"));
}

#[test]
fn an_archive_gives_a_column_per_array() {
    let x = npy("<f4", "False", "(2, 1, 2)", &floats(&[1., 2., 3., 4.]));
    let y = npy("<i8", "False", "(2,)", &[0; 16]);
    let bytes = npz(&[("x.npy", x), ("y.npy", y.clone())]);
    let (schema, header) = described(&bytes, DataFormat::Npz).unwrap();
    assert!(!header);
    assert_eq!(schema.rows, 2);
    assert_eq!(schema.column("x").unwrap().shape, [1, 2]);
    assert_eq!(schema.column("y").unwrap().kind, ColumnKind::Integer);
    let table = columns(&bytes, DataFormat::Npz, false, &["y", "x"]);
    assert_eq!(table.columns[1].values, [1., 2., 3., 4.]);
    assert_eq!(table.columns[1].width, 2);

    let uneven = npz(&[
        ("y.npy", y),
        ("z.npy", npy("|u1", "False", "(3,)", &[1; 3])),
    ]);
    let message = refusal(&uneven, DataFormat::Npz);
    assert!(message.contains("has 2 rows, `z` has 3"), "{message}");
    let other = npz(&[("readme.txt", vec![])]);
    assert!(refusal(&other, DataFormat::Npz).contains("\"readme.txt\""));
}

#[test]
fn arrays_that_lie_are_refused() {
    let values = floats(&[1.0; 4]);
    let cases = [
        (
            npy("|O", "False", "(4,)", &values),
            "type \"|O\" can't be read",
        ),
        (npy("<f2", "False", "(8,)", &values), "\"<f2\""),
        (
            npy("<f4", "False", "(500,)", &[]),
            "more bytes than the file",
        ),
        (
            npy("<f4", "False", "(4,)", &values[..15]),
            "ends in the middle",
        ),
        (
            npy("<f4", "False", "(3,)", &values),
            "after the array's last",
        ),
        (npy("<f4", "False", "()", &values[..4]), "no rows"),
        (npy("<f4", "False", "(0, 4)", &[]), "is empty"),
        (
            npy("<f4", "False", "(4294967, 4294967295, 429496729)", &[]),
            "more bytes than the file",
        ),
        (npy("<f4", "False", "(2, 4294967296)", &[]), "too large"),
        (npy("<f4", "Maybe", "(4,)", &values), "not an NPY header"),
        (npy("<f4", "False", "(4,,)", &values), "not an NPY header"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9"),
        (b"PK".to_vec(), "not an NPY file"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            "4294967295 bytes, at most 10000",
        ),
    ];
    for (bytes, message) in cases {
        // A file this short may claim no more than its own size.
        let found = refusal(&bytes, DataFormat::Npy);
        assert!(found.contains(message), "{message}: {found}");
    }
    let header = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n";
    let mut structured = b"\x93NUMPY\x01\x00".to_vec();
    structured.extend((header.len() as u16).to_le_bytes());
    structured.extend(header.as_bytes());
    let found = refusal(&structured, DataFormat::Npy);
    assert!(found.contains("can't be read"), "{found}");
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let text = "a,b\n\n\"x\ny\",1\r\n\r\nz,2\nz,oops\nz,3\nz,4";
    let found = refusal(text.as_bytes(), DataFormat::Csv);
    assert!(found.starts_with("row 7, column `b`"), "{found}");
    let (schema, _) = described(&text.replace("oops", "9").into_bytes(), DataFormat::Csv).unwrap();
    assert_eq!(schema.rows, 5);
}

#[test]
fn counting_stops_where_it_would_cost_too_much() {
    let mut csv = String::from("few,many\n");
    (0..70_000).for_each(|i| csv.push_str(&format!("{},{}\n", i % 7, i * 3 - 1000)));
    let (schema, _) = described(csv.as_bytes(), DataFormat::Csv).unwrap();
    let distinct = |name: &str| {
        let column = schema.column(name).unwrap();
        assert_eq!(column.kind, ColumnKind::Integer);
        column.statistics.as_ref().unwrap().distinct
    };
    assert_eq!((distinct("few"), distinct("many")), (Some(7), None));
}

const FORMATS: [DataFormat; 4] = [
    DataFormat::Csv,
    DataFormat::CsvGz,
    DataFormat::Npy,
    DataFormat::Npz,
];

fn small() -> Limits {
    Limits {
        expanded_bytes: 1 << 20,
        table_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// Reads whatever `bytes` are in every format; nothing may panic, and what is described must be
/// readable.
fn survives(bytes: &[u8]) {
    for format in FORMATS {
        let source = &mut Cursor::new(bytes);
        let Ok((schema, header)) = describe(source, format, Header::Auto, &small()) else {
            continue;
        };
        let numeric = schema.columns.iter().filter(|c| c.kind != ColumnKind::Text);
        let names: Vec<_> = numeric.map(|c| c.name.clone()).collect();
        let table = read_columns(source, format, header, &names, &small()).unwrap();
        assert_eq!(table.rows as u64, schema.rows);
        for column in &table.columns {
            assert_eq!(column.values.len(), table.rows * column.width);
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        survives(&bytes);
    }

    #[test]
    fn garbage_that_looks_like_csv_never_panics(text in "[0-9a,\"\r\n. \\-e]{0,200}") {
        survives(text.as_bytes());
        survives(&gzip(text.as_bytes()));
    }

    #[test]
    fn damaged_arrays_never_panic(at in 0_usize..120, byte: u8, cut in 0_usize..160) {
        let array = npy("<f4", "True", "(2, 3)", &floats(&[0., 3., 1., 4., 2., 5.]));
        for mut bytes in [array.clone(), npz(&[("x.npy", array)])] {
            let at = at % bytes.len();
            bytes[at] = byte;
            survives(&bytes);
            bytes.truncate(cut);
            survives(&bytes);
        }
    }

    #[test]
    fn headers_of_any_text_never_panic(header in "[{}\\[\\]()',:<f4a-z 0-9]{0,120}") {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        survives(&bytes);
    }

    #[test]
    fn a_table_survives_the_round_trip(
        rows in prop::collection::vec(prop::collection::vec(-1e6_f32..1e6, 3), 1..20),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            .collect();
        let text = lines.join("\n");
        let table = columns(text.as_bytes(), DataFormat::Csv, false, &["column_0", "column_1", "column_2"]);
        for (index, column) in table.columns.iter().enumerate() {
            let expected: Vec<f32> = rows.iter().map(|row| row[index]).collect();
            prop_assert_eq!(&column.values, &expected);
        }
    }
}
