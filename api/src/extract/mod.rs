//! What handlers take: proofs of a right, checked parameters, bodies within a limit.

mod authorized;
mod idempotency;
mod offset;
mod params;
mod project;
mod spool;

pub(crate) use authorized::{Authorized, Guarded, Look, Make, Operate, Public, Rule};
pub(crate) use idempotency::IdempotencyKey;
pub(crate) use offset::{LENGTH_HEADER, OFFSET_HEADER, Offset};
pub(crate) use params::{Params, path_name};
pub(crate) use project::{Within, default_project, project, projects};
pub(crate) use spool::{Announced, Spool, Spooled, read_body};
