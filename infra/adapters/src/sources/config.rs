//! The operator's settings of sources, and what they come to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use stoker_domain::time::Millis;
use stoker_domain::{FieldError, TenantId};

use super::allow::Rule;
use crate::setup::SetupError;

/// Where data sets may be fetched from. Nowhere, unless something is listed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourcesConfig {
    /// What may be fetched: `https://data.example.org/sets/`, `https://*.example.org/`,
    /// `s3://bucket/prefix/`; everything below an entry is allowed by it. Plain HTTP needs an entry
    /// that begins with `http://`.
    pub allow: Vec<String>,
    /// Networks that may be connected to although they aren't on the public internet, as in
    /// `10.1.0.0/16`.
    pub private: Vec<String>,
    /// Credentials, by the name that a request gives.
    pub credentials: BTreeMap<String, CredentialsConfig>,
    /// Longest wait for a connection.
    pub connect_timeout: Millis,
    /// Longest wait for the next bytes.
    pub idle_timeout: Millis,
}

impl Default for SourcesConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            private: Vec::new(),
            credentials: BTreeMap::new(),
            connect_timeout: Millis(10_000),
            idle_timeout: Millis(30_000),
        }
    }
}

/// Credentials for the sources under a prefix. The secrets themselves are elsewhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsConfig {
    /// Who may use them.
    pub tenants: Vec<TenantId>,
    /// Where they may be sent: `https://host/path/` or `s3://bucket/prefix/`.
    pub prefix: String,
    /// The bearer token for an `https://` prefix.
    pub bearer: Option<SecretRef>,
    /// Access key of an `s3://` prefix; its bucket is read without credentials when absent.
    pub access_key_id: Option<SecretRef>,
    /// Secret key of an `s3://` prefix.
    pub secret_access_key: Option<SecretRef>,
    /// Region of an `s3://` prefix; `us-east-1` when absent.
    pub region: Option<String>,
    /// Where the S3 server of an `s3://` prefix is; Amazon's own when absent. It may be on a private
    /// network.
    pub endpoint: Option<String>,
    /// `endpoint/bucket/key` rather than `bucket.endpoint/key`.
    #[serde(default = "yes")]
    pub path_style: bool,
}

const fn yes() -> bool {
    true
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// In the environment variable of that name, when the process starts.
    Env(String),
    /// In that file, which is read again for each use.
    File(PathBuf),
}

/// Reads the environment, for secrets that are kept there.
pub(super) type Environment = dyn Fn(&str) -> Option<String> + Send + Sync;

impl SecretRef {
    /// The secret; the error says where it was looked for.
    pub(super) fn read(&self, environment: &Environment) -> Result<SecretString, String> {
        let found = match self {
            Self::Env(name) => environment(name)
                .ok_or_else(|| format!("the environment variable {name} isn't set"))?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        match found.trim() {
            "" => Err(match self {
                Self::Env(name) => format!("the environment variable {name} is empty"),
                Self::File(path) => format!("{} is empty", path.display()),
            }),
            secret => Ok(SecretString::from(secret)),
        }
    }
}

/// Credentials that were read and checked, but for the secrets.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) config: CredentialsConfig,
    pub(super) rule: Rule,
}

/// Settings that were read and checked, but for the secrets.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) allow: Vec<Rule>,
    pub(super) private: Vec<IpNet>,
    pub(super) credentials: BTreeMap<String, Credentials>,
}

impl SourcesConfig {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        self.read().1
    }

    /// The settings, without those that have errors.
    fn read(&self) -> (Settings, Vec<FieldError>) {
        let (mut settings, mut errors) = (Settings::default(), Vec::new());
        // A variable that is set to nothing is a list of one empty entry.
        let given = |(_, text): &(usize, &String)| !text.is_empty();
        for (index, text) in self.allow.iter().enumerate().filter(given) {
            match Rule::parse(text) {
                Ok(rule) => settings.allow.push(rule),
                Err(why) => {
                    let message = format!("{:?} {why}", super::allow::redacted(text));
                    errors.push(FieldError::new(format!("allow[{index}]"), message));
                }
            }
        }
        for (index, text) in self.private.iter().enumerate().filter(given) {
            match text.parse() {
                Ok(net) => settings.private.push(net),
                Err(_) => {
                    let message = format!("{text:?} is not a network such as 10.1.0.0/16");
                    errors.push(FieldError::new(format!("private[{index}]"), message));
                }
            }
        }
        for (name, config) in &self.credentials {
            match config.read() {
                Ok(rule) => {
                    let config = config.clone();
                    settings
                        .credentials
                        .insert(name.clone(), Credentials { config, rule });
                }
                Err(error) => errors.push(error.under(&format!("credentials.{name}"))),
            }
        }
        for (field, length) in [
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if length.0 == 0 {
                errors.push(FieldError::new(field, "must be above 0s"));
            }
        }
        (settings, errors)
    }

    /// The settings, with every secret where it is said to be.
    pub(super) fn settings(&self, environment: &Environment) -> Result<Settings, SetupError> {
        let (settings, errors) = self.read();
        let missing = settings.credentials.iter().filter_map(|(name, found)| {
            let error = found.config.missing(environment)?;
            Some(error.under(&format!("credentials.{name}")))
        });
        match errors.into_iter().chain(missing).next() {
            None => Ok(settings),
            Some(error) => Err(SetupError::Config {
                field: "sources",
                message: error.to_string(),
            }),
        }
    }
}

impl CredentialsConfig {
    fn read(&self) -> Result<Rule, FieldError> {
        let rule = Rule::parse(&self.prefix).map_err(|why| {
            let message = format!("{:?} {why}", super::allow::redacted(&self.prefix));
            FieldError::new("prefix", message)
        })?;
        let refused = |field: &str, why: &str| Err(FieldError::new(field, why));
        if self.tenants.is_empty() {
            return refused("tenants", "names no tenant, so that nobody could use them");
        }
        let is_paired = self.access_key_id.is_some() == self.secret_access_key.is_some();
        if !is_paired {
            let why = "access_key_id and secret_access_key are given together or not at all";
            return refused("secret_access_key", why);
        }
        let of_objects = [
            ("access_key_id", self.access_key_id.is_some()),
            ("region", self.region.is_some()),
            ("endpoint", self.endpoint.is_some()),
        ];
        match (
            rule.is_of_objects(),
            of_objects.iter().find(|(_, given)| *given),
        ) {
            (true, _) if self.bearer.is_some() => refused(
                "bearer",
                "is for an https:// prefix; s3:// takes access_key_id",
            ),
            (false, Some((field, _))) => {
                refused(field, "is for an s3:// prefix; https:// takes bearer")
            }
            (false, None) if self.bearer.is_none() => {
                refused("bearer", "is missing, as in bearer = { env = \"TOKEN\" }")
            }
            _ => Ok(rule),
        }
    }

    /// The first secret that isn't where it is said to be.
    fn missing(&self, environment: &Environment) -> Option<FieldError> {
        let secrets = [
            ("bearer", &self.bearer),
            ("access_key_id", &self.access_key_id),
            ("secret_access_key", &self.secret_access_key),
        ];
        secrets.into_iter().find_map(|(field, secret)| {
            let read = secret.as_ref()?.read(environment);
            read.err().map(|why| FieldError::new(field, why))
        })
    }
}
