//! The `Upload-Offset` header: where a part of an upload begins.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures::future::{Ready, ready};

use crate::problem::ApiError;

/// Header with a place in an upload, as tus and the IETF's draft of resumable uploads call it.
pub(crate) const OFFSET_HEADER: &str = "Upload-Offset";
/// Header with the length of a whole upload.
pub(crate) const LENGTH_HEADER: &str = "Upload-Length";

/// Where the request's part begins.
pub(crate) struct Offset(pub(crate) u64);

impl FromRequest for Offset {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let refused = |message: &str| ApiError::syntax_field(OFFSET_HEADER, message);
        ready(match request.headers().get(OFFSET_HEADER) {
            None => Err(refused(
                "the header is missing: the place of the part's first byte",
            )),
            Some(value) => {
                let offset = value.to_str().ok().and_then(|text| text.parse().ok());
                offset
                    .map(Self)
                    .ok_or_else(|| refused("not a number of bytes"))
            }
        })
    }
}
