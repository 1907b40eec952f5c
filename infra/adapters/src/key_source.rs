//! [`KeySource`] over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Url, redirect};
use stoker_domain::port::{KeySource, KeySourceError};

/// Largest key set.
const BYTES_MAX: usize = 256 * 1024;
/// Longest wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A key set at an address.
pub struct HttpKeySource {
    client: Client,
    url: Url,
}

impl HttpKeySource {
    /// The key set at `url`: HTTPS, or HTTP on this machine.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn new(url: &str) -> Result<Self, KeySourceError> {
        Self::with_timeout(url, TIMEOUT)
    }

    fn with_timeout(url: &str, timeout: Duration) -> Result<Self, KeySourceError> {
        let refused = |why: &dyn std::fmt::Display| KeySourceError(format!("{url:?}: {why}"));
        let url = Url::parse(url).map_err(|error| refused(&error))?;
        let is_local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_local);
        if !is_safe {
            return Err(refused(&"needs https, or http on this machine"));
        }
        let client = Client::builder()
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| refused(&error))?;
        Ok(Self { client, url })
    }
}

#[async_trait]
impl KeySource for HttpKeySource {
    async fn fetch(&self) -> Result<String, KeySourceError> {
        let failed = |why: &dyn std::fmt::Display| KeySourceError(format!("{}: {why}", self.url));
        let sent = self.client.get(self.url.clone()).send().await;
        let mut response = sent.map_err(|error| failed(&error.without_url()))?;
        if !response.status().is_success() {
            return Err(failed(&response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) =
            (response.chunk().await).map_err(|error| failed(&error.without_url()))?
        {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(failed(&format_args!("more than {BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| failed(&"not UTF-8 text"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `answer`, and returns what was fetched.
    async fn fetch(answer: Option<Vec<u8>>) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /keys HTTP/1.1"));
            match answer {
                Some(answer) => {
                    // A client that has seen enough goes away.
                    let _ = stream.write_all(&answer).await;
                }
                None => tokio::time::sleep(Duration::from_secs(60)).await,
            }
        });
        let source = HttpKeySource::with_timeout(&url, Duration::from_millis(500)).unwrap();
        let fetched = source.fetch().await.map_err(|error| error.0);
        server.abort();
        fetched
    }

    fn answer(status: &str, body: &[u8]) -> Option<Vec<u8>> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Some([head.as_bytes(), body].concat())
    }

    #[tokio::test]
    async fn a_key_set_is_fetched_and_nothing_else() {
        let fetched = fetch(answer("200 OK", b"{\"keys\": []}")).await;
        assert_eq!(fetched.unwrap(), "{\"keys\": []}");
        let large = vec![b' '; BYTES_MAX + 1];
        let wrong = [
            (answer("200 OK", &large), "more than 262144 bytes"),
            (answer("500 Internal Server Error", b""), "500"),
            (
                answer("302 Found\r\nLocation: http://127.0.0.1:1/", b""),
                "302",
            ),
            (answer("200 OK", b"\xff"), "UTF-8"),
            (None, "error"),
        ];
        for (answer, why) in wrong {
            let refused = fetch(answer).await.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn only_safe_addresses_are_taken() {
        for url in [
            "https://id.example/keys",
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
        ] {
            assert!(HttpKeySource::new(url).is_ok(), "{url}");
        }
        for url in [
            "http://id.example/keys",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "keys",
        ] {
            assert!(HttpKeySource::new(url).is_err(), "{url}");
        }
    }
}
