//! [`Sources`] over HTTP and S3: what the operator lists, from addresses that may be connected to,
//! with credentials that a request can name but nobody can see.

mod address;
mod allow;
mod bucket;
mod config;
mod web;

use async_trait::async_trait;
use stoker_domain::port::{OpenSource, SourceError, SourceRequest, Sources};

use self::address::Lookup;
use self::allow::{Uri, redacted};
use self::config::{Credentials, Environment, Settings};
use self::web::{Bearer, Web};
use crate::setup::SetupError;

pub(crate) use address::{Addresses, CheckedResolver, NOT_PUBLIC, system_lookup};
pub use config::{CredentialsConfig, SecretRef, SourcesConfig};

/// Entries of a list that an error names.
const NAMED_MAX: usize = 10;

/// URLs and buckets that the operator allows.
pub struct RemoteSources {
    config: SourcesConfig,
    settings: Settings,
    web: Web,
    environment: Box<Environment>,
}

impl RemoteSources {
    /// The sources that these settings allow. `environment` gives the variables that hold secrets.
    ///
    /// # Errors
    /// [`SetupError::Config`] when a setting can't be used, or a secret isn't where it is said to be.
    pub fn new(
        config: &SourcesConfig,
        environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, SetupError> {
        Self::with_lookup(config, environment, system_lookup())
    }

    fn with_lookup(
        config: &SourcesConfig,
        environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        lookup: Lookup,
    ) -> Result<Self, SetupError> {
        let mut settings = config.settings(&environment)?;
        let addresses = Addresses::new(std::mem::take(&mut settings.private));
        Ok(Self {
            web: Web::new(config, addresses, lookup)?,
            settings,
            config: config.clone(),
            environment: Box::new(environment),
        })
    }

    fn check_allowed(&self, uri: &Uri) -> Result<(), SourceError> {
        let allow = &self.settings.allow;
        if allow.iter().any(|rule| rule.allows(uri)) {
            return Ok(());
        }
        let message = if allow.is_empty() {
            format!(
                "{uri} can't be fetched: nothing is allowed until the operator lists it in `sources.allow`, as in allow = [\"https://data.example.org/\"]"
            )
        } else {
            let entries = allow.iter().map(ToString::to_string);
            format!("{uri} isn't in the operator's list: {}", named(entries))
        };
        Err(refused("from", message))
    }

    /// The credentials of that name, where the tenant may use them for the URI.
    fn credentials(
        &self,
        request: &SourceRequest<'_>,
        uri: &Uri,
    ) -> Result<Option<&Credentials>, SourceError> {
        let Some(name) = request.credentials else {
            return Ok(None);
        };
        let is_own = |found: &&Credentials| found.config.tenants.contains(request.tenant);
        let all = &self.settings.credentials;
        let Some(found) = all.get(name).filter(is_own) else {
            let own = all.iter().filter(|(_, found)| is_own(found));
            let own = named(own.map(|(name, _)| name.clone()));
            let name: String = name.chars().take(80).collect();
            let message = format!("there are no {name:?} for this tenant; there are: {own}");
            return Err(refused("credentials", message));
        };
        if found.rule.allows(uri) {
            return Ok(Some(found));
        }
        let message = format!("{name:?} are for {}, not for {uri}", found.rule);
        Err(refused("credentials", message))
    }
}

#[async_trait]
impl Sources for RemoteSources {
    async fn open(&self, request: &SourceRequest<'_>) -> Result<OpenSource, SourceError> {
        let uri = Uri::parse(request.uri)
            .map_err(|why| refused("from", format!("{:?} {why}", redacted(request.uri))))?;
        self.check_allowed(&uri)?;
        let credentials = self.credentials(request, &uri)?;
        match &uri {
            Uri::Web(url) => {
                let bearer = match credentials.and_then(|c| Some((c, c.config.bearer.as_ref()?))) {
                    None => None,
                    Some((found, secret)) => Some(Bearer {
                        token: secret
                            .read(&*self.environment)
                            .map_err(|why| no_secret(&why))?,
                        rule: &found.rule,
                    }),
                };
                self.web.open(url, &self.settings.allow, bearer).await
            }
            Uri::Object { bucket, key } => {
                let Some(found) = credentials else {
                    let message = "an s3:// source needs the name of an entry of the operator's `sources.credentials`";
                    return Err(refused("credentials", message));
                };
                let place = (bucket.as_str(), key);
                bucket::open(place, &found.config, &self.config, &*self.environment).await
            }
        }
    }
}

fn refused(field: &'static str, message: impl Into<String>) -> SourceError {
    let message = message.into();
    SourceError::Refused { field, message }
}

fn failed(message: impl Into<String>, is_retryable: bool) -> SourceError {
    let message = message.into();
    SourceError::Failed {
        message,
        is_retryable,
    }
}

/// A secret that was there at the start and isn't any more.
fn no_secret(why: &str) -> SourceError {
    tracing::warn!(error = why, "credentials of a source can't be read");
    refused(
        "credentials",
        "can't be read at the moment; tell the operator",
    )
}

fn named(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.take(NAMED_MAX + 1).collect();
    if names.len() > NAMED_MAX {
        names[NAMED_MAX] = "…".to_owned();
    }
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
