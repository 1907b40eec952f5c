//! Decides which job runs where, and makes it so.
//!
//! [`decide`] is pure: a [`State`] that was told what the store holds, and a time, give actions.
//! [`drive`] does the I/O around it: leads the pool by a lease in the store, listens to the queue,
//! reconciles with the store every second, and writes what was decided under its epoch.

mod config;
mod decide;
mod drive;

pub use config::Config;
pub use decide::{Action, Lost, Now, State, decide};
pub use drive::{Ports, run};
