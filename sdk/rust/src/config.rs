//! What a client needs to know: where the server is, who asks, and how patient to be.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Settings of a [`crate::Client`].
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server, such as `https://stoker.example.org`; a path before `/v1` is kept.
    pub base_url: String,
    /// The bearer token.
    pub token: SecretString,
    /// A PEM file of certificates to trust beside the system's, for a server that signed its own.
    pub ca_cert: Option<PathBuf>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retries: Retries,
}

impl ClientConfig {
    /// Settings for that server and token, and defaults for the rest.
    pub fn new(base_url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            token: SecretString::from(token.into()),
            ca_cert: None,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection. Default 5 s.
    pub connect: Duration,
    /// For the whole of a request whose bodies are small, or the first byte of a stream. Default
    /// 30 s.
    pub request: Duration,
    /// For the next bytes of an upload, a download or an event stream. Default 60 s.
    pub idle: Duration,
    /// For the answer after the last byte of an upload: the server reads a data set through and
    /// compiles a plugin before it answers. Default 10 minutes.
    pub upload_answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            upload_answer: Duration::from_secs(600),
        }
    }
}

/// How often to try, and how long to pause between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Most tries of one call, the first included; 0 counts as 1. Default 5.
    pub attempts: u32,
    /// Pause after the first failed try; doubled after each later one. Default 200 ms.
    pub base: Duration,
    /// Longest pause of the client's own choosing. Default 10 s.
    pub max: Duration,
    /// Longest `Retry-After` that is waited for; a longer one ends the call at once. Default 60 s.
    pub max_retry_after: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_millis(200),
            max: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(60),
        }
    }
}
