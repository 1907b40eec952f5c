//! The operations on jobs.

use bytes::Bytes;
use futures::stream::BoxStream;
use stoker_domain::diff::JobDiff;
use stoker_domain::job::{Artifact, JobState};
use stoker_domain::spec::Priority;
use stoker_domain::view::{
    BatchRequest, BatchResult, EventList, JobExplanation, JobList, JobQuote, JobView, LogLine,
    LogList, MetricList, PredictionList,
};
use stoker_domain::{JobId, JobSpec, PoolName};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::page;
use crate::send::{Call, JSON};

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// In this state.
    pub state: Option<JobState>,
    /// In this project.
    pub project: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// With all of these tags.
    pub tags: Vec<(String, String)>,
    /// Older than this one: `next` of the page before.
    pub after: Option<JobId>,
    /// Jobs per page; the server's choice when absent.
    pub limit: Option<u32>,
}

/// Which metric points to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricQuery {
    /// Of this metric; all when absent.
    pub metric: Option<String>,
    /// From this optimiser step on.
    pub from_step: u64,
    /// Up to this optimiser step; to the last when absent.
    pub to_step: Option<u64>,
    /// Most points; the server's choice when absent. Not with `sample`.
    pub limit: Option<u32>,
    /// Whole curves, thinned to so many points each: the first, the last, and what stands out
    /// between them.
    pub sample: Option<u32>,
}

/// What if a job were different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExplainQuery {
    /// It had this priority.
    pub priority: Option<Priority>,
    /// It needed so many devices.
    pub devices: Option<u32>,
    /// It were in this pool.
    pub pool: Option<PoolName>,
}

