//! Parsers of arguments that clap doesn't have.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use stoker_domain::time::Millis;

/// One of a closed set of words, listed in the help and completed by shells.
pub(crate) fn one_of<T>(
    choices: &[T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let choices: Vec<(&'static str, T)> =
        choices.iter().map(|&value| (word(value), value)).collect();
    PossibleValuesParser::new(choices.iter().map(|(word, _)| *word)).try_map(move |given| {
        let found = choices.iter().find(|(word, _)| *word == given);
        found
            .map(|(_, value)| *value)
            .ok_or("not one of the choices")
    })
}

/// A length of time such as `30s`, `5m` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<Millis, Error> = Millis::deserialize(text.into_deserializer());
    parsed
        .map(Duration::from)
        .map_err(|error| error.to_string())
}

/// `key=value`, or with another sign between.
pub(crate) fn pair(text: &str, sign: char) -> Result<(String, String), String> {
    match text.split_once(sign) {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form KEY{sign}VALUE")),
    }
}
