//! What the API answers: the same types in the server, the SDK and the OpenAPI document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::AuditEntry;
use crate::dataset::DatasetRecord;
use crate::error::{ErrorCode, FieldError};
use crate::explain::Explanation;
use crate::id::{JobId, PoolName, Ref, TenantId, UploadId};
use crate::job::{
    Attempt, Checkpoint, EngineIdentity, Event, Failure, Inputs, JobRecord, JobState, LetGo,
    Outcome, Used,
};
use crate::model::Prediction;
use crate::plugin::PluginRecord;
use crate::pool::PoolSettings;
use crate::port::Point;
use crate::project::ProjectRecord;
use crate::spec::JobSpec;
use crate::tenant::{ApiKeyRecord, Role, TokenRecord};
use crate::time::Timestamp;
use crate::usage::UsageRecord;
use crate::worker::{Progress, Standing, WorkerOrder, WorkerRecord};

/// A job, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// What becomes of it when its worker lets go; only while it is pausing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letting_go: Option<LetGo>,
    /// The spec, with references pinned to versions and defaults filled in.
    pub spec: JobSpec,
    /// What the references point at.
    pub inputs: Inputs,
    /// The job that this one runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<JobId>,
    /// The present or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// What its ended attempts have used.
    #[serde(default)]
    pub used: Used,
    /// How far the present attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// What it produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
    /// Why the last attempt failed, or the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Engine build and device class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineIdentity>,
    /// Whether every attempt ran on the same engine build and device class.
    pub exact: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl JobView {
    /// The owner's view of a record.
    #[must_use]
    pub fn new(record: JobRecord, progress: Option<Progress>) -> Self {
        Self {
            id: record.id,
            state: record.state,
            letting_go: record.letting_go,
            spec: record.spec,
            inputs: record.inputs,
            replay_of: record.replay_of,
            attempt: record.attempt,
            used: record.used,
            progress,
            checkpoint: record.checkpoint,
            result: record.result,
            failure: record.failure,
            engine: record.engine,
            exact: record.exact,
            created_at: record.created_at,
            updated_at: record.updated_at,
            finished_at: record.finished_at,
        }
    }
}

/// What a job would take, by its spec and its data set alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobQuote {
    /// The data set's version that it was quoted on.
    #[schema(value_type = String)]
    pub dataset: Ref,
    /// Numbers that are trained.
    pub parameters: u64,
    /// Floating-point operations of the products in one optimiser step, a multiply-add counted as
    /// two.
    pub flops_per_step: u64,
    /// Optimiser steps of an epoch; null when no batch is left to train on, which fails the job.
    pub steps_per_epoch: Option<u64>,
    /// Rows to train on; null where a preprocessing step leaves out or packs rows, which must be
    /// read to know.
    pub training_rows: Option<u64>,
    /// Rows held out; null as `training_rows`.
    pub held_out_rows: Option<u64>,
    /// Optimiser steps in all; null as `steps_per_epoch`.
    pub steps: Option<u64>,
    /// Memory that training allocates: the sum of `memory`. The data set isn't in it.
    pub peak_bytes: u64,
    /// The parts of `peak_bytes`.
    pub memory: MemoryQuote,
    /// One checkpoint, about.
    pub checkpoint_bytes: u64,
    /// The data set's file, which the worker fetches.
    pub dataset_bytes: u64,
    /// How long it would take on the slowest calibrated worker of its pool; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationQuote>,
}

/// How long a job would run, on a worker that has nothing else to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DurationQuote {
    /// Microseconds of one optimiser step.
    pub step_us: u64,
    /// Milliseconds of all steps and evaluations; absent when no batch is left to train on. Reading
    /// the data and writing the results aren't in it, nor are plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// The class of the device that it was worked out for.
    pub device_class: String,
    /// Threads of that device.
    pub threads: u32,
}

/// What a job's memory goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryQuote {
    /// The weights.
    pub weight_bytes: u64,
    /// Activations, their gradients and scratch of one virtual shard.
    pub arena_bytes: u64,
    /// The optimiser's moments.
    pub optimizer_bytes: u64,
    /// The weights' gradients.
    pub gradient_bytes: u64,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<JobId>,
}

/// A page of a job's events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The events, by position.
    pub events: Vec<Event>,
    /// Give this as `from` for what comes after.
    pub next: u64,
}

/// A page of a job's metric points, or a sample of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricList {
    /// The points, by metric and step.
    pub points: Vec<Point>,
    /// Of a sample: how many points each metric has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<BTreeMap<String, u64>>,
}

/// What a model says of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictionList {
    /// The predictions, by row. Rows that a step leaves out, such as those before the first whole
    /// window, have none.
    pub predictions: Vec<Prediction>,
}

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The fencing token of the attempt that wrote it.
    pub token: u64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
}

/// A page of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogList {
    /// The lines, by attempt and time.
    pub lines: Vec<LogLine>,
    /// Give this as `from` for what comes after.
    pub next: u64,
}

/// A list of data sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetList {
    /// The data sets.
    pub datasets: Vec<DatasetRecord>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What to do with all jobs that a filter finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// What to do.
    pub action: BatchAction,
    /// Only jobs in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only jobs of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only jobs with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only jobs with all of these tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Only jobs older than this one: `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<JobId>,
    /// Only say which jobs it would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What may be done with many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchAction {
    /// End them.
    Cancel,
    /// End them, running ones after a checkpoint.
    CancelGently,
    /// Have them save a checkpoint and let go of their workers; queued ones wait.
    Pause,
    /// Queue paused ones again.
    Resume,
    /// Remove those that have ended, with all they produced.
    Delete,
}

