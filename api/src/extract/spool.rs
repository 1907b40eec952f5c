//! Bodies: read within a limit, hashed on the way, and whole or refused.

use std::io;
use std::path::Path;

use actix_web::dev::Payload as DevPayload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures::StreamExt;
use futures::future::{Ready, ready};
use stoker_domain::ErrorCode;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::problem::ApiError;

/// Header with the BLAKE3 of the body.
const HASH_HEADER: &str = "Content-BLAKE3";

/// What the request's head says about its body.
pub(crate) struct Announced {
    length: Option<u64>,
    blake3: Option<blake3::Hash>,
}

impl FromRequest for Announced {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut DevPayload) -> Self::Future {
        let headers = request.headers();
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let blake3 = headers.get(HASH_HEADER).map(|value| {
            let hash = value.to_str().ok();
            hash.and_then(|hash| blake3::Hash::from_hex(hash).ok())
                .ok_or_else(|| {
                    ApiError::syntax_field(HASH_HEADER, "not a BLAKE3 hash: 64 hexadecimal digits")
                })
        });
        ready(blake3.transpose().map(|blake3| Self { length, blake3 }))
    }
}

impl Announced {
    fn check_length(&self, what: &str, max: u64) -> Result<(), ApiError> {
        match self.length {
            Some(length) if length > max => Err(ApiError::too_large(what, max)),
            _ => Ok(()),
        }
    }

    fn check_came(&self, length: u64) -> Result<(), ApiError> {
        match self.length {
            Some(announced) if announced != length => Err(ApiError::new(
                ErrorCode::Incomplete,
                format!("{announced} bytes were announced, {length} came"),
            )),
            _ => Ok(()),
        }
    }

    /// The hash that was announced, in hexadecimal digits.
    pub(crate) fn blake3(&self) -> Option<String> {
        self.blake3.map(|hash| hash.to_hex().to_string())
    }

    /// Refuses bytes with another hash than the announced one.
    pub(crate) fn check_hash(&self, blake3: &str) -> Result<(), ApiError> {
        match self.blake3() {
            Some(announced) if announced != blake3 => Err(ApiError::new(
                ErrorCode::Incomplete,
                format!("the BLAKE3 of the bytes is {blake3}, {announced} was announced"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a body where the bytes come from elsewhere, as `param` says.
    pub(crate) async fn refuse_body(
        &self,
        mut payload: web::Payload,
        param: &str,
    ) -> Result<(), ApiError> {
        let first = match self.length {
            Some(length) if length > 0 => true,
            _ => payload
                .next()
                .await
                .is_some_and(|chunk| chunk.is_ok_and(|c| !c.is_empty())),
        };
        if first {
            let message = format!("must be empty with `{param}`, which says where the bytes are");
            return Err(ApiError::invalid_field("body", message));
        }
        Ok(())
    }
}

/// Reads a body into memory.
pub(crate) async fn read_body(
    announced: &Announced,
    payload: web::Payload,
    what: &str,
    max: u64,
) -> Result<Vec<u8>, ApiError> {
    announced.check_length(what, max)?;
    let mut body = Vec::new();
    let mut payload = payload;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(cut_off)?;
        if (body.len() + chunk.len()) as u64 > max {
            return Err(ApiError::too_large(what, max));
        }
        body.extend_from_slice(&chunk);
    }
    announced.check_came(body.len() as u64)?;
    announced.check_hash(&blake3::hash(&body).to_hex())?;
    Ok(body)
}

/// Bytes in a temporary file, which goes away with it.
pub(crate) struct Spooled {
    pub(crate) file: NamedTempFile,
    pub(crate) blake3: String,
    pub(crate) size_bytes: u64,
}

impl Spooled {
    /// Reads a body into a file in `dir`.
    pub(crate) async fn receive(
        announced: &Announced,
        mut payload: web::Payload,
        mut spool: Spool,
    ) -> Result<Self, ApiError> {
        announced.check_length(spool.what, spool.max)?;
        while let Some(chunk) = payload.next().await {
            spool.write(&chunk.map_err(cut_off)?).await?;
        }
        let spooled = spool.finish().await?;
        announced.check_came(spooled.size_bytes)?;
        announced.check_hash(&spooled.blake3)?;
        Ok(spooled)
    }
}

/// A temporary file that bytes are written to, within a limit.
pub(crate) struct Spool {
    file: NamedTempFile,
    writer: tokio::fs::File,
    hasher: blake3::Hasher,
    size_bytes: u64,
    what: &'static str,
    max: u64,
}

impl Spool {
    /// A file in `dir` for a `what` of at most `max` bytes.
    pub(crate) fn new(dir: Option<&Path>, what: &'static str, max: u64) -> Result<Self, ApiError> {
        let file = dir.map_or_else(NamedTempFile::new, NamedTempFile::new_in);
        let file = file.map_err(no_space)?;
        let writer = tokio::fs::File::from_std(file.reopen().map_err(no_space)?);
        Ok(Self {
            file,
            writer,
            hasher: blake3::Hasher::new(),
            size_bytes: 0,
            what,
            max,
        })
    }

    /// Writes what comes next.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.size_bytes += chunk.len() as u64;
        if self.size_bytes > self.max {
            return Err(ApiError::too_large(self.what, self.max));
        }
        self.hasher.update(chunk);
        self.writer.write_all(chunk).await.map_err(no_space)
    }

    /// All that was written.
    pub(crate) async fn finish(mut self) -> Result<Spooled, ApiError> {
        self.writer.flush().await.map_err(no_space)?;
        Ok(Spooled {
            file: self.file,
            blake3: self.hasher.finalize().to_hex().to_string(),
            size_bytes: self.size_bytes,
        })
    }
}

fn cut_off(error: PayloadError) -> ApiError {
    ApiError::new(
        ErrorCode::Incomplete,
        format!("the body ended before its end: {error}"),
    )
}

fn no_space(error: io::Error) -> ApiError {
    ApiError::unavailable(format_args!("the upload can't be kept: {error}"))
}
