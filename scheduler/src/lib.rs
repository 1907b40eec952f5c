//! Decides which job runs where, and makes it so.
//!
//! [`decide`] is pure: a [`State`] that was told what the store holds, and a time, give actions.
//! [`explain`] is the same, run forward: why a job waits, and when it will start; [`Explanations`]
//! tells it to the API.
//! [`run`] does the I/O around it: leads the pool by a lease in the store, listens to the queue,
//! reconciles with the store every second, and writes what was decided under its epoch.

mod config;
mod decide;
mod drive;
mod explainer;
mod settings;

pub use config::Config;
pub use decide::{Action, Lost, Now, State, USAGE_VERSION, UsageSnapshot, decide, explain};
pub use drive::{Ports, run};
pub use explainer::Explanations;
