//! Ports that do what a test needs.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::signer::{Method, Signer, Url};
use serde_json::{Map, Value, json};
use stoker_domain::explain::{Explanation, WhatIf};
use stoker_domain::job::{Change, Event, JobRecord, JobState};
use stoker_domain::model::{Output, Prediction};
use stoker_domain::plugin::PluginRole;
use stoker_domain::port::{
    Catalog, CatalogKind, CompileError, CompiledPlugin, Creation, Document, Entry, Expect,
    Explainer, Guard, Idempotency, JobFilter, JobPage, JobStore, LeaseAnswer, LeaseView,
    OutboxEntry, PluginCompiler, Point, PredictError, Predictor, Put, Relay, Sample, StoreError,
    Submission, Telemetry, Update,
};
use stoker_domain::time::{Clock, Timestamp};
use stoker_domain::worker::{Progress, WorkerRecord};
use stoker_domain::{ErrorCode, JobId, PoolName, TenantId, WorkerId};

/// A clock that stands still until it is moved.
pub(super) struct FakeClock(AtomicI64);

impl FakeClock {
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(1_800_000_000_000))
    }

    pub(super) fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Recorder(pub(super) Mutex<Vec<OutboxEntry>>);

impl Relay for Recorder {
    fn notify(&self, entries: Vec<OutboxEntry>) {
        self.0.lock().unwrap().extend(entries);
    }
}

/// Takes modules that begin with `preprocess` or `metric`, and counts them.
#[derive(Default)]
pub(super) struct FakeCompiler(pub(super) AtomicUsize);

#[async_trait]
impl PluginCompiler for FakeCompiler {
    async fn compile(&self, module: &[u8]) -> Result<CompiledPlugin, CompileError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let role = match module {
            [b'p', ..] => PluginRole::Preprocess,
            [b'm', ..] => PluginRole::Metric,
            [b'!', ..] => return Err(CompileError::Internal("secret path /var/x".to_owned())),
            _ => {
                return Err(CompileError::Rejected(
                    "it imports `wasi:clocks`".to_owned(),
                ));
            }
        };
        Ok(CompiledPlugin {
            role,
            config_schema: json!({ "type": "object" }),
            artifact: b"native".to_vec(),
            engine_hash: self.engine_hash(),
        })
    }

    fn engine_hash(&self) -> String {
        "engine1".to_owned()
    }
}

/// Predicts for each row how many values it has, and refuses rows with the value `bad`.
pub(super) struct FakePredictor;

/// Says which pool and priority it was asked about.
pub(super) struct FakeExplainer;

#[async_trait]
impl Explainer for FakeExplainer {
    async fn explain(
        &self,
        job: &JobRecord,
        what_if: Option<&WhatIf>,
    ) -> Result<Option<Explanation>, StoreError> {
        let priority = what_if.and_then(|what_if| what_if.priority);
        Ok((job.state == JobState::Queued).then(|| Explanation {
            job: job.id,
            position: Some(1),
            ahead: None,
            blockers: Vec::new(),
            rule: format!("Pool {}, priority {priority:?}.", job.pool()),
            start: None,
        }))
    }
}

#[async_trait]
impl Predictor for FakePredictor {
    async fn predict(
        &self,
        job: &JobRecord,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Prediction>, PredictError> {
        if job.result.is_none() {
            return Err(PredictError {
                code: ErrorCode::Conflict,
                message: "it has no model".to_owned(),
            });
        }
        let rows = (0..).zip(rows).map(|(row, values)| {
            if values.contains_key("bad") {
                return Err(PredictError {
                    code: ErrorCode::InvalidInput,
                    message: format!("row {row} is bad"),
                });
            }
            let values = vec![values.len() as f32];
            let output = Output::Values { values };
            Ok(Prediction { row, output })
        });
        rows.collect()
    }
}

/// Signs URLs that name their life.
#[derive(Debug)]
pub(super) struct FakeSigner;

#[async_trait]
impl Signer for FakeSigner {
    async fn signed_url(
        &self,
        _: Method,
        path: &Path,
        life: Duration,
    ) -> object_store::Result<Url> {
        let url = format!("https://objects.example/{path}?life={}", life.as_secs());
        Ok(Url::parse(&url).unwrap())
    }
}

/// Panics, with words that must stay inside.
pub(super) struct Panicking;

#[async_trait]
impl Telemetry for Panicking {
    async fn append_points(&self, _: JobId, _: u64, _: &[Point]) -> Result<(), StoreError> {
        unimplemented!("secret detail")
    }
    async fn points(
        &self,
        _: JobId,
        _: Option<&str>,
        _: RangeInclusive<u64>,
        _: usize,
    ) -> Result<Vec<Point>, StoreError> {
        unimplemented!("secret detail")
    }
    async fn sample(
        &self,
        _: JobId,
        _: Option<&str>,
        _: RangeInclusive<u64>,
        _: usize,
    ) -> Result<Sample, StoreError> {
        unimplemented!("secret detail")
    }
    async fn jobs_to_compact(&self, _: Option<JobId>, _: usize) -> Result<Vec<JobId>, StoreError> {
        unimplemented!("secret detail")
    }
    async fn compact(&self, _: JobId) -> Result<(), StoreError> {
        unimplemented!("secret detail")
    }
    async fn delete_points(&self, _: JobId) -> Result<(), StoreError> {
        unimplemented!("secret detail")
    }
}

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable(
        "secret-host:6379 refused".to_owned(),
    ))
}

