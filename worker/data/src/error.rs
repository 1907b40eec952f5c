//! Why a file can't be used.

use std::io;

use stoker_domain::ErrorCode;
use stoker_domain::error::nearest;

/// Longest part of a value that a message repeats, in characters.
const SHOWN_MAX: usize = 40;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// One record is wrong.
    #[error("row {row}, column `{column}`: {message}")]
    Record {
        /// Line of the file for CSV (the header is line 1), number of the row for arrays; from 1.
        row: u64,
        /// The column.
        column: String,
        /// What was found there.
        message: String,
    },
    /// One row is wrong as a whole.
    #[error("row {row}: {message}")]
    Row {
        /// Line of the file; from 1.
        row: u64,
        /// What was found there.
        message: String,
    },
    /// The file isn't what its format says.
    #[error("{0}")]
    Malformed(String),
    /// A limit was passed.
    #[error("{0}")]
    TooLarge(String),
    /// A column was asked for that isn't there.
    #[error("there is no column `{name}`{hint}")]
    NoColumn {
        /// What was asked for.
        name: String,
        /// The nearest name there is, as the end of the sentence; or nothing.
        hint: String,
    },
    /// A preprocessing step can't do its work.
    #[error("{field}: {source}")]
    Step {
        /// The step, as in `preprocess[1]`.
        field: String,
        /// What it found.
        source: Box<DataError>,
    },
    /// The file couldn't be read.
    #[error("the file can't be read")]
    Read(#[source] io::Error),
}

impl DataError {
    /// The error's code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Read(_) => ErrorCode::Internal,
            Self::Step { source, .. } => source.code(),
            _ => ErrorCode::InvalidInput,
        }
    }

    /// The same, found by a step.
    pub(crate) fn at(self, field: &str) -> Self {
        Self::Step {
            field: field.to_owned(),
            source: Box::new(self),
        }
    }

    pub(crate) fn no_column<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = nearest(name, known)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Self::NoColumn {
            name: shown(name),
            hint,
        }
    }

    pub(crate) fn record(row: u64, column: &str, message: impl Into<String>) -> Self {
        Self::Record {
            row,
            column: column.to_owned(),
            message: message.into(),
        }
    }
}

/// What the readers under us report: our own limits come back out of the `io::Error` that carried
/// them through a decoder; what a decoder refuses is the file's fault.
impl From<io::Error> for DataError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Self::Malformed("the file ends in the middle of a value".to_owned())
                }
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    Self::Malformed(format!("the file is broken: {error}"))
                }
                _ => Self::Read(error),
            },
        }
    }
}

/// `text`, cut so that a message stays readable.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
