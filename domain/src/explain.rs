//! Why a job waits, where it stands in its queue, and when it will start.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::JobId;
use crate::job::EngineIdentity;
use crate::pool::PoolSettings;
use crate::spec::Priority;
use crate::time::Timestamp;

/// What the scheduler says of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Its place in the queue, from 1, as things are; absent when it isn't queued, or too far back to
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The jobs that come before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<JobsAhead>,
    /// What keeps it from starting, the most important first.
    pub blockers: Vec<Blocker>,
    /// The rule that decides, in a sentence.
    pub rule: String,
    /// When it will start; absent when not enough is known of what runs, or the queue is too long to
    /// look ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartEstimate>,
}

/// Jobs that come before one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobsAhead {
    /// Of a higher priority class.
    pub higher_class: u64,
    /// Older ones of the same tenant and class.
    pub own: u64,
    /// Of tenants that use less for their weight, or that are within what is their own.
    pub other_tenants: u64,
}

/// When a job will start: in eight of ten cases within this interval. Jobs that nobody has submitted
/// yet may come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartEstimate {
    /// Milliseconds from now, at the earliest.
    pub earliest_ms: u64,
    /// Milliseconds from now, at the latest.
    pub latest_ms: u64,
}

/// What keeps a job from starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blocker {
    /// It waits for the time of its next attempt.
    RetryTime {
        /// When that is.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    /// Its tenant has as many jobs on devices as it may have.
    JobsMax {
        /// How many those are.
        jobs_max: u32,
    },
    /// Its tenant would have more devices than it may have.
    DevicesMax {
        /// Most devices of the tenant.
        devices_max: u32,
        /// Devices that the tenant's jobs have.
        in_use: u32,
        /// Devices that the job needs.
        needed: u32,
    },
    /// No worker of the pool takes jobs.
    NoWorker {},
    /// No device has enough memory.
    NotEnoughMemory {
        /// Bytes that the job needs of a device.
        needed_bytes: u64,
        /// The most that a device of the pool has.
        largest_bytes: u64,
    },
    /// The pool doesn't have so many workers with so many devices.
    TooFewWorkers {
        /// Workers that the job needs.
        workers: u32,
        /// Devices that it needs of each.
        devices: u32,
        /// Workers that have so many.
        there_are: u32,
    },
    /// No worker has the engine build and device class that it began on.
    NoWorkerOfEngine {
        /// What it began on.
        engine: EngineIdentity,
        /// When it may go on elsewhere, and loses its promise of exactness.
        #[schema(value_type = String, format = DateTime)]
        moves_at: Timestamp,
    },
    /// Others have the devices that it could run on.
    NoFreeDevices {
        /// Devices that it needs.
        needed: u32,
        /// Free devices of the pool.
        free: u32,
        /// Of those, devices that are kept for others.
        held: u32,
    },
    /// Jobs of a higher class come first.
    HigherClass {
        /// How many.
        jobs: u64,
    },
    /// Tenants that use less for their weight, or that are within what is their own, come first.
    OtherTenants {
        /// How many jobs of theirs.
        jobs: u64,
    },
    /// Older jobs of its tenant come first.
    OwnJobs {
        /// How many.
        jobs: u64,
    },
    /// Others save a checkpoint and let go, to make room.
    RoomIsMade {
        /// How many.
        jobs: u64,
    },
}

/// What would be different.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WhatIf {
    /// The job had this priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// It needed so many devices of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<u32>,
    /// It ran on so many workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// The pool was shared like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<PoolSettings>,
}
