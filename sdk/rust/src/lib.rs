//! The client of Stoker's HTTP API: one method per operation, with the operation's name, over the
//! same types that the server answers with.
//!
//! ```no_run
//! # async fn example() -> Result<(), stoker_sdk::Error> {
//! use stoker_sdk::{Client, ClientConfig};
//!
//! let client = Client::new(ClientConfig::new("http://127.0.0.1:8080", "a token"))?;
//! let job = client.create_job_toml("name = \"digits\" # …").await?;
//! let ended = client.wait_job(job.id).await?;
//! println!("{}", ended.state.as_str());
//! # Ok(())
//! # }
//! ```
//!
//! What may pass is tried again: connections refused or lost, time-outs, and the answers 429, 502,
//! 503 and 504, after a growing pause or the one that the server asked for. Every POST carries an
//! `Idempotency-Key` that stays the same over its tries, so that a retry never makes a second job.
//! Redirects aren't followed: the token goes to the configured server and nowhere else.

mod artifact;
mod audit;
mod backoff;
mod catalog;
mod client;
mod config;
mod error;
mod events;
mod jobs;
mod key;
mod keys;
mod page;
mod parts;
mod pools;
mod projects;
mod secrets;
mod send;
mod sse;
mod upload;
mod watch;

pub use audit::{AuditQuery, UsageQuery};
pub use catalog::{Header, NewDataset, RemoteDataset};
pub use client::Client;
pub use config::{ClientConfig, Retries, Timeouts};
pub use error::{Error, Result};
pub use jobs::{ExplainQuery, JobQuery, MetricQuery, SpecText};
pub use key::IdempotencyKey;
pub use parts::{Begun, UploadMemory};
pub use upload::{Progress, Upload};

pub use stoker_domain::{
    ErrorCode, FieldError, JobId, JobSpec, JobState, Ref, Timestamp, UploadId, dataset, job,
    plugin, spec, tenant, view,
};
