//! Why an adapter couldn't be set up.

use std::path::PathBuf;

/// Why an adapter couldn't be set up. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting can't be used.
    #[error("{field}: {message}")]
    Config {
        /// The setting, as in `redis.url`.
        field: &'static str,
        /// What was given and what is allowed. Holds no secret.
        message: String,
    },
    /// Another process uses the data directory.
    #[error("{} is in use by {holder}: one process at a time may use a data directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },
    /// The stored form is of a later version.
    #[error(
        "{place} was written by a later version: its form is {found}, this version knows up to {known}"
    )]
    Newer {
        /// What was opened.
        place: String,
        /// The form found.
        found: i64,
        /// The newest form this version can read.
        known: i64,
    },
    /// A file can't be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A server can't be reached, or refused us.
    #[error("{server}: {message}")]
    Server {
        /// Which, without credentials.
        server: &'static str,
        /// Why.
        message: String,
    },
    /// A server could lose what it confirmed.
    #[error(
        "redis may lose what it confirmed: {0}; change its settings, or set redis.allow_unsafe_durability"
    )]
    Unsafe(String),
}