/// What was done with many jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// The jobs that it was done with, or would be.
    pub done: Vec<JobId>,
    /// The jobs that the filter found and whose state didn't allow it.
    pub left: Vec<JobId>,
    /// Where to go on; absent when all jobs were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<JobId>,
}

/// A pool, as those who use it see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// How it is shared; of tenants' shares only one's own, unless one is an operator.
    pub settings: PoolSettings,
    /// Workers that are registered.
    pub workers: u32,
    /// Their devices.
    pub devices: u32,
    /// Devices that a job has.
    pub busy: u32,
    /// Jobs that have a worker.
    pub running: u32,
    /// Jobs that wait.
    pub queued: u32,
}

/// A list of pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    /// The pools.
    pub pools: Vec<PoolView>,
}

/// A worker, as its operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// What it says of itself.
    pub worker: WorkerRecord,
    /// What its operators want of it.
    pub standing: Standing,
    /// Who wanted it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<WorkerOrder>,
    /// The jobs that it has.
    pub jobs: Vec<JobId>,
}

/// A list of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// The workers.
    pub workers: Vec<WorkerView>,
}

/// What is needed to make a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Its name, unique in the tenant.
    pub name: String,
    /// Whether everybody of the tenant may do in it what their token's role allows.
    #[serde(default)]
    pub open: bool,
}

/// What may be changed about a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSettings {
    /// Whether everybody of the tenant may do in it what their token's role allows.
    pub open: bool,
}

/// What a member may do in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// viewer, developer or admin.
    pub role: Role,
}

/// A list of projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// The projects.
    pub projects: Vec<ProjectRecord>,
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobExplanation {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Why, in a sentence.
    pub sentence: String,
    /// Its place in the queue, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Explanation>,
    /// What would be, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_if: Option<Explanation>,
    /// How far the present attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why the last attempt failed, or the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A tenant's secret, without the secret itself: nobody can read that again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Who wrote it last.
    pub by: String,
    /// When that was.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A list of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// The secrets.
    pub secrets: Vec<SecretView>,
}

/// Who asks, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Whom the token speaks for.
    pub subject: String,
    /// What it may do.
    pub role: Role,
    /// The one project whose jobs it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// What is needed to make an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// A name for people.
    pub name: String,
    /// What it may do; not more than its maker.
    pub role: Role,
    /// The one project whose jobs it is for; the whole tenant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Seconds until it ends.
    pub expires_in_s: u64,
}

/// An API key, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyView {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one project whose jobs it is for; the whole tenant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl From<ApiKeyRecord> for ApiKeyView {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            role: record.role,
            project: record.project,
            created_by: record.created_by,
            created_at: record.created_at,
            expires_at: record.expires_at,
            revoked: record.revoked,
        }
    }
}

/// A new API key. The key is shown here and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyCreated {
    /// The key.
    pub key: String,
    /// What is kept of it.
    pub record: ApiKeyView,
}

/// A list of API keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyList {
    /// The keys.
    pub keys: Vec<ApiKeyView>,
}

/// What was changed in a tenant, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries of the page that the filter finds.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What attempts used, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageList {
    /// The attempts, each when it ended.
    pub attempts: Vec<UsageRecord>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What use is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// By project.
    Project,
    /// By pool.
    Pool,
    /// By job.
    Job,
}

impl UsageBy {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Project, Self::Pool, Self::Job];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Pool => "pool",
            Self::Job => "job",
        }
    }

    /// What an attempt is summed under.
    #[must_use]
    pub fn of(self, attempt: &UsageRecord) -> String {
        match self {
            Self::Project => attempt.project.clone(),
            Self::Pool => attempt.pool.to_string(),
            Self::Job => attempt.job.to_string(),
        }
    }
}

/// Sums of what attempts used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSums {
    /// What is summed by.
    pub by: UsageBy,
    /// The sums, by name.
    pub groups: Vec<UsageGroup>,
}

/// One sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageGroup {
    /// The project, pool or job.
    pub name: String,
    /// Attempts.
    pub attempts: u64,
    /// Their time and cost.
    #[serde(flatten)]
    pub used: Used,
}

/// An upload in parts, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// The upload's id.
    pub id: UploadId,
    /// Length of the whole.
    pub size_bytes: u64,
    /// Bytes that are kept: where the next part begins.
    pub offset: u64,
    /// Most bytes of a part.
    pub part_max_bytes: u64,
    /// When it ends, whatever has come by then.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The data set that was made of it, `name@version`; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
}

/// A list of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadList {
    /// The uploads.
    pub uploads: Vec<UploadView>,
}

/// The first rows of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetPreview {
    /// `name@version`.
    pub dataset: String,
    /// Rows of the data set.
    pub total_rows: u64,
    /// Columns of the data set.
    pub total_columns: u64,
    /// The columns that are shown, in order: the first 256.
    pub columns: Vec<String>,
    /// A value per column: a number, a text, null where it is missing, a list of numbers, or
    /// `{"shape", "first"}` of a long one; of a picture `{"width", "height", "channels"}`.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// A list of plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginList {
    /// The plugins.
    pub plugins: Vec<PluginRecord>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whom it speaks for.
    pub subject: String,
    /// What it may do; not more than its maker.
    pub role: Role,
    /// Seconds until it ends, 60 to 31,536,000 (a year).
    pub expires_in_s: u64,
}

/// A new token: shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token itself. It can't be had again.
    pub token: String,
    /// What is stored of it.
    pub record: TokenRecord,
}

/// A list of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenRecord>,
}

/// An error (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `/errors/<code>`: the path of the page that explains it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same sentence for every error with this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The error's code.
    pub code: ErrorCode,
    /// What went wrong this time.
    pub detail: String,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Names this request in the server's log.
    pub request_id: String,
}
