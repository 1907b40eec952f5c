//! Ids and names. Parsing is the only way in, so that a value of these types is always well formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// Longest name of anything a user names, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// Why a name or id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 64 of the characters allowed in a name.
    #[error(
        "{0:?} is not a name: 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', starting with a letter or digit"
    )]
    Name(String),
    /// Not a job id.
    #[error("{0:?} is not a job id such as job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e")]
    Job(String),
    /// Not an upload's id.
    #[error("{0:?} is not an upload's id such as upload-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e")]
    Upload(String),
    /// Not `name` or `name@version`.
    #[error("{0:?} is not a reference: a name, or name@version")]
    Ref(String),
}

/// Checks that `text` is a well-formed name.
///
/// # Errors
/// [`IdError::Name`] when it isn't.
pub fn check_name(text: &str) -> Result<(), IdError> {
    let well_formed = (1..=NAME_MAX_BYTES).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    well_formed
        .then_some(())
        .ok_or_else(|| IdError::Name(text.to_owned()))
}

/// In the OpenAPI document these types are strings.
macro_rules! text_schema {
    ($name:ident) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check_name(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        text_schema!($name);
    };
}

name_type! {
    /// A tenant: who owns jobs, data sets and plugins. Tenants never see each other.
    TenantId
}
name_type! {
    /// A pool of workers that jobs are sent to.
    PoolName
}
name_type! {
    /// A worker, unique in its pool. A restarted worker may keep its id; its incarnation changes.
    WorkerId
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $refused:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, later in order than all ids made before it in this process.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl $name {
            /// Where ids that are made at `at` begin: those made before it come before this one.
            #[must_use]
            pub fn first_of(at: Timestamp) -> Self {
                // RFC 9562, version 7: 48 bits of milliseconds, then version, variant and chance.
                let ms = u128::from(at.as_millis().max(0).unsigned_abs()) & 0xffff_ffff_ffff;
                Self(Uuid::from_u128(ms << 80 | 0x7 << 76 | 0x2 << 62))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let refused = || $refused(text.chars().take(80).collect());
                let hex = text
                    .strip_prefix($prefix)
                    .filter(|hex| hex.len() == 32)
                    .ok_or_else(refused)?;
                Uuid::try_parse(hex).map(Self).map_err(|_| refused())
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        text_schema!($name);
    };
}

id_type! {
    /// A job's id: sorts by creation time.
    JobId, "job-", IdError::Job
}
id_type! {
    /// An upload's id: sorts by creation time.
    UploadId, "upload-", IdError::Upload
}

impl UploadId {
    /// When it was made.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        let ms = seconds.saturating_mul(1000) + u64::from(nanos / 1_000_000);
        Timestamp::from_millis(0).plus_millis(ms)
    }
}

/// A reference to a data set or plugin: `name` (its newest version) or `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ref {
    /// The name.
    pub name: String,
    /// The version, when one was given.
    pub version: Option<String>,
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for Ref {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = |_| IdError::Ref(text.chars().take(160).collect());
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        check_name(name).map_err(refused)?;
        version.map_or(Ok(()), check_name).map_err(refused)?;
        Ok(Self {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

impl TryFrom<String> for Ref {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Ref> for String {
    fn from(reference: Ref) -> Self {
        reference.to_string()
    }
}

text_schema!(Ref);
