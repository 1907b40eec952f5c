//! Who is calling: JSON Web Tokens (RFC 7519) by keys that the configuration names.

pub(crate) mod api_key;
mod claims;
mod keys;
mod signing;
mod verifier;

pub(crate) use claims::Caller;
pub use signing::{Grant, KeyError, SigningKey};
pub(crate) use verifier::Verifier;
