//! CSV and text.

use super::*;

const PEOPLE: &str = "name,age,height\r\n\"Ada, \"\"A\"\"\",36,1.5\r\nBob,41,1.75\r\n";

fn schema(text: &str) -> Schema {
    described(text.as_bytes(), DataFormat::Csv).unwrap().schema
}

fn csv_refusal(text: &str) -> String {
    refusal(text.as_bytes(), DataFormat::Csv)
}

#[test]
fn a_csv_is_described_with_statistics() {
    let found = described(PEOPLE.as_bytes(), DataFormat::Csv).unwrap();
    assert!(found.header);
    assert_eq!(found.delimiter, None);
    let schema = found.schema;
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
    let names = schema.columns[0].categories.clone().unwrap();
    assert_eq!(names, ["Ada, \"A\"", "Bob"]);
}

#[test]
fn columns_come_in_the_order_they_are_asked_for() {
    let bytes = gzip(PEOPLE.as_bytes());
    let chunk = all(&bytes, DataFormat::CsvGz, &["height", "name", "age", "age"]);
    assert_eq!(chunk.rows, 2);
    assert_eq!(numbers(&chunk, 0), [1.5, 1.75]);
    assert_eq!(texts(&chunk, 1), ["Ada, \"A\"", "Bob"]);
    assert_eq!(numbers(&chunk, 2), [36.0, 41.0]);
    assert_eq!(chunk.columns[2], chunk.columns[3]);
}

#[test]
fn a_first_row_with_a_number_is_no_header() {
    let found = described(b"1,x\n2,y\n3,4\n", DataFormat::Csv).unwrap();
    assert!(!found.header);
    assert_eq!(found.schema.rows, 3);
    assert_eq!(found.schema.columns[1].name, "column_1");
    assert_eq!(found.schema.columns[1].kind, ColumnKind::Text);
    let limits = Limits::default();
    let forced = describe(boxed(b"1,x\n2,3\n"), DataFormat::Csv, Header::Yes, &limits).unwrap();
    assert!(forced.header);
    assert_eq!(forced.schema.rows, 1);
    assert_eq!(forced.schema.columns[0].name, "1");
}

#[test]
fn a_byte_order_mark_and_blank_lines_are_no_content() {
    let text = b"\xef\xbb\xbf\n\r\na,b\n\n1,2\n\r\n3,4\n\n";
    let found = described(text, DataFormat::Csv).unwrap();
    assert!(found.header);
    assert_eq!(found.schema.columns[0].name, "a");
    assert_eq!(found.schema.rows, 2);
    assert_eq!(numbers(&all(text, DataFormat::Csv, &["a"]), 0), [1.0, 3.0]);
    assert_eq!(
        csv_refusal("\n\na,b\n\n1,2\n1\n"),
        "row 6: 1 fields where the first row has 2; \
        put a field that holds the delimiter in quotation marks"
    );
}

#[test]
fn whole_numbers_are_integers_however_they_are_written() {
    let schema = schema("a,b\n1.0,0.5\n2e0,1\n");
    assert_eq!(schema.columns[0].kind, ColumnKind::Integer);
    assert_eq!(schema.columns[1].kind, ColumnKind::Float);
}

#[test]
fn missing_values_are_counted() {
    let text = "a,b,c\n1,x,\nNA,?,\n,,\n4,NA,\n\"\" ,z,\n";
    let schema = schema(text);
    let missing: Vec<_> = schema.columns.iter().map(|c| c.missing).collect();
    assert_eq!(missing, [3, 1, 5]);
    assert_eq!(schema.columns[0].statistics.clone().unwrap().mean, 2.5);
    assert_eq!(schema.columns[1].kind, ColumnKind::Text);
    let chunk = all(text.as_bytes(), DataFormat::Csv, &["a", "b", "c"]);
    let nan = f64::NAN;
    same(numbers(&chunk, 0), &[1.0, nan, nan, 4.0, nan]);
    assert_eq!(texts(&chunk, 1), ["x", "?", "", "NA", "z"]);
    assert_eq!(texts(&chunk, 2), [""; 5]);
}

