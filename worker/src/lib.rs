//! Leases a job, runs it and reports.
//!
//! A worker registers, listens to its own queue, and runs what it is given: `attempt` is one try
//! from lease to commit, `lease` keeps it alive, `spool` carries points and lines out without ever
//! holding training up, `commit` makes results durable and then true, `inputs` fetches and caches,
//! and `train` hands it all to the engine.

mod attempt;
mod card;
mod commit;
mod config;
mod control;
mod device;
mod disk;
mod inputs;
mod lease;
mod model;
mod onnx;
mod plugin_steps;
mod ports;
mod predict;
mod prepare;
mod registration;
mod spool;
mod train;
mod worker;

pub use config::Config;
pub use device::calibrate;
pub use model::{Model, check_names};
pub use ports::Ports;
pub use predict::Predictions;
pub use worker::{StartError, run};
