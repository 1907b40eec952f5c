//! The client: one server, one token, one pool of connections.

use std::fmt;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};
use secrecy::ExposeSecret;

use crate::config::{ClientConfig, Retries, Timeouts};
use crate::error::{Error, Result};

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
    retries: Retries,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.inner.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Config`] when the URL, the token or the certificate file can't be used.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let base = base_url(&config.base_url)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stoker-sdk/", env!("CARGO_PKG_VERSION")))
            .default_headers(authorization(&config)?)
            .connect_timeout(config.timeouts.connect)
            .redirect(Policy::none())
            .no_proxy();
        builder = match &config.ca_cert {
            Some(path) => builder.tls_certs_merge(certificates(path)?),
            // Without TLS the system's certificates needn't be there, or be read.
            None if base.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        let http = builder.build().map_err(|error| Error::Config {
            field: "ca_cert",
            message: format!("can't set up TLS: {}", innermost(&error)),
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                base,
                timeouts: config.timeouts,
                retries: config.retries,
            }),
        })
    }

    /// The server's base URL, with a slash at its end.
    #[must_use]
    pub fn server(&self) -> &str {
        self.inner.base.as_str()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.inner.retries
    }

    /// The URL of a path below the base, each segment percent-encoded.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

fn base_url(text: &str) -> Result<Url> {
    let refused = |message: String| Error::Config {
        field: "base_url",
        message,
    };
    let mut url =
        Url::parse(text).map_err(|error| refused(format!("{text:?} is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("{text:?} is neither http nor https")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "holds a user name or password; give a token instead".to_owned(),
        ));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn authorization(config: &ClientConfig) -> Result<HeaderMap> {
    let bearer = format!("Bearer {}", config.token.expose_secret().trim());
    // The error names no character of the token.
    let mut value = HeaderValue::from_str(&bearer).map_err(|_| Error::Config {
        field: "token",
        message: "holds characters that can't be sent in a header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>> {
    let refused = |message: String| Error::Config {
        field: "ca_cert",
        message: format!("{}: {message}", path.display()),
    };
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| refused(innermost(&error)))?;
    if certificates.is_empty() {
        return Err(refused("holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}

/// The deepest cause of an error: the sentence that says what happened.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Result<Client> {
        Client::new(ClientConfig::new(base_url, "secret-token"))
    }

    #[test]
    fn the_token_is_in_no_debug_output() {
        let config = ClientConfig::new("http://localhost", "secret-token");
        let client = Client::new(config.clone()).unwrap();
        for text in [
            format!("{config:?}"),
            format!("{client:?}"),
            format!("{:?}", client.http()),
        ] {
            assert!(!text.contains("secret-token"), "{text}");
        }
    }

    #[test]
    fn a_path_in_the_base_url_is_kept_and_segments_are_encoded() {
        let client = client("https://example.org/stoker?x=1").unwrap();
        let url = client.url(&["v1", "jobs", "a/b ?"]);
        assert_eq!(
            url.as_str(),
            "https://example.org/stoker/v1/jobs/a%2Fb%20%3F"
        );
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        for (url, told) in [
            ("nonsense", "is not a URL"),
            ("ftp://example.org", "neither http nor https"),
            ("http://user:pass@example.org", "user name or password"),
        ] {
            let error = client(url).unwrap_err().to_string();
            assert!(
                error.starts_with("base_url: ") && error.contains(told),
                "{error}"
            );
        }
        let error = Client::new(ClientConfig::new("http://localhost", "se\ncret")).unwrap_err();
        assert!(error.to_string().starts_with("token: ") && !error.to_string().contains("cret\""));
        let config = ClientConfig {
            ca_cert: Some("/nonexistent/ca.pem".into()),
            ..ClientConfig::new("https://localhost", "t")
        };
        let error = Client::new(config).unwrap_err().to_string();
        assert!(
            error.starts_with("ca_cert: /nonexistent/ca.pem: "),
            "{error}"
        );
    }
}
