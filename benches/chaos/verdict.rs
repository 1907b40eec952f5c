//! What came of the jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use stoker_domain::port::JobStore as _;
use stoker_domain::view::JobView;
use stoker_domain::{Clock, JobId, JobState, Timestamp, object};
use stoker_housekeeper::{Config, Ports, sweep};
use stoker_infra::{RedisConfig, RedisStore, SystemClock, TieredPoints, objects};
use stoker_sdk::{Client, JobQuery};

use crate::SPECS;
use crate::fleet::Fleet;

/// What is counted.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Jobs that the client asked for.
    submitted: u64,
    /// Jobs that there are.
    jobs: u64,
    /// Of them, those that succeeded, with one event that says so.
    succeeded_once: u64,
    /// Weights that aren't those of the undisturbed run.
    hash_mismatches: u64,
    /// Jobs whose events have gaps.
    gaps: u64,
    /// Outbox entries and leases that are left, and objects that belong to nothing.
    orphans: u64,
}

impl Verdict {
    pub(crate) const fn is_clean(&self) -> bool {
        self.jobs == self.submitted
            && self.succeeded_once == self.submitted
            && self.hash_mismatches == 0
            && self.gaps == 0
            && self.orphans == 0
    }
}

/// The hash of a job's weights, if it succeeded.
pub(crate) fn weights(job: &JobView) -> Option<String> {
    let artifacts = &job.result.as_ref()?.artifacts;
    let file = artifacts
        .iter()
        .find(|file| file.name == "weights.safetensors")?;
    Some(file.blake3.clone())
}

pub(crate) async fn of(
    fleet: &Fleet,
    client: &Client,
    wanted: u64,
    submitted: &BTreeMap<JobId, u64>,
    references: &BTreeMap<u64, String>,
) -> anyhow::Result<Verdict> {
    let all: Vec<JobView> = client.jobs(JobQuery::default()).try_collect().await?;
    let mut verdict = Verdict {
        submitted: wanted,
        // The undisturbed ones were there before.
        jobs: (all.len() as u64).saturating_sub(SPECS),
        succeeded_once: 0,
        hash_mismatches: 0,
        gaps: 0,
        orphans: 0,
    };
    for (id, number) in submitted {
        let job = client.get_job(*id).await?;
        let events: Vec<_> = client.events(*id, 0).try_collect().await?;
        let dense = events
            .iter()
            .map(|event| event.position)
            .eq(0..events.len() as u64);
        verdict.gaps += u64::from(!dense);
        let ends = events
            .iter()
            .filter(|event| event.body.type_name() == "succeeded");
        if job.state == JobState::Succeeded && ends.count() == 1 {
            verdict.succeeded_once += 1;
        } else {
            println!("{id} is {}: {:?}", job.state.as_str(), job.failure);
        }
        if weights(&job).is_some_and(|hash| references.get(number) != Some(&hash)) {
            println!("{id} has other weights than chaos-{number} undisturbed");
            verdict.hash_mismatches += 1;
        }
    }
    let known: BTreeSet<JobId> = all.iter().map(|job| job.id).collect();
    verdict.orphans = orphans(fleet, &known).await?;
    Ok(verdict)
}

/// A clock two days ahead: what is garbage is old enough to be collected.
struct Ahead(SystemClock);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus_millis(48 * 3_600_000)
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.monotonic_ms()
    }
}

async fn orphans(fleet: &Fleet, known: &BTreeSet<JobId>) -> anyhow::Result<u64> {
    let config = RedisConfig {
        url: fleet.services.redis.url().into(),
        ..RedisConfig::default()
    };
    let store = Arc::new(RedisStore::connect(&config).await?);
    let storage = objects::open(&fleet.objects())?.store;
    let ports = Ports {
        jobs: store.clone(),
        catalog: store.clone(),
        telemetry: Arc::new(TieredPoints::new(store.clone(), storage.clone())),
        objects: storage.clone(),
        clock: Arc::new(Ahead(SystemClock::new())),
    };
    let (swept, errors) = sweep(&Config::default(), &ports, true).await;
    println!("housekeeping: {swept:?}");
    let mut orphans = errors.len();
    for error in errors {
        println!("housekeeping: {error}");
    }
    orphans += store.outbox(1_000).await?.len();
    orphans += store.leases(&"default".parse()?).await?.len();
    let prefix = object_store::path::Path::from(object::JOBS);
    let mut listed = storage.list(Some(&prefix));
    while let Some(found) = listed.next().await {
        let key = found?.location;
        let id = key.parts().nth(1).and_then(|id| id.as_ref().parse().ok());
        orphans += usize::from(!id.is_some_and(|id: JobId| known.contains(&id)));
    }
    let (again, _) = sweep(&Config::default(), &ports, true).await;
    Ok((orphans as u64) + again.collected + again.compacted)
}
