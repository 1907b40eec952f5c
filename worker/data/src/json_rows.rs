//! Rows that come as JSON objects, to be predicted.

use serde_json::{Map, Value};
use stoker_domain::dataset::{Column, ColumnKind};

use crate::chunk::{Chunk, ChunkColumn, Texts, Values};
use crate::error::{DataError, shown};
use crate::images::decode_picture;

/// Some columns of rows, each a value by the name of its column: a number, nested arrays of the
/// column's shape, a text, or a PNG or JPEG in base64. What is absent or null is missing.
///
/// # Errors
/// [`DataError::Record`]: a value that isn't of the column's kind.
pub fn chunk_of_json(columns: &[&Column], rows: &[Map<String, Value>]) -> Result<Chunk, DataError> {
    let columns = columns.iter().map(|column| {
        let values = rows
            .iter()
            .map(|row| row.get(&column.name).unwrap_or(&Value::Null));
        let values = (1..).zip(values);
        let wrong = |row: u64, message: String| DataError::record(row, &column.name, message);
        let values = match column.kind {
            ColumnKind::Text => {
                let texts = values.map(|(row, value)| {
                    text(value).ok_or_else(|| {
                        wrong(row, format!("{} is not a text", shown(&value.to_string())))
                    })
                });
                Values::Texts(texts.collect::<Result<Texts, _>>()?)
            }
            ColumnKind::Integer | ColumnKind::Float => {
                let mut numbers = Vec::new();
                for (row, value) in values {
                    push(value, &column.shape, &mut numbers)
                        .map_err(|message| wrong(row, message))?;
                }
                Values::Numbers(numbers)
            }
            ColumnKind::Image => {
                let decode = |(row, value): (u64, &Value)| {
                    let text = value.as_str().unwrap_or_default();
                    let bytes = data_encoding::BASE64
                        .decode(text.as_bytes())
                        .map_err(|error| {
                            wrong(row, format!("a picture in base64 is needed: {error}"))
                        })?;
                    decode_picture(&bytes).map_err(|message| wrong(row, message))
                };
                Values::Pictures(values.map(decode).collect::<Result<_, _>>()?)
            }
        };
        Ok(ChunkColumn {
            name: column.name.clone(),
            shape: column.shape.clone(),
            values,
        })
    });
    Ok(Chunk {
        first_row: 0,
        rows: rows.len(),
        columns: columns.collect::<Result<_, DataError>>()?,
    })
}

/// A text, also of a number that a text column holds; none of lists and objects.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// Appends the numbers of a value of this shape.
fn push(value: &Value, shape: &[u32], into: &mut Vec<f64>) -> Result<(), String> {
    let width: usize = shape.iter().map(|&extent| extent as usize).product();
    match (value, shape) {
        (Value::Null, _) => into.extend(std::iter::repeat_n(f64::NAN, width)),
        (Value::Number(number), []) => into.push(number.as_f64().unwrap_or(f64::NAN)),
        (Value::Bool(flag), []) => into.push(f64::from(u8::from(*flag))),
        (Value::Array(values), [extent, inner @ ..]) if values.len() == *extent as usize => {
            for value in values {
                push(value, inner, into)?;
            }
        }
        (other, []) => {
            return Err(format!("{} is not a number", shown(&other.to_string())));
        }
        (other, shape) => {
            let text = other.to_string();
            return Err(format!(
                "{} is not an array of shape {shape:?}",
                shown(&text)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_list_and_no_object() {
        let column: Column = serde_json::from_value(serde_json::json!({
            "name": "word", "kind": "text", "shape": []
        }))
        .unwrap();
        let row = |value: Value| Map::from_iter([("word".to_owned(), value)]);
        let good = [row("a".into()), row(5.into()), Map::new()];
        let chunk = chunk_of_json(&[&column], &good).unwrap();
        let Values::Texts(texts) = &chunk.columns[0].values else {
            panic!("not texts");
        };
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["a", "5", ""]);
        let wrong = [row("a".into()), row(serde_json::json!(["a"]))];
        let error = chunk_of_json(&[&column], &wrong).unwrap_err().to_string();
        assert!(
            error.contains("row 2") && error.contains("is not a text"),
            "{error}"
        );
    }
}
