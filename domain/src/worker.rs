//! Workers, as the scheduler sees them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{PoolName, WorkerId};
use crate::job::EngineIdentity;
use crate::time::Timestamp;

/// A registered worker. Rewritten with every heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerRecord {
    /// Version tag of this form.
    pub version: u16,
    /// The worker's id, unique in its pool.
    pub id: WorkerId,
    /// The pool it serves.
    pub pool: PoolName,
    /// Which life of the worker this is: leases of an earlier life are lost.
    pub incarnation: String,
    /// What it runs with.
    pub engine: EngineIdentity,
    /// Jobs it runs at a time.
    pub slots: u32,
    /// Memory of each slot's device that a job may fill; 0 when it isn't known.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Where it stands, from the outside in, such as rack and host: workers of a gang are put near
    /// each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place: Vec<String>,
    /// Takes no new jobs: finishes what it has, then leaves.
    pub draining: bool,
    /// Heartbeats of this life. The scheduler watches it change, so that no clocks are compared.
    pub beats: u64,
    /// When it registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    /// How fast it is, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<DeviceProfile>,
}

/// What its operators want of a worker. Kept apart from [`WorkerRecord`], which is the worker's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerOrder {
    /// Version tag of this form.
    pub record_version: u16,
    /// What is wanted.
    pub standing: Standing,
    /// Who wants it.
    pub by: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl WorkerOrder {
    /// The key under which an order is kept.
    #[must_use]
    pub fn key(pool: &PoolName, worker: &WorkerId) -> String {
        format!("{pool}/{worker}")
    }
}

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It takes jobs.
    #[default]
    Open,
    /// It takes no new jobs, and ends those that it has.
    Cordoned,
    /// It takes no new jobs; those that it has save a checkpoint and go on elsewhere.
    Draining,
}

impl Standing {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
        }
    }
}

/// How fast a device is: what `stoker worker calibrate` measured, and what the times of a quote
/// come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceProfile {
    /// Version tag of this form.
    pub version: u16,
    /// What was measured.
    pub device_class: String,
    /// Threads that it was measured with.
    pub threads: u32,
    /// Floating-point operations per second of matrix products, a multiply-add counted as two.
    pub product_flops_per_s: u64,
    /// The same of convolutions.
    pub convolution_flops_per_s: u64,
    /// The same of attention.
    pub attention_flops_per_s: u64,
    /// Bytes per second that element-wise kernels read and write.
    pub bytes_per_s: u64,
    /// Nanoseconds of a kernel that has next to nothing to do.
    pub kernel_ns: u64,
}

/// How far a running attempt is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Epoch in progress, from 1.
    pub epoch: u64,
    /// Training loss of the newest step, per row.
    pub loss: Option<f64>,
    /// Rows trained on per second.
    pub samples_per_s: f64,
    /// Milliseconds until the end at this speed.
    pub eta_ms: Option<u64>,
}
