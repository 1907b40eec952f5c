//! JSON lines.

use super::*;

const ROWS: &str = r#"{"id": 1, "name": "Ada", "ok": true, "at": [[1, 2], [3, 4.5]]}

{"name": "Bob", "id": null, "new": 7}
{"id": 3, "ok": false, "at": [[0, null], [1, 1]], "name": "Ada"}
"#;

fn jsonl_refusal(text: &str) -> String {
    refusal(text.as_bytes(), DataFormat::Jsonl)
}

#[test]
fn columns_are_all_the_names_in_the_order_they_appear() {
    let schema = described(ROWS.as_bytes(), DataFormat::Jsonl)
        .unwrap()
        .schema;
    assert_eq!(schema.rows, 3);
    let names: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "name", "ok", "at", "new"]);
    let missing: Vec<_> = schema.columns.iter().map(|c| c.missing).collect();
    assert_eq!(missing, [1, 0, 1, 2, 2]);
    assert_eq!(
        schema.columns[1].categories.clone().unwrap(),
        ["Ada", "Bob"]
    );
    assert_eq!(schema.columns[3].shape, [2, 2]);
    assert_eq!(schema.columns[3].kind, ColumnKind::Float);
    assert_eq!(schema.columns[2].kind, ColumnKind::Integer);
    let bytes = gzip(ROWS.as_bytes());
    let chunk = all(
        &bytes,
        DataFormat::JsonlGz,
        &["at", "name", "ok", "id", "new"],
    );
    let nan = f64::NAN;
    same(
        numbers(&chunk, 0),
        &[1.0, 2.0, 3.0, 4.5, nan, nan, nan, nan, 0.0, nan, 1.0, 1.0],
    );
    assert_eq!(texts(&chunk, 1), ["Ada", "Bob", "Ada"]);
    same(numbers(&chunk, 2), &[1.0, nan, 0.0]);
    same(numbers(&chunk, 3), &[1.0, nan, 3.0]);
    same(numbers(&chunk, 4), &[nan, 7.0, nan]);
}

#[test]
fn lines_that_are_wrong_are_named() {
    for (line, message) in [
        (
            "{\"a\": \"x\"}",
            "row 2, column `a`: a string where row 1 has a number",
        ),
        (
            "{\"a\": [1]}",
            "row 2, column `a`: a list of shape [1] where row 1 has a number",
        ),
        (
            "{\"b\": [1, [2]]}",
            "row 2, column `b`: lists of different lengths",
        ),
        ("{\"b\": [\"x\"]}", "row 2, column `b`: a string in a list"),
        (
            "{\"b\": []}",
            "row 2, column `b`: an empty list; write null",
        ),
        (
            "{\"b\": {\"c\": 1}}",
            "row 2, column `b`: an object inside the object",
        ),
        (
            "{\"a\": 1, \"a\": 2}",
            "row 2, column `a`: the line has the name twice",
        ),
        ("{\"a\": 1e39}", "row 2, column `a`: 1000000"),
        (
            "{\"a\": NaN}",
            "row 2: NaN and Infinity at character 7 aren't JSON; write null",
        ),
        (
            "{\"a\": 1",
            "row 2: the line isn't JSON: EOF while parsing an object at character 7",
        ),
        (
            "{\"a\": 1} x",
            "row 2: the line isn't JSON: trailing characters at character 10",
        ),
        ("[1, 2]", "row 2: a line has to be a JSON object"),
        ("1", "row 2: a line has to be a JSON object"),
    ] {
        let text = format!("{{\"a\": 1}}\n{line}\n");
        let found = jsonl_refusal(&text);
        assert!(found.starts_with(message), "{line}: {found}");
    }
    assert!(jsonl_refusal("{}\n").contains("no values"));
    assert!(jsonl_refusal("\n").contains("no rows"));
}

#[test]
fn rows_far_apart_must_agree() {
    let mut text = "{\"a\": 1, \"b\": [1, 2]}\n".repeat(60_000);
    let schema = described(text.as_bytes(), DataFormat::Jsonl)
        .unwrap()
        .schema;
    assert_eq!(schema.rows, 60_000);
    assert_eq!(all(text.as_bytes(), DataFormat::Jsonl, &["b"]).rows, 60_000);
    text.push_str("{\"b\": [1]}\n");
    let found = jsonl_refusal(&text);
    assert!(
        found.starts_with("row 60001, column `b`: a list of shape [1] where row "),
        "{found}"
    );
}

#[test]
fn columns_that_few_rows_have_take_no_memory_for_the_others() {
    // 8,000 columns, and 20,000 lines that name none of them: 1.3 GB as numbers.
    let mut text: String = (0..8_000).map(|i| format!("{{\"c{i}\": 1}}\n")).collect();
    text.push_str(&"{}\n".repeat(20_000));
    let found = described(text.as_bytes(), DataFormat::Jsonl).unwrap();
    let layout = Layout {
        format: DataFormat::Jsonl,
        header: false,
        delimiter: None,
        schema: Some(found.schema.clone()),
    };
    let names: Vec<String> = (0..8_000).map(|i| format!("c{i}")).collect();
    let chunks = read(boxed(text.as_bytes()), &layout, &names, &Limits::default()).unwrap();
    let mut rows = 0;
    for chunk in chunks.take(20) {
        let chunk = chunk.unwrap();
        rows += chunk.rows;
        let values: usize = chunk.columns.iter().map(|c| c.values.size_bytes()).sum();
        assert!(values <= 4 << 20, "{values}");
    }
    assert!(rows > 500);
}
