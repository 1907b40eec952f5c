//! What handlers take: proofs of a right, checked parameters, bodies within a limit.

mod authorized;
mod idempotency;
mod params;
mod upload;

pub(crate) use authorized::{Authorized, Guarded, Look, Make, Public, Rule};
pub(crate) use idempotency::IdempotencyKey;
pub(crate) use params::{Params, path_name};
pub(crate) use upload::{Announced, Upload, read_body};
