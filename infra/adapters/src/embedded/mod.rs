//! The embedded adapters: the whole platform's state in SQLite files of one data directory.
//!
//! They are as durable as the servers they stand in for. One thread writes, and many requests share
//! one transaction and one sync to disk (`writer`); reads run beside it on connections of their own
//! (`reader`). Metric points and messages have files of their own, so that floods of them don't
//! share the jobs' log.

mod catalog;
mod change;
mod database;
mod jobs;
mod leadership;
mod loans;
mod points;
mod queue;
mod reader;
mod store;
mod workers;
mod writer;

pub use queue::EmbeddedQueue;
pub use store::EmbeddedStore;
