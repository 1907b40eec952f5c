//! Screens, compiles and runs plugins in a sandbox.
//!
//! A plugin is a WebAssembly component, or a core module that is lifted to one, that exports one
//! role of the contract in `plugins/wit`. Its way through this crate:
//!
//! 1. [`Compiler::compile`] hands the uploaded bytes to a child process with limits on memory, CPU
//!    and time, which runs [`compile_main`]: [`screen()`] checks them against allow-lists and caps,
//!    the engine compiles them, and a probe runs the result on a sample batch. The parent seals the
//!    machine code with a key.
//! 2. [`Host::load`] opens a sealed artifact: code that we didn't compile is never run.
//! 3. [`Plugin::preprocess`] and [`Plugin::metric`] make instances. Each has its own store, limits
//!    and deadline, belongs to one job, and is never used again after a trap.
//!
//! No type of the WebAssembly engine is part of the interface.

mod artifact;
mod batch;
mod bindings;
mod compile;
mod config;
mod convert;
mod description;
mod engine;
mod error;
mod host;
mod load;
mod meter;
mod metric;
mod plugin;
mod preprocess;
mod probe;
mod rejection;
mod sandbox;
mod screen;

pub use artifact::ArtifactKey;
pub use batch::{Batch, Element, Strings, Tensor, Values};
pub use compile::{Compiled, Compiler, compile_main};
pub use config::{CompileLimits, Config, RunLimits, ScreenLimits};
pub use description::{Better, Contract, Description, Role, TensorSpec};
pub use error::{CompileError, LoadError, PluginError, PluginErrorKind};
pub use host::Host;
pub use meter::Usage;
pub use metric::Metric;
pub use plugin::Plugin;
pub use preprocess::Preprocess;
pub use probe::ProbeReport;
pub use rejection::{Reason, Rejection};
pub use screen::{Screened, screen};
