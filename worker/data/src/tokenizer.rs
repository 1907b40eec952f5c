//! A tokenizer of the library `tokenizers`, as its `tokenizer.json`: a row per id.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use stoker_domain::dataset::{Column, ColumnKind, Schema};
use tokenizers::Tokenizer;

use crate::Limits;
use crate::chunk::{ChunkColumn, Texts, Values};
use crate::chunks::{Inner, split};
use crate::error::DataError;

/// Name of the column.
const COLUMN: &str = "token";
/// Largest file.
const SIZE_MAX_BYTES: u64 = 64 << 20;
/// Most ids.
const IDS_MAX: usize = 1 << 20;
/// Most that its normalizers may lengthen a text, as a factor.
const GROWTH_MAX: usize = 64;
/// Longest text that a tokenizer is given, in bytes: it holds some times as much.
pub(crate) const TEXT_MAX_BYTES: usize = 4 << 20;
/// What a tokenizer must get through before it is taken.
const PROBES: [&str; 4] = ["", " ", "Hello, world 123!\n", "Grüße, 世界 🙂\u{0}\u{301}"];

/// As [`crate::describe`].
pub(crate) fn describe(source: impl Read, limits: &Limits) -> Result<Schema, DataError> {
    let tokens = tokens(&load(&read_all(source, limits)?)?)?;
    let column = Column {
        name: COLUMN.to_owned(),
        kind: ColumnKind::Text,
        shape: Vec::new(),
        statistics: None,
        missing: 0,
        categories: None,
    };
    Ok(Schema {
        rows: tokens.len() as u64,
        columns: vec![column],
    })
}

/// As [`crate::read`].
pub(crate) fn read<'a>(
    source: impl Read,
    columns: &[String],
    limits: &Limits,
) -> Result<Inner<'a>, DataError> {
    if let Some(other) = columns.iter().find(|name| *name != COLUMN) {
        return Err(DataError::no_column(other, [COLUMN]));
    }
    let tokens = tokens(&load(&read_all(source, limits)?)?)?;
    let rows = tokens.len();
    let column = ChunkColumn {
        name: COLUMN.to_owned(),
        shape: Vec::new(),
        values: Values::Texts(tokens),
    };
    Ok(Box::new(split(vec![column], rows).into_iter().map(Ok)))
}

/// A tokenizer that was found to work, without what it does about the length of texts: rows are cut
/// and filled by the step that uses it.
pub(crate) fn load(bytes: &[u8]) -> Result<Tokenizer, DataError> {
    check(bytes)?;
    // The library panics on some files.
    let loaded = catch_unwind(AssertUnwindSafe(|| -> tokenizers::Result<Tokenizer> {
        let mut tokenizer = Tokenizer::from_bytes(bytes)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        let ids = tokenizer.get_vocab_size(true);
        for probe in PROBES {
            let encoding = tokenizer.encode_fast(probe, true)?;
            let mut beyond = encoding
                .get_ids()
                .iter()
                .filter(|id| tokenizer.id_to_token(**id).is_none());
            if let Some(id) = beyond.next() {
                return Err(
                    format!("it makes the id {id}, which none of its {ids} tokens has").into(),
                );
            }
        }
        Ok(tokenizer)
    }));
    match loaded {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(broken(&"the library `tokenizers` fails on it")),
    }
}

/// Refuses what would make ids of chance, or texts without bound.
fn check(bytes: &[u8]) -> Result<(), DataError> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    let dropout = file.pointer("/model/dropout");
    if dropout.is_some_and(|dropout| !dropout.is_null()) {
        return Err(broken(
            &"`model.dropout` makes ids by chance; set it to null",
        ));
    }
    if growth(file.get("normalizer").unwrap_or(&Value::Null)) > GROWTH_MAX {
        return Err(broken(&format_args!(
            "its normalizers may lengthen a text more than {GROWTH_MAX}-fold"
        )));
    }
    Ok(())
}

/// How much a normalizer may lengthen a text by what it puts in, at most, as a factor.
fn growth(normalizer: &Value) -> usize {
    let put_in = |field: &str| {
        let text = normalizer.get(field).and_then(Value::as_str);
        1 + text.map_or(0, str::len)
    };
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Replace") => put_in("content"),
        Some("Prepend") => put_in("prepend"),
        _ => {
            let steps = normalizer.get("normalizers").and_then(Value::as_array);
            let factors = steps.into_iter().flatten().map(growth);
            factors.fold(1, usize::saturating_mul)
        }
    }
}

fn broken(what: &dyn std::fmt::Display) -> DataError {
    DataError::Malformed(format!(
        "this is not a tokenizer.json of the library `tokenizers`: {what}"
    ))
}

fn read_all(source: impl Read, limits: &Limits) -> Result<Vec<u8>, DataError> {
    let most = SIZE_MAX_BYTES.min(limits.size_bytes);
    let mut bytes = Vec::new();
    source
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(DataError::Read)?;
    if bytes.len() as u64 > most {
        let message = format!("the tokenizer has more than {most} bytes");
        return Err(DataError::TooLarge(message));
    }
    Ok(bytes)
}

/// The tokens by id; nothing for an id that none has.
fn tokens(tokenizer: &Tokenizer) -> Result<Texts, DataError> {
    let vocabulary = tokenizer.get_vocab(true);
    let ids = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
    if ids == 0 {
        return Err(broken(&"it has no tokens"));
    }
    if ids > IDS_MAX {
        let message = format!(
            "the tokenizer's largest id is {}, at most {IDS_MAX} ids are allowed",
            ids - 1
        );
        return Err(DataError::TooLarge(message));
    }
    let mut by_id = vec![""; ids];
    for (token, &id) in &vocabulary {
        by_id[id as usize] = token;
    }
    Ok(by_id.into_iter().collect())
}

/// Words in small letters, after a mark: `[PAD]` 0, `[UNK]` 1, `[CLS]` 2, `red` 3, `blue` 5. It cuts
/// and fills texts by itself, and there is no id 4.
#[cfg(test)]
pub(crate) const SAMPLE: &str = r#"{"version": "1.0",
    "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    "added_tokens": [{"id": 2, "content": "[CLS]", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}},
    "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "red": 3, "blue": 5},
        "unk_token": "[UNK]"}}"#;
