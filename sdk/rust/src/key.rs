//! The key under which a POST may be repeated.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::error::Error;

/// Longest key, in bytes.
const MAX_BYTES: usize = 128;

/// Names one logical POST: the server does it once, however often it arrives. Keep it to repeat a
/// submission after a crash of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key that nobody used before.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// The key as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IdempotencyKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let sendable =
            (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if sendable {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Config {
                field: "idempotency key",
                message: format!(
                    "{:?} is not 1 to {MAX_BYTES} visible ASCII characters",
                    text.chars().take(160).collect::<String>()
                ),
            })
        }
    }
}
