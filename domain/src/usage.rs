//! What attempts used. A record is written in one step with the end of its attempt, and outlives the
//! job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::id_from;
use crate::id::{JobId, PoolName, WorkerId};
use crate::job::{EngineIdentity, JobRecord, JobState, Used};
use crate::port::{CatalogKind, Document};
use crate::time::Timestamp;

/// Version tag of stored records.
pub const RECORD_VERSION: u16 = 1;

/// What one attempt used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// The record's id; ids go by the time of the end.
    pub id: String,
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// The pool.
    pub pool: PoolName,
    /// The worker.
    pub worker: WorkerId,
    /// What it ran with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineIdentity>,
    /// Devices that it had.
    pub devices: u32,
    /// When the worker began; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// What the job was then.
    pub state: JobState,
    /// Time and cost.
    #[serde(flatten)]
    pub used: Used,
}

impl UsageRecord {
    /// What the attempt used that `before` had and that has ended in `after`.
    #[must_use]
    pub fn of(before: &JobRecord, after: &JobRecord) -> Option<Self> {
        let attempt = after.attempt.as_ref()?;
        let ended_at = attempt.ended_at?;
        let was_open = before.attempt.as_ref()?.ended_at.is_none();
        was_open.then(|| Self {
            record_version: RECORD_VERSION,
            id: format!("{}-{}-{}", id_from(ended_at), after.id, attempt.token),
            job: after.id,
            name: after.spec.name.clone(),
            project: after.spec.project.clone(),
            attempt: attempt.number,
            pool: after.pool().clone(),
            worker: attempt.worker.clone(),
            engine: after.engine.clone(),
            devices: after.demand.devices,
            started_at: attempt.started_at,
            ended_at,
            state: after.state,
            used: Used {
                run_ms: after.used.run_ms - before.used.run_ms,
                device_ms: after.used.device_ms - before.used.device_ms,
                cost: after.used.cost - before.used.cost,
            },
        })
    }

    /// As it is kept.
    #[must_use]
    pub fn document(&self, job: &JobRecord) -> Document {
        Document {
            kind: CatalogKind::Attempt,
            tenant: job.tenant.clone(),
            key: self.id.clone(),
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}
