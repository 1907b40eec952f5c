//! The `Idempotency-Key` header.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures::future::{Ready, ready};

use crate::problem::ApiError;

const HEADER: &str = "Idempotency-Key";
/// Longest key.
const MAX_BYTES: usize = 128;

/// The caller's name for this request: the same for each repeat.
#[derive(Clone)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequest for IdempotencyKey {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let refused = |message: String| ApiError::syntax_field(HEADER, message);
        ready(match request.headers().get(HEADER) {
            None => Err(refused(
                "the header is missing: a text of your choice, new for each new request".to_owned(),
            )),
            Some(value) => match value.to_str() {
                Ok(key) if (1..=MAX_BYTES).contains(&key.len()) && is_printable(key) => {
                    Ok(Self(key.to_owned()))
                }
                _ => Err(refused(format!(
                    "not 1 to {MAX_BYTES} printable ASCII characters"
                ))),
            },
        })
    }
}

fn is_printable(key: &str) -> bool {
    key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
