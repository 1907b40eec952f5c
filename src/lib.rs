//! Stoker: trains AI models as jobs.
//!
//! The composition root: it reads the settings, opens the adapters, and hands them to the roles.
//! One binary is every role and the client; [`launch`] runs it from the demo, benches and tests.

mod backup;
mod cli;
mod commands;
mod config;
mod demo;
pub mod digits;
mod environment;
mod keys;
pub mod launch;
mod logging;
mod roles;
mod tenants;
mod wiring;

use std::process::ExitCode;

/// Runs the command that the process was given.
#[must_use]
pub fn main() -> ExitCode {
    commands::main()
}
