//! What happened to a job. Positions are dense integers of the job, from 0.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Failure;
use crate::id::WorkerId;
use crate::time::Timestamp;

/// One entry of a job's event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// 0, 1, 2, … without gaps.
    pub position: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The fencing token of the attempt it belongs to; 0 before the first.
    pub token: u64,
    /// What.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// The job was created, or resumed after a pause.
    Queued {},
    /// The scheduler gave the job to a worker.
    Dispatched {
        /// Which.
        worker: WorkerId,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// The worker began.
    Started {
        /// Optimiser steps that a checkpoint saved it from doing again.
        from_step: u64,
    },
    /// A checkpoint was committed.
    Checkpointed {
        /// Optimiser steps done.
        step: u64,
        /// BLAKE3 of the checkpoint.
        blake3: String,
    },
    /// The attempt ended and another will follow.
    Requeued {
        /// Why.
        reason: String,
        /// Not before this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime)]
        not_before: Option<Timestamp>,
    },
    /// Somebody asked for a pause.
    Pausing {},
    /// Its worker is to save a checkpoint and let go: its place is needed.
    Preempting {
        /// What for.
        reason: String,
    },
    /// Somebody asked for the end, with a checkpoint.
    Cancelling {},
    /// The job let go of its worker.
    Paused {},
    /// Another engine build or device class took over: the weights may differ in their last bits.
    Inexact {},
    /// The job ended well.
    Succeeded {
        /// BLAKE3 of the manifest of its artifacts.
        manifest_blake3: String,
    },
    /// The job ended badly.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The job was ended by request.
    Cancelled {},
}

impl EventBody {
    /// The event's type as it is written.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Queued {} => "queued",
            Self::Dispatched { .. } => "dispatched",
            Self::Started { .. } => "started",
            Self::Checkpointed { .. } => "checkpointed",
            Self::Requeued { .. } => "requeued",
            Self::Pausing {} => "pausing",
            Self::Preempting { .. } => "preempting",
            Self::Cancelling {} => "cancelling",
            Self::Paused {} => "paused",
            Self::Inexact {} => "inexact",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled {} => "cancelled",
        }
    }
}
