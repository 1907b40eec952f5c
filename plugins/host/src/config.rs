//! Every limit that a plugin meets. Sizes are in bytes, times human-readable ("10ms").

use serde::{Deserialize, Serialize};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The limits of uploading and running plugins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What an upload may look like.
    pub screen: ScreenLimits,
    /// What compiling it may cost.
    pub compile: CompileLimits,
    /// What an instance may use.
    pub run: RunLimits,
}

/// What an upload may look like. The largest real plugin known (a Python interpreter) has functions
/// of 430 kB with 271 locals, 13,500 functions and 38 modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenLimits {
    /// The uploaded file. Default: 32 MiB.
    pub module_bytes: u64,
    /// The body of one function. Default: 1 MiB.
    pub function_bytes: u64,
    /// Functions with a body, all modules together. Default: 50,000.
    pub functions: u32,
    /// Locals of one function, parameters included. Default: 2,000.
    pub locals: u32,
    /// Locals of one function times the depth of its nested blocks: the cost of compiling grows
    /// with the product. Default: 400,000.
    pub nested_locals: u64,
    /// Modules and components inside a component. Default: 50.
    pub nested_modules: u32,
    /// What a plugin says about itself: its name and schema. Default: 64 KiB.
    pub description_bytes: u64,
}

impl Default for ScreenLimits {
    fn default() -> Self {
        Self {
            module_bytes: 32 * MIB,
            function_bytes: MIB,
            functions: 50_000,
            locals: 2_000,
            nested_locals: 400_000,
            nested_modules: 50,
            description_bytes: 64 << 10,
        }
    }
}

/// What compiling an upload may cost. It happens in a child process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileLimits {
    /// The first argument that makes this program the compile child. Default: `plugin-compile`.
    pub argument: String,
    /// The address space of the child. Default: 3 GiB.
    pub memory_bytes: u64,
    /// The CPU time of the child; beyond it the upload is rejected. Default: 60 s.
    #[serde(with = "humantime_serde")]
    pub cpu: Duration,
    /// The elapsed time of the child; beyond it the machine is overloaded, and the compilation
    /// fails but may be tried again. Default: 180 s.
    #[serde(with = "humantime_serde")]
    pub wall: Duration,
    /// The machine code. Default: 256 MiB.
    pub artifact_bytes: u64,
    /// Children at a time; more wait. Default: 1.
    pub concurrency: u32,
    /// The instructions (about) that one call of the probe may take. Default: 2,000,000,000.
    pub probe_fuel: u64,
    /// The values of one row of the probe's sample, all tensors together. Default: 1,000,000.
    pub probe_row_values: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            argument: "plugin-compile".to_owned(),
            memory_bytes: 3 << 30,
            cpu: Duration::from_secs(60),
            wall: Duration::from_secs(180),
            artifact_bytes: 256 * MIB,
            concurrency: 1,
            probe_fuel: 2_000_000_000,
            probe_row_values: 1_000_000,
        }
    }
}

/// What one instance of a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunLimits {
    /// Linear memory, all memories of the instance together. Default: 256 MiB.
    pub memory_bytes: u64,
    /// Memories. Default: 4.
    pub memories: u32,
    /// Elements of one table. Default: 20,000.
    pub table_elements: u32,
    /// Tables. Default: 50.
    pub tables: u32,
    /// Core instances. Default: 50.
    pub instances: u32,
    /// The stack. Part of the machine code's identity. Default: 512 KiB.
    pub stack_bytes: u64,
    /// What one call may hand back. Default: 64 MiB.
    pub output_bytes: u64,
    /// The time of one call; checked every `epoch_tick`, so it may be late by one. Default: 1 s.
    #[serde(with = "humantime_serde")]
    pub call_deadline: Duration,
    /// How often deadlines are checked. Default: 10 ms.
    #[serde(with = "humantime_serde")]
    pub epoch_tick: Duration,
    /// Give NaNs one bit pattern, so that results are equal on every family of CPUs; costs a fifth
    /// of the speed of vector code. Part of the machine code's identity. Default: true.
    pub canonical_nans: bool,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 * MIB,
            memories: 4,
            table_elements: 20_000,
            tables: 50,
            instances: 50,
            stack_bytes: 512 << 10,
            output_bytes: 64 * MIB,
            call_deadline: Duration::from_secs(1),
            epoch_tick: Duration::from_millis(10),
            canonical_nans: true,
        }
    }
}
