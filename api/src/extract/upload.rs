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

    fn check_whole(&self, length: u64, blake3: blake3::Hash) -> Result<(), ApiError> {
        let incomplete = |why: String| Err(ApiError::new(ErrorCode::Incomplete, why));
        if let Some(announced) = self.length.filter(|&announced| announced != length) {
            return incomplete(format!("{announced} bytes were announced, {length} came"));
        }
        match self.blake3 {
            Some(announced) if announced != blake3 => incomplete(format!(
                "the body's BLAKE3 is {blake3}, {announced} was announced"
            )),
            _ => Ok(()),
        }
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
    announced.check_whole(body.len() as u64, blake3::hash(&body))?;
    Ok(body)
}

/// A body in a temporary file, which goes away with it.
pub(crate) struct Upload {
    pub(crate) file: NamedTempFile,
    pub(crate) blake3: String,
    pub(crate) size_bytes: u64,
}

impl Upload {
    /// Reads a body into a file in `dir`.
    pub(crate) async fn receive(
        announced: &Announced,
        mut payload: web::Payload,
        dir: Option<&Path>,
        what: &str,
        max: u64,
    ) -> Result<Self, ApiError> {
        announced.check_length(what, max)?;
        let file = dir.map_or_else(NamedTempFile::new, NamedTempFile::new_in);
        let file = file.map_err(no_space)?;
        let mut writer = tokio::fs::File::from_std(file.reopen().map_err(no_space)?);
        let mut hasher = blake3::Hasher::new();
        let mut size_bytes = 0;
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(cut_off)?;
            size_bytes += chunk.len() as u64;
            if size_bytes > max {
                return Err(ApiError::too_large(what, max));
            }
            hasher.update(&chunk);
            writer.write_all(&chunk).await.map_err(no_space)?;
        }
        writer.flush().await.map_err(no_space)?;
        let hash = hasher.finalize();
        announced.check_whole(size_bytes, hash)?;
        Ok(Self {
            file,
            blake3: hash.to_hex().to_string(),
            size_bytes,
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
