//! How much of the machine an instance used.
#![expect(
    clippy::disallowed_methods,
    reason = "measures elapsed time; no decision depends on what the clock says"
)]

use std::time::{Duration, Instant};

/// What an instance has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Calls, failed ones included.
    pub calls: u64,
    /// Time spent in them.
    pub busy: Duration,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
}

impl Usage {
    /// Runs `call` and adds it.
    pub(crate) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.calls += 1;
        self.busy += start.elapsed();
        result
    }
}
