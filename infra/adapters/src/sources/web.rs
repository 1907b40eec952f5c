//! Sources over HTTP: each address, and each redirect, is checked before it is asked.

use std::error::Error;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use stoker_domain::port::{OpenSource, SourceError};

use super::address::{Addresses, CheckedResolver, Lookup, NotPublic};
use super::allow::{Rule, Uri, checked, shown};
use super::config::SourcesConfig;
use super::{failed, refused};
use crate::setup::SetupError;

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Fetches over HTTP.
pub(super) struct Web {
    client: Client,
    addresses: Arc<Addresses>,
    idle: Duration,
}

/// A bearer token and where it may be sent.
pub(super) struct Bearer<'a> {
    pub(super) token: SecretString,
    pub(super) rule: &'a Rule,
}

impl Web {
    pub(super) fn new(
        config: &SourcesConfig,
        addresses: Addresses,
        lookup: Lookup,
    ) -> Result<Self, SetupError> {
        let addresses = Arc::new(addresses);
        let resolver = CheckedResolver {
            addresses: Arc::clone(&addresses),
            lookup,
        };
        // What other crates switch on is switched off: the bytes are to come as they are kept.
        let client = Client::builder()
            .user_agent(concat!("stoker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .dns_resolver(Arc::new(resolver))
            .connect_timeout(config.connect_timeout.into())
            .read_timeout(config.idle_timeout.into())
            .build()
            .map_err(|error| SetupError::Config {
                field: "sources",
                message: format!("can't set up TLS: {error}"),
            })?;
        Ok(Self {
            client,
            addresses,
            idle: config.idle_timeout.into(),
        })
    }

    /// Opens an allowed URL.
    pub(super) async fn open(
        &self,
        first: &Url,
        allow: &[Rule],
        bearer: Option<Bearer<'_>>,
    ) -> Result<OpenSource, SourceError> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.ask(&url, first, bearer.as_ref()).await?;
            match redirected(&response, &url)? {
                None => return self.opened(response, first),
                Some(next) => {
                    let uri = Uri::Web(next.clone());
                    if !allow.iter().any(|rule| rule.allows(&uri)) {
                        let message = format!(
                            "{} redirects to {uri}, which isn't in the operator's list",
                            shown(&url)
                        );
                        return Err(refused("from", message));
                    }
                    url = next;
                }
            }
        }
        let message = format!("{} redirects more than {REDIRECTS_MAX} times", shown(first));
        Err(failed(message, false))
    }

    async fn ask(
        &self,
        url: &Url,
        first: &Url,
        bearer: Option<&Bearer<'_>>,
    ) -> Result<Response, SourceError> {
        // A literal address isn't resolved: it is checked here.
        let host = url.host_str().unwrap_or_default();
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            self.addresses
                .check(host, ip)
                .map_err(|why| not_public(&why))?;
        }
        let mut request = self.client.get(url.clone());
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let may_send = |bearer: &&Bearer<'_>| {
            url.origin() == first.origin() && bearer.rule.allows(&Uri::Web(url.clone()))
        };
        if let Some(bearer) = bearer.filter(may_send) {
            let value = format!("Bearer {}", bearer.token.expose_secret());
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                let message = "the token holds characters that can't be sent; tell the operator";
                refused("credentials", message)
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .send()
            .await
            .map_err(|error| self.broken(url, &error))
    }

    fn opened(&self, response: Response, first: &Url) -> Result<OpenSource, SourceError> {
        let shown = shown(first);
        let status = response.status();
        if status != StatusCode::OK {
            let is_retryable = status.is_server_error()
                || matches!(
                    status,
                    StatusCode::REQUEST_TIMEOUT
                        | StatusCode::TOO_EARLY
                        | StatusCode::TOO_MANY_REQUESTS
                );
            return Err(failed(format!("{shown} answered {status}"), is_retryable));
        }
        let (place, idle) = (shown.clone(), self.idle);
        let size_bytes = response.content_length();
        let bytes = response.bytes_stream().map(move |chunk| {
            let broken = |error| told(&place, idle, &error);
            chunk.map(|chunk| chunk.to_vec()).map_err(broken)
        });
        Ok(OpenSource {
            shown,
            size_bytes,
            bytes: bytes.boxed(),
        })
    }

    fn broken(&self, url: &Url, error: &reqwest::Error) -> SourceError {
        match cause::<NotPublic>(error) {
            Some(why) => not_public(why),
            None => told(&shown(url), self.idle, error),
        }
    }
}

fn not_public(why: &NotPublic) -> SourceError {
    let message =
        format!("{why}, so that it isn't fetched; an operator can permit it by `sources.private`");
    refused("from", message)
}

fn told(shown: &impl Display, idle: Duration, error: &reqwest::Error) -> SourceError {
    let message = match error {
        _ if error.is_connect() && error.is_timeout() => {
            format!("{shown} can't be reached in time")
        }
        _ if error.is_connect() => format!("{shown} can't be reached: {}", innermost(error)),
        _ if error.is_timeout() => format!("{shown} sent nothing for {} s", idle.as_secs_f32()),
        _ => format!("{shown} broke off: {}", innermost(error)),
    };
    failed(message, true)
}

/// Where an answer redirects to, if it does.
fn redirected(response: &Response, url: &Url) -> Result<Option<Url>, SourceError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    let next = next
        .ok_or_else(|| "is nowhere".to_owned())
        .and_then(checked);
    next.map(Some).map_err(|why| {
        let message = format!("{} redirects to what {why}", shown(url));
        refused("from", message)
    })
}

/// The deepest cause of an error: the sentence that says what happened. It names no URL.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(found) = error {
        if let Some(found) = found.downcast_ref() {
            return Some(found);
        }
        error = found.source();
    }
    None
}
