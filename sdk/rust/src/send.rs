//! Sending one call: the request, its tries, and what its answer means.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use stoker_domain::ErrorCode;
use stoker_domain::view::Problem;

use crate::backoff::{Backoff, Failed};
use crate::client::{Client, innermost};
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::upload::Prepared;

/// Largest answer that is held in memory.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest excerpt of a body that isn't a problem document, in characters.
const EXCERPT_MAX_CHARS: usize = 200;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const CONTENT_BLAKE3: HeaderName = HeaderName::from_static("content-blake3");
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const JSON: &str = "application/json";
pub(crate) const OCTETS: &str = "application/octet-stream";
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// One call of the API. Everything in it is the same in every try.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    url: Url,
    accept: &'static str,
    headers: Vec<(HeaderName, String)>,
    body: Body<'a>,
    is_slow: bool,
}

#[derive(Debug)]
enum Body<'a> {
    Empty,
    Bytes(&'static str, Bytes),
    Upload(&'a Prepared),
}

impl<'a> Call<'a> {
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            accept: JSON,
            headers: Vec::new(),
            body: Body::Empty,
            is_slow: false,
        }
    }

    pub(crate) fn patch(url: Url) -> Self {
        Self {
            method: Method::PATCH,
            ..Self::get(url)
        }
    }

    pub(crate) fn put(url: Url) -> Self {
        Self {
            method: Method::PUT,
            ..Self::get(url)
        }
    }

    pub(crate) fn delete(url: Url) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::get(url)
        }
    }

    pub(crate) fn post(url: Url, key: &IdempotencyKey) -> Self {
        Self {
            method: Method::POST,
            ..Self::get(url)
        }
        .header(IDEMPOTENCY_KEY, key.to_string())
    }

    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn body(mut self, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        self.body = Body::Bytes(content_type, bytes.into());
        self
    }

    /// Waits as long for the answer as for that to an upload.
    pub(crate) const fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    pub(crate) fn upload(mut self, prepared: &'a Prepared) -> Self {
        self.body = Body::Upload(prepared);
        self.header(CONTENT_BLAKE3, prepared.blake3.clone())
            .header(CONTENT_LENGTH, prepared.size_bytes.to_string())
            .header(CONTENT_TYPE, OCTETS.to_owned())
    }
}

impl Client {
    /// Sends a call, with retries, and reads its answer as JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T> {
        let bytes = self.fetch_bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Decode(error.to_string()))
    }

    /// Sends a call, with retries, and holds its answer in memory.
    pub(crate) async fn fetch_bytes(&self, call: &Call<'_>) -> Result<Bytes> {
        let mut backoff = Backoff::new(self.retries());
        let mut unsure = false;
        loop {
            let failed = match self.try_fetch(call).await {
                Ok(bytes) => return Ok(bytes),
                Err(failed) => failed,
            };
            // The answer to an earlier try was lost: the thing is gone because that try did it.
            let gone = failed.error.code() == ErrorCode::NotFound;
            if unsure && gone && call.method == Method::DELETE {
                return Ok(Bytes::new());
            }
            unsure |= failed.error.unsure();
            backoff.pause(failed).await?;
        }
    }

    /// Sends a call once and holds its answer in memory.
    pub(crate) async fn try_fetch(&self, call: &Call<'_>) -> Result<Bytes, Failed> {
        if let Body::Upload(prepared) = call.body {
            return self.try_upload(call, prepared).await;
        }
        let answer = async { self.collect(self.answer(call).await?).await };
        let timeouts = self.timeouts();
        let limit = if call.is_slow {
            timeouts.upload_answer
        } else {
            timeouts.request
        };
        self.within(limit, answer).await
    }

    /// Sends a body of any length. Each chunk must be taken in time, and the answer must come in
    /// time after the last one; there is no limit on the whole.
    async fn try_upload(&self, call: &Call<'_>, prepared: &Prepared) -> Result<Bytes, Failed> {
        let (body, mut watch) = prepared.open().await?;
        let request = self.request(call).body(body);
        let answer = async {
            let response = request.send().await.map_err(|e| self.broken(&e))?;
            self.collect(self.accepted(response).await?).await
        };
        let stalled = watch.stalled(self.timeouts().idle, self.timeouts().upload_answer);
        let outcome = tokio::select! {
            outcome = answer => outcome,
            after = stalled => Err(self.late(after).into()),
        };
        // A file that can't be read breaks the request; the file is then what to tell about.
        match watch.read_error() {
            Some(error) if outcome.is_err() => Err(error.into()),
            _ => outcome,
        }
    }

    /// Sends a call once and gives back the answer with its body still to come.
    pub(crate) async fn open(&self, call: &Call<'_>) -> Result<Response, Failed> {
        self.within(self.timeouts().request, self.answer(call))
            .await
    }

    /// The next bytes of an open answer, or `None` at its end.
    pub(crate) async fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>> {
        let chunk = async { response.chunk().await.map_err(|e| self.broken(&e).into()) };
        self.within(self.timeouts().idle, chunk)
            .await
            .map_err(|failed| failed.error)
    }

    async fn answer(&self, call: &Call<'_>) -> Result<Response, Failed> {
        let request = self.request(call);
        let request = match &call.body {
            Body::Bytes(content_type, bytes) => request
                .header(CONTENT_TYPE, *content_type)
                .body(bytes.clone()),
            Body::Empty | Body::Upload(_) => request,
        };
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        self.accepted(response).await
    }

    fn request(&self, call: &Call<'_>) -> RequestBuilder {
        let request = self
            .http()
            .request(call.method.clone(), call.url.clone())
            .header(ACCEPT, HeaderValue::from_static(call.accept));
        call.headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }

    /// The answer, if it says that the call succeeded.
    async fn accepted(&self, response: Response) -> Result<Response, Failed> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        let body = self.collect(response).await.unwrap_or_default();
        let error = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            Err(_) => Error::Status {
                status: status.as_u16(),
                body: String::from_utf8_lossy(&body)
                    .chars()
                    .take(EXCERPT_MAX_CHARS)
                    .collect(),
            },
        };
        Err(Failed { error, retry_after })
    }

    async fn collect(&self, mut response: Response) -> Result<Bytes, Failed> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e))? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                let told = format!("it is longer than {ANSWER_MAX_BYTES} bytes");
                return Err(Error::Decode(told).into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(self.late(limit).into()))
    }

    fn late(&self, after: Duration) -> Error {
        Error::Timeout {
            server: self.server().to_owned(),
            after,
        }
    }

    /// What a failure of the HTTP library means.
    fn broken(&self, error: &reqwest::Error) -> Error {
        let server = self.server().to_owned();
        let reason = innermost(error);
        match error {
            _ if error.is_connect() => Error::Connect { server, reason },
            _ if error.is_builder() => Error::Config {
                field: "request",
                message: reason,
            },
            _ => Error::Transport { server, reason },
        }
    }
}

/// The pause that the server asked for, when it gave one in seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}
