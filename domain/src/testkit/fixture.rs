//! What the suites put into the adapters.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::job::{
    Change, Demand, EngineIdentity, Failure, FailureKind, Holder, Inputs, JobRecord, NewJob,
    Outcome, Transition,
};
use crate::port::{Creation, Guard, Idempotency, JobStore, transition};
use crate::spec::{Format, JobSpec};
use crate::{JobId, PoolName, TenantId, Timestamp};

/// A tenant of that name.
#[must_use]
pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// A pool of that name.
#[must_use]
pub fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

/// Some point in time, `ms` later than others.
#[must_use]
pub const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus_millis(ms)
}

/// A small spec.
#[must_use]
pub fn spec(name: &str) -> JobSpec {
    let text = format!(
        "name = \"{name}\"\n[data]\ndataset = \"digits@1\"\ntarget = \"label\"\n\
         [model]\nfamily = \"mlp\"\n\
         [train]\nepochs = 2\nbatch_size = 32\nloss = \"cross_entropy\"\n"
    );
    JobSpec::parse(&text, Format::Toml).unwrap()
}

/// A new job of tenant `acme` in pool `default`.
#[must_use]
pub fn job(name: &str) -> Change {
    job_with("acme", spec(name))
}

/// A new job.
#[must_use]
pub fn job_with(owner: &str, spec: JobSpec) -> Change {
    JobRecord::create(NewJob {
        id: JobId::generate(),
        tenant: tenant(owner),
        spec,
        inputs: Inputs::default(),
        demand: Demand::default(),
        replay_of: None,
        created_at: at(0),
    })
}

/// A submit with a key and a body.
#[must_use]
pub fn request(key: &str, body: &str) -> Idempotency {
    Idempotency {
        key: key.to_owned(),
        body_blake3: body.to_owned(),
        answer: format!("the answer to {key}"),
    }
}

/// Writes a new job under a key of its own.
pub async fn submit(store: &dyn JobStore, change: &Change) -> JobId {
    let id = change.record.id;
    let created = store
        .create_job(change, &request(&id.to_string(), "body"))
        .await;
    assert_eq!(created.unwrap(), Creation::Created);
    id
}

/// Submits a job of that name.
pub async fn submitted(store: &dyn JobStore, name: &str) -> JobId {
    submit(store, &job(name)).await
}

/// Does `what` to a job.
pub async fn step(store: &dyn JobStore, id: JobId, what: Transition) -> JobRecord {
    transition(store, id, &what, None, at(1))
        .await
        .unwrap()
        .record
}

/// Gives a job to a worker; answers its token.
pub async fn dispatched(store: &dyn JobStore, id: JobId) -> u64 {
    step(store, id, Transition::Dispatch(holder())).await.token
}

/// Gives a job to a worker that begins; answers its token.
pub async fn running(store: &dyn JobStore, id: JobId) -> u64 {
    let token = dispatched(store, id).await;
    step(store, id, Transition::Start { token }).await;
    token
}

/// The worker that gets the jobs.
#[must_use]
pub fn holder() -> Holder {
    Holder {
        worker: "worker-1".parse().unwrap(),
        incarnation: "first".to_owned(),
        engine: engine(),
        price_per_device_hour: 0.0,
    }
}

/// What that worker runs with.
#[must_use]
pub fn engine() -> EngineIdentity {
    EngineIdentity {
        build: "test".to_owned(),
        device_class: "cpu".to_owned(),
    }
}

/// A failure that is tried again.
#[must_use]
pub fn failure() -> Failure {
    Failure::new(FailureKind::Platform, "the test said so")
}

/// What a job produced.
#[must_use]
pub fn outcome(token: u64) -> Outcome {
    Outcome {
        token,
        manifest_blake3: "aa".repeat(32),
        artifacts: Vec::new(),
        metrics: [("test.accuracy".to_owned(), 0.97)].into(),
        steps: 90,
        samples_per_s: 1234.5,
        first_step_at: Some(at(5)),
        submit_to_first_step_ms: Some(12.25),
    }
}

/// The guard of a leader.
#[must_use]
pub fn guard(name: &str, epoch: u64) -> Guard {
    Guard {
        pool: pool(name),
        epoch,
    }
}