/// A spec as text. The server reads it, so that a client older than the server sends what it
/// doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecText<'a> {
    /// TOML.
    Toml(&'a str),
    /// JSON.
    Json(&'a str),
}

impl SpecText<'_> {
    fn body(self) -> (&'static str, Bytes) {
        let (content_type, text) = match self {
            Self::Toml(text) => ("application/toml", text),
            Self::Json(text) => (JSON, text),
        };
        (content_type, Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Client {
    /// Creates a job. It is queued when this returns.
    ///
    /// # Errors
    /// [`Error::Problem`] with one field error per wrong field when the spec is refused.
    pub async fn create_job(&self, spec: &JobSpec) -> Result<JobView> {
        let json = serde_json::to_string(spec).map_err(|error| Error::Config {
            field: "spec",
            message: error.to_string(),
        })?;
        self.create_job_under(SpecText::Json(&json), &IdempotencyKey::generate())
            .await
    }

    /// Creates a job from a spec in TOML.
    ///
    /// # Errors
    /// As [`Client::create_job`].
    pub async fn create_job_toml(&self, text: &str) -> Result<JobView> {
        self.create_job_under(SpecText::Toml(text), &IdempotencyKey::generate())
            .await
    }

    /// Creates a job under a key of the caller's: the same key and spec give the same job, however
    /// often this is called.
    ///
    /// # Errors
    /// As [`Client::create_job`]; `idempotency_mismatch` when the key was used with another spec.
    pub async fn create_job_under(
        &self,
        spec: SpecText<'_>,
        key: &IdempotencyKey,
    ) -> Result<JobView> {
        let (content_type, body) = spec.body();
        let call = Call::post(self.url(&["v1", "jobs"]), key).body(content_type, body);
        self.fetch(&call).await
    }

    /// What a job would take, without creating it.
    ///
    /// # Errors
    /// As [`Client::create_job`].
    pub async fn quote_job(&self, spec: SpecText<'_>) -> Result<JobQuote> {
        let (content_type, body) = spec.body();
        let url = self.url(&["v1", "jobs", "quote"]);
        // The server takes no key here: nothing is stored that a repeat could store again.
        let call = Call::post(url, &IdempotencyKey::generate()).body(content_type, body);
        self.fetch(&call).await
    }

    /// Runs a finished job again under a key of the caller's.
    ///
    /// # Errors
    /// `conflict` when it didn't succeed, or data set or plugins aren't what they were.
    pub async fn replay_job(&self, id: JobId, key: &IdempotencyKey) -> Result<JobView> {
        let url = self.url(&["v1", "jobs", &id.to_string(), "replay"]);
        self.fetch(&Call::post(url, key)).await
    }

    /// What differs between two jobs; without `with`, between a replay and what it replays.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn diff_jobs(&self, id: JobId, with: Option<JobId>) -> Result<JobDiff> {
        let mut url = self.url(&["v1", "jobs", &id.to_string(), "diff"]);
        page::set_query(&mut url, [("with", with.map(|id| id.to_string()))]);
        self.fetch(&Call::get(url)).await
    }

    /// Predicts rows, each a value by the name of a column, with the model of a finished job.
    ///
    /// # Errors
    /// `invalid_input` when a row doesn't fit the model, `conflict` when the job has none.
    pub async fn predict(
        &self,
        id: JobId,
        rows: &[serde_json::Map<String, serde_json::Value>],
    ) -> Result<PredictionList> {
        let url = self.url(&["v1", "jobs", &id.to_string(), "predict"]);
        let body = serde_json::json!({ "rows": rows }).to_string();
        // The server takes no key here: nothing is stored that a repeat could store again.
        let call = Call::post(url, &IdempotencyKey::generate()).body(JSON, Bytes::from(body));
        self.fetch(&call).await
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_jobs(&self, query: &JobQuery) -> Result<JobList> {
        let mut url = self.url(&["v1", "jobs"]);
        let tags = query
            .tags
            .iter()
            .map(|(k, v)| ("tag", Some(format!("{k}:{v}"))));
        let pairs = [
            ("state", query.state.map(|state| state.as_str().to_owned())),
            ("project", query.project.clone()),
            ("name", query.name.clone()),
            ("after", query.after.map(|id| id.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
        ];
        page::set_query(&mut url, pairs.into_iter().chain(tags));
        self.fetch(&Call::get(url)).await
    }

    /// All jobs that the query names, newest first, page after page.
    #[must_use]
    pub fn jobs(&self, query: JobQuery) -> BoxStream<'static, Result<JobView>> {
        let client = self.clone();
        page::paged(query.after, move |after| {
            let (client, query) = (client.clone(), query.clone());
            async move {
                let page = client.list_jobs(&JobQuery { after, ..query }).await?;
                Ok((page.jobs, page.next))
            }
        })
    }

    /// A job.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such job.
    pub async fn get_job(&self, id: JobId) -> Result<JobView> {
        self.fetch(&Call::get(self.job_url(id, &[]))).await
    }

    /// Why a job is where it is, and what would be if it were different.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn explain_job(&self, id: JobId, query: &ExplainQuery) -> Result<JobExplanation> {
        let mut url = self.job_url(id, &["explain"]);
        let pairs = [
            ("priority", query.priority.map(|p| p.as_str().to_owned())),
            ("devices", query.devices.map(|count| count.to_string())),
            ("pool", query.pool.as_ref().map(ToString::to_string)),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    /// Ends a job.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the job has ended.
    pub async fn cancel_job(&self, id: JobId) -> Result<JobView> {
        self.act(id, "cancel").await
    }

    /// Ends a job; a running one saves a checkpoint first.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the job has ended.
    pub async fn cancel_job_gently(&self, id: JobId) -> Result<JobView> {
        let mut url = self.job_url(id, &["cancel"]);
        page::set_query(&mut url, [("checkpoint", Some("true".to_owned()))]);
        self.fetch(&Call::post(url, &IdempotencyKey::generate()))
            .await
    }

    /// Does the same with many jobs: a page of them, newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn batch_jobs(&self, request: &BatchRequest) -> Result<BatchResult> {
        let json = serde_json::to_vec(request).map_err(|error| Error::Config {
            field: "request",
            message: error.to_string(),
        })?;
        let url = self.url(&["v1", "jobs", "batch"]);
        // The server takes no key here: a repeat finds what is left.
        let call = Call::post(url, &IdempotencyKey::generate()).body(JSON, json);
        self.fetch(&call.slow()).await
    }

    /// Asks a job to save a checkpoint and let go of its worker.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the job's state doesn't allow it.
    pub async fn pause_job(&self, id: JobId) -> Result<JobView> {
        self.act(id, "pause").await
    }

    /// Queues a paused job again.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the job isn't paused.
    pub async fn resume_job(&self, id: JobId) -> Result<JobView> {
        self.act(id, "resume").await
    }

    async fn act(&self, id: JobId, verb: &str) -> Result<JobView> {
        let url = self.job_url(id, &[verb]);
        self.fetch(&Call::post(url, &IdempotencyKey::generate()))
            .await
    }

    /// Removes a job that has ended, with everything it produced.
    ///
    /// # Errors
    /// When the call fails; `conflict` when the job hasn't ended.
    pub async fn delete_job(&self, id: JobId) -> Result<()> {
        let call = Call::delete(self.job_url(id, &[]));
        self.fetch_bytes(&call).await.map(drop)
    }

    /// A page of a job's events, from position `from` on.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_events(&self, id: JobId, from: u64, limit: Option<u32>) -> Result<EventList> {
        self.list_from(id, "events", from, limit).await
    }

    /// A job's metric points, by metric and step.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_metrics(&self, id: JobId, query: &MetricQuery) -> Result<MetricList> {
        let mut url = self.job_url(id, &["metrics"]);
        let pairs = [
            ("metric", query.metric.clone()),
            ("from_step", Some(query.from_step.to_string())),
            ("to_step", query.to_step.map(|step| step.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("sample", query.sample.map(|most| most.to_string())),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    /// A page of a job's log, from line `from` on.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_logs(&self, id: JobId, from: u64, limit: Option<u32>) -> Result<LogList> {
        self.list_from(id, "logs", from, limit).await
    }

    /// The lines that a job's log has now, page after page.
    #[must_use]
    pub fn logs(&self, id: JobId, from: u64) -> BoxStream<'static, Result<LogLine>> {
        let client = self.clone();
        page::paged(Some(from), move |from| {
            let client = client.clone();
            async move {
                let page = client.list_logs(id, from.unwrap_or(0), None).await?;
                let next = (!page.lines.is_empty()).then_some(page.next);
                Ok((page.lines, next))
            }
        })
    }

    /// What a job has produced.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_artifacts(&self, id: JobId) -> Result<Vec<Artifact>> {
        self.fetch(&Call::get(self.job_url(id, &["artifacts"])))
            .await
    }

    async fn list_from<T: serde::de::DeserializeOwned>(
        &self,
        id: JobId,
        what: &str,
        from: u64,
        limit: Option<u32>,
    ) -> Result<T> {
        let mut url = self.job_url(id, &[what]);
        let pairs = [
            ("from", Some(from.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        page::set_query(&mut url, pairs);
        self.fetch(&Call::get(url)).await
    }

    /// The URL of a job, or of something below it.
    pub(crate) fn job_url(&self, id: JobId, below: &[&str]) -> reqwest::Url {
        let id = id.to_string();
        let segments: Vec<&str> = ["v1", "jobs", &id]
            .into_iter()
            .chain(below.iter().copied())
            .collect();
        self.url(&segments)
    }
}