#[test]
fn other_delimiters_and_typed_headers_are_found() {
    let ratings = b"user_id:token\titem_id:token\trating:float\n1\t2\t3.5\n4\t5\t1\n";
    let found = described(ratings, DataFormat::Csv).unwrap();
    assert_eq!((found.delimiter, found.header), (Some('\t'), true));
    assert_eq!(found.schema.columns[2].name, "rating:float");
    let chunk = all(ratings, DataFormat::Csv, &["rating:float"]);
    assert_eq!(numbers(&chunk, 0), [3.5, 1.0]);
    let found = described(b"1;2\n3;4\n", DataFormat::Csv).unwrap();
    assert_eq!(found.delimiter, Some(';'));
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
            "row 1234, column `pixel_3`: \"abc\" is not a number; correct it",
        ),
        (
            "1,\"2,5\",3",
            "row 1234, column `pixel_2`: \"2,5\" is not a number; write decimals with a point",
        ),
        ("1,2", "row 1234: 2 fields where the first row has 3"),
        ("1,2,3,4", "row 1234: 4 fields where the first row has 3"),
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
    assert!(csv_refusal("a,b\n1,2\n3,x\ny,4\n5,6\n7,8\n").starts_with("row 3, column `b`"));
}

#[test]
fn headers_that_name_nothing_are_refused() {
    for (text, message) in [
        (
            "a,a\n1,2\n",
            "row 1: two columns have the name `a`; rename one",
        ),
        ("a,b\n", "no rows"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\r1,2\r3,4\r", "save the file with line feeds"),
    ] {
        let found = csv_refusal(text);
        assert!(found.contains(message), "{text:?}: {found}");
    }
    let long = format!("{}\n1\n", "x".repeat(300));
    assert!(csv_refusal(&long).contains("at most 256"));
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let text = "a,b\n\n\"x\ny\",1\r\n\r\nz,2\nz,oops\nz,3\nz,4";
    let found = csv_refusal(text);
    assert!(found.starts_with("row 7, column `b`"), "{found}");
    assert_eq!(schema(&text.replace("oops", "9")).rows, 5);
}

#[test]
fn quotation_marks_are_read_as_spreadsheets_write_them() {
    let text = "a,b\n\"x, \"\"y\"\"\nz\",1\n5\" pipe,2\n\"a\"b,3\n\"\",4\n";
    let chunk = all(text.as_bytes(), DataFormat::Csv, &["a", "b"]);
    assert_eq!(texts(&chunk, 0), ["x, \"y\"\nz", "5\" pipe", "ab", ""]);
    assert_eq!(numbers(&chunk, 1), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn counting_stops_where_it_would_cost_too_much() {
    let mut csv = String::from("few,many\n");
    (0..70_000).for_each(|i| csv.push_str(&format!("{},{}\n", i % 7, i * 3 - 1000)));
    let schema = schema(&csv);
    let distinct = |name: &str| {
        let column = schema.column(name).unwrap();
        assert_eq!(column.kind, ColumnKind::Integer);
        column.statistics.as_ref().unwrap().distinct
    };
    assert_eq!((distinct("few"), distinct("many")), (Some(7), None));
}

/// A CSV of several blocks, some of its fields with line feeds in them.
fn long_csv() -> (String, Vec<f64>, Vec<String>) {
    let mut csv = String::from("number,text\n");
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for i in 0..120_000_u32 {
        let number = f64::from(i) * 0.37 - 1000.0;
        let text = match i % 5 {
            0 => format!("line\n{i}"),
            1 => "say \"yes\", or no".to_owned(),
            _ => format!("plain {}", i % 3),
        };
        csv.push_str(&format!("{number},\"{}\"\n", text.replace('"', "\"\"")));
        numbers.push(number);
        texts.push(text);
    }
    (csv, numbers, texts)
}

#[test]
fn blocks_and_threads_change_nothing() {
    let (csv, expected, expected_texts) = long_csv();
    let bytes = csv.as_bytes();
    let mut before = None;
    for threads in [1, 2, 5] {
        let limits = Limits {
            threads,
            ..Limits::default()
        };
        let found = describe(boxed(bytes), DataFormat::Csv, Header::Auto, &limits).unwrap();
        let names = ["text", "number"];
        let chunk = collected(bytes, DataFormat::Csv, found.clone(), &names, &limits).unwrap();
        assert_eq!(numbers(&chunk, 1), expected);
        assert_eq!(texts(&chunk, 0), expected_texts);
        assert_eq!(*before.get_or_insert(found.clone()), found);
    }
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    let found = before.unwrap().schema.columns[0]
        .statistics
        .clone()
        .unwrap();
    assert!((found.mean - mean).abs() < 1e-9 * mean.abs());
}

#[test]
fn an_error_far_into_the_file_names_its_line() {
    let (csv, ..) = long_csv();
    let lines = csv.matches('\n').count() as u64;
    let found = csv_refusal(&(csv + "oops,x\n"));
    assert!(
        found.starts_with(&format!("row {}, column `number`: \"oops\"", lines + 1)),
        "{found}"
    );
}

#[test]
fn a_text_has_a_row_per_line() {
    let text = "In the beginning\r\n\nGod created\n";
    for (bytes, format) in [
        (text.as_bytes().to_vec(), DataFormat::Text),
        (gzip(text.as_bytes()), DataFormat::TextGz),
    ] {
        let schema = described(&bytes, format).unwrap().schema;
        assert_eq!((schema.rows, schema.columns[0].missing), (3, 0));
        let chunk = all(&bytes, format, &["text"]);
        assert_eq!(texts(&chunk, 0), ["In the beginning", "", "God created"]);
    }
    let many = "a line\n".repeat(200_000);
    let chunk = all(many.as_bytes(), DataFormat::Text, &["text"]);
    assert_eq!(chunk.rows, 200_000);
}

#[test]
fn a_tokenizer_has_a_row_for_each_id() {
    let bytes = crate::tokenizer::SAMPLE.as_bytes();
    let chunk = all(bytes, DataFormat::Tokenizer, &["token"]);
    let Values::Texts(texts) = &chunk.columns[0].values else {
        panic!("texts")
    };
    let expected = ["[PAD]", "[UNK]", "[CLS]", "red", "", "blue"];
    assert!(texts.iter().eq(expected), "{texts:?}");
    for broken in ["{}", "[1", "{\"model\": {\"type\": \"BPE\"}}"] {
        let found = describe(
            boxed(broken.as_bytes()),
            DataFormat::Tokenizer,
            Header::Auto,
            &Limits::default(),
        );
        let message = found.unwrap_err().to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
    }
}

#[test]
fn a_tokenizer_that_grows_texts_or_goes_by_chance_is_refused() {
    let sample = crate::tokenizer::SAMPLE;
    let replace = r#"{"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaa"}"#;
    let sequence = |steps: usize| {
        let steps = vec![replace; steps].join(", ");
        format!(r#"{{"type": "Sequence", "normalizers": [{steps}]}}"#)
    };
    let lower = r#"{"type": "Lowercase"}"#;
    let marks = r#""ids": [2]"#;
    let found = |from: &str, to: &str| {
        assert!(sample.contains(from), "{from}");
        let text = sample.replace(from, to);
        describe(
            boxed(text.as_bytes()),
            DataFormat::Tokenizer,
            Header::Auto,
            &Limits::default(),
        )
        .map_err(|error| error.to_string())
    };
    assert!(found(lower, &sequence(2)).is_ok(), "64-fold");
    for (from, to, part) in [
        (lower, sequence(3), "64-fold"),
        (lower, sequence(9), "64-fold"),
        (
            lower,
            format!(r#"{{"type": "Prepend", "prepend": "{}"}}"#, "x".repeat(64)),
            "64-fold",
        ),
        (marks, r#""ids": [999999]"#.to_owned(), "id 999999"),
        (
            r#""type": "WordLevel","#,
            r#""type": "WordLevel", "dropout": 0.5,"#.to_owned(),
            "by chance",
        ),
    ] {
        let message = found(from, &to).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}