/// A store that can't be reached.
pub(super) struct Away;

#[async_trait]
impl Catalog for Away {
    async fn put(
        &self,
        _: CatalogKind,
        _: &TenantId,
        _: &str,
        _: &Value,
        _: Expect,
        _: &[Document],
    ) -> Result<Put, StoreError> {
        away()
    }
    async fn get(
        &self,
        _: CatalogKind,
        _: &TenantId,
        _: &str,
    ) -> Result<Option<Entry>, StoreError> {
        away()
    }
    async fn list(
        &self,
        _: CatalogKind,
        _: &TenantId,
        _: &str,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        away()
    }
    async fn submit(
        &self,
        _: CatalogKind,
        _: &TenantId,
        _: Option<(&str, &Value)>,
        _: &Idempotency,
        _: &[Document],
    ) -> Result<Submission, StoreError> {
        away()
    }
    async fn delete(
        &self,
        _: CatalogKind,
        _: &TenantId,
        _: &str,
        _: &[Document],
    ) -> Result<bool, StoreError> {
        away()
    }
}

#[async_trait]
impl JobStore for Away {
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        away()
    }
    async fn create_job(&self, _: &Change, _: &Idempotency) -> Result<Creation, StoreError> {
        away()
    }
    async fn replayed(
        &self,
        _: &TenantId,
        _: &str,
        _: &str,
    ) -> Result<Option<Creation>, StoreError> {
        away()
    }
    async fn job(&self, _: JobId) -> Result<Option<JobRecord>, StoreError> {
        away()
    }
    async fn update_job(&self, _: &Change, _: Option<&Guard>) -> Result<Update, StoreError> {
        away()
    }
    async fn list_jobs(
        &self,
        _: &TenantId,
        _: &JobFilter,
        _: Option<JobId>,
        _: usize,
    ) -> Result<JobPage, StoreError> {
        away()
    }
    async fn active_jobs(&self, _: &PoolName) -> Result<Vec<JobRecord>, StoreError> {
        away()
    }
    async fn events(&self, _: JobId, _: u64, _: usize) -> Result<Vec<Event>, StoreError> {
        away()
    }
    async fn delete_job(&self, _: JobId, _: &[Document]) -> Result<bool, StoreError> {
        away()
    }
    async fn renew_lease(&self, _: JobId, _: u64, _: &Progress) -> Result<LeaseAnswer, StoreError> {
        away()
    }
    async fn leases(&self, _: &PoolName) -> Result<Vec<LeaseView>, StoreError> {
        away()
    }
    async fn progress(&self, _: JobId) -> Result<Option<Progress>, StoreError> {
        away()
    }
    async fn outbox(&self, _: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        away()
    }
    async fn outbox_done(&self, _: &[String]) -> Result<(), StoreError> {
        away()
    }
    async fn lead(&self, _: &PoolName, _: &str, _: u64) -> Result<Option<u64>, StoreError> {
        away()
    }
    async fn resign(&self, _: &PoolName, _: &str) -> Result<(), StoreError> {
        away()
    }
    async fn put_worker(&self, _: &WorkerRecord) -> Result<(), StoreError> {
        away()
    }
    async fn workers(&self, _: &PoolName) -> Result<Vec<WorkerRecord>, StoreError> {
        away()
    }
    async fn remove_worker(&self, _: &PoolName, _: &WorkerId, _: &str) -> Result<(), StoreError> {
        away()
    }
}
