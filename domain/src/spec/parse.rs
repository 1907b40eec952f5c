//! Reading a spec from TOML or JSON, with errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::JobSpec;
use crate::error::{FieldError, nearest};

/// Largest spec, in bytes.
pub const SPEC_MAX_BYTES: usize = 256 * 1024;

/// How a spec is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// JSON.
    Json,
}

impl JobSpec {
    /// Reads and validates a spec.
    ///
    /// # Errors
    /// One error per field that is wrong; a syntax error has an empty field and names its line.
    pub fn parse(text: &str, format: Format) -> Result<Self, Vec<FieldError>> {
        if text.len() > SPEC_MAX_BYTES {
            let message = format!(
                "{} bytes given, at most {SPEC_MAX_BYTES} allowed",
                text.len()
            );
            return Err(vec![FieldError::new("", message)]);
        }
        let value: Value = match format {
            Format::Toml => toml::from_str(text).map_err(|error| syntax(&error.to_string()))?,
            Format::Json => {
                serde_json::from_str(text).map_err(|error| syntax(&error.to_string()))?
            }
        };
        let spec: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            vec![locate(&path, &error.inner().to_string())]
        })?;
        spec.validate()?;
        Ok(spec)
    }
}

/// Reads a body in JSON.
///
/// # Errors
/// At the field that is wrong; a syntax error has an empty field and names its line.
pub fn read_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, FieldError> {
    let value: Value =
        serde_json::from_slice(text).map_err(|error| FieldError::new("", error.to_string()))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        locate(&path, &error.inner().to_string())
    })
}

/// Reads the settings of a step or a metric: its `config`.
///
/// # Errors
/// At the setting that is wrong, as in `config.columns[1]`.
pub fn read_settings<T: DeserializeOwned>(config: &Map<String, Value>) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(Value::from(config.clone())).map_err(|error| {
        let path = error.path().to_string();
        locate(&path, &error.inner().to_string()).under("config")
    })
}

fn syntax(message: &str) -> Vec<FieldError> {
    vec![FieldError::new("", message.trim_end())]
}

/// Makes a field error of serde's path and message: joins the inner paths that `spec::model`
/// carries in the message, moves an unknown or missing field's name to the path, and adds the
/// nearest known name.
fn locate(path: &str, message: &str) -> FieldError {
    let mut field = if path == "." {
        String::new()
    } else {
        path.to_owned()
    };
    let mut message = message;
    while let Some((inner, rest)) = message
        .strip_prefix('\u{1}')
        .and_then(|m| m.split_once('\u{1}'))
    {
        field = FieldError::new(inner, "").under(&field).field;
        message = rest;
    }
    let unknown = ["unknown field `", "missing field `", "unknown variant `"]
        .iter()
        .find_map(|start| Some((*start, message.strip_prefix(start)?.split_once('`')?)));
    let Some((start, (name, rest))) = unknown else {
        return FieldError::new(field, message);
    };
    if start != "unknown variant `" && field.rsplit('.').next() != Some(name) {
        field = FieldError::new(name, "").under(&field).field;
    }
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(name) if start != "missing field `" => format!("; did you mean `{name}`?"),
        _ => String::new(),
    };
    FieldError::new(field, format!("{message}{hint}"))
}
