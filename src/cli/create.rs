//! `stoker job create`: a spec from a file or standard input, with changes from the command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use stoker_domain::spec::SPEC_MAX_BYTES;
use stoker_sdk::{IdempotencyKey, SpecText};

use super::exit::Failure;
use super::{Session, argument, wait};

/// Where a spec comes from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The spec, in TOML or JSON; `-` for standard input.
    spec: PathBuf,
    /// Change a field, as in train.epochs=5, data.dataset=digits@2 or preprocess[0].config.x=1. The
    /// value is TOML, or else text. May be given again.
    #[arg(long, value_parser = |text: &str| argument::pair(text, '='), value_name = "FIELD=VALUE")]
    set: Vec<(String, String)>,
}

impl Source {
    /// The spec's text, with the fields that were set.
    pub(super) fn text(&self) -> Result<String, Failure> {
        changed(read(&self.spec)?, &self.set)
    }
}

/// How to create a job.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Wait until the job has ended.
    #[arg(long, short)]
    wait: bool,
    /// Give up waiting after this long, as in 30s or 2h; the job goes on.
    #[arg(long, value_parser = argument::duration, value_name = "DURATION", requires = "wait")]
    timeout: Option<Duration>,
    /// Make at most one job, however often this is run with the same key.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
}

/// Creates the job; waits for it if asked to.
pub(super) async fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let text = arguments.source.text()?;
    let spec = spec_of(&text);
    let key = arguments.idempotency_key.clone();
    let key = key.unwrap_or_else(IdempotencyKey::generate);
    let job = session.client.create_job_under(spec, &key).await?;
    let output = &session.output;
    if arguments.wait {
        output.note(&format!("{} is {}", job.id, job.state.as_str()));
        return wait::run(job.id, arguments.timeout, session).await;
    }
    if output.json() {
        return output.document(&job);
    }
    output.line(&job.id.to_string());
    output.note(&format!("watch it with: stoker job wait {}", job.id));
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| Failure::file(path, &error);
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(unreadable)?),
    };
    let mut text = String::new();
    // One byte more than allowed tells that there is too much.
    let limit = SPEC_MAX_BYTES as u64;
    source
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() > SPEC_MAX_BYTES {
        return Err(Failure::input(format!(
            "{} is no spec: longer than {SPEC_MAX_BYTES} bytes",
            path.display()
        )));
    }
    Ok(text)
}

/// A text as the format that it is in.
pub(super) fn spec_of(text: &str) -> SpecText<'_> {
    match is_json(text) {
        true => SpecText::Json(text),
        false => SpecText::Toml(text),
    }
}

/// A spec is a table, so that JSON begins with a brace and TOML can't.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The spec with fields set. Without changes it is sent as it was written.
fn changed(text: String, changes: &[(String, String)]) -> Result<String, Failure> {
    if changes.is_empty() {
        return Ok(text);
    }
    let parsed: Result<Value, String> = match is_json(&text) {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => toml::from_str(&text).map_err(|error| error.to_string()),
    };
    let mut spec = parsed.map_err(Failure::input)?;
    for (field, value) in changes {
        set(&mut spec, field, parse_value(value))
            .map_err(|why| Failure::input(format!("--set {field}: {why}")))?;
    }
    Ok(spec.to_string())
}

/// The value that a text stands for in TOML; the text itself when it stands for none.
fn parse_value(text: &str) -> Value {
    let parsed: Result<Map<String, Value>, _> = toml::from_str(&format!("value = {text}"));
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(Value::Null),
        _ => Value::String(text.to_owned()),
    }
}

/// Sets the value at a path such as `a.b[0].c`, making tables on the way.
fn set(root: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut at = root;
    for part in path.split('.') {
        let mut pieces = part.split('[');
        let name = pieces.next().filter(|name| !name.is_empty());
        let name = name.ok_or("a field's name is missing")?;
        let table = match at {
            Value::Object(table) => table,
            _ => return Err(format!("what holds `{name}` is not a table")),
        };
        at = table
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
        for piece in pieces {
            let index = piece
                .strip_suffix(']')
                .and_then(|index| index.parse::<usize>().ok());
            let index = index.ok_or_else(|| format!("`[{piece}` is not an index such as [0]"))?;
            let Value::Array(list) = at else {
                return Err(format!("`{name}` is not a list"));
            };
            let length = list.len();
            let told = || format!("`{name}` has {length} entries, there is none at {index}");
            at = list.get_mut(index).ok_or_else(told)?;
        }
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(changes: &[(&str, &str)]) -> Result<Value, Failure> {
        let text = "name = \"x\"\n[train]\nepochs = 2\n[[preprocess]]\nbuiltin = \"normalise\"";
        let changes: Vec<_> = changes
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        changed(text.to_owned(), &changes).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn fields_are_set_by_path_with_toml_values_or_text() {
        let spec = change(&[
            ("train.epochs", "5"),
            ("name", "digits@2"),
            ("model.hidden", "[64, 32]"),
            ("preprocess[0].config.mode", "\"minmax\""),
            ("tags", "{ team = \"vision\" }"),
            ("train.note", "1\nepochs = 9"),
        ])
        .unwrap();
        let expected = json!({
            "name": "digits@2",
            "train": { "epochs": 5, "note": "1\nepochs = 9" },
            "model": { "hidden": [64, 32] },
            "preprocess": [{ "builtin": "normalise", "config": { "mode": "minmax" } }],
            "tags": { "team": "vision" },
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_told() {
        for (field, told) in [
            ("name.x", "what holds `x` is not a table"),
            ("train.epochs[0]", "`epochs` is not a list"),
            (
                "preprocess[1]",
                "`preprocess` has 1 entries, there is none at 1",
            ),
            ("preprocess[x]", "`[x]` is not an index"),
            ("train..epochs", "a field's name is missing"),
        ] {
            let failure = change(&[(field, "1")]).unwrap_err();
            assert!(failure.message.contains(told), "{}", failure.message);
        }
    }

    #[test]
    fn without_changes_the_text_is_sent_as_it_was_written() {
        let text = "not even TOML # {".to_owned();
        assert_eq!(changed(text.clone(), &[]).unwrap(), text);
        assert!(is_json(" \n{}") && !is_json("name = \"{\""));
    }
}
