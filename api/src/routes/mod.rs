//! The handlers, one file per resource. `openapi` lists them once, for the server and the document.

pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod batch;
pub(crate) mod create_dataset;
pub(crate) mod create_job;
pub(crate) mod datasets;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod plugins;
pub(crate) mod pools;
pub(crate) mod predict;
pub(crate) mod preview;
pub(crate) mod projects;
pub(crate) mod quote_job;
pub(crate) mod replay;
pub(crate) mod secrets;
pub(crate) mod tokens;
pub(crate) mod uploads;
pub(crate) mod workers;

mod catalog;
mod dataset_version;
mod upload_store;
