//! What a job needs of its pool, known before it starts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a job needs of its pool. It follows from spec and plan, and doesn't change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Demand {
    /// Fewest workers that it runs on; it gets all of them at once or none.
    pub workers_min: u32,
    /// Most workers that it makes use of.
    pub workers_max: u32,
    /// Devices of each worker.
    pub devices: u32,
    /// Memory of each device, as quoted.
    pub memory_bytes: u64,
    /// How long it would run, on the slowest calibrated worker of its pool; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_ms: Option<u64>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            workers_min: 1,
            workers_max: 1,
            devices: 1,
            memory_bytes: 0,
            expected_ms: None,
        }
    }
}
