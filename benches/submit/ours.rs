//! A platform of ours: jobs submitted to a pool that nobody serves, and no-op jobs that run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use stoker::launch::Platform;
use stoker_domain::tenant::Role;
use stoker_domain::view::NewToken;
use stoker_domain::{JobId, JobState};
use stoker_infra::testing::Services;
use stoker_sdk::dataset::DataFormat;
use stoker_sdk::{Client, Header, IdempotencyKey, JobQuery, NewDataset, SpecText, Upload};

use crate::http::{Api, Load, Pace, load};

/// The smallest job: one step of a linear model on one row. Nobody serves its pool, `default`.
pub(crate) const SPEC: &str = r#"{"name":"n","data":{"dataset":"tiny@1","target":"y"},"model":{"family":"mlp","hidden":[]},"train":{"steps":1,"batch_size":1,"loss":"mse"}}"#;
/// The same for the pool that is served.
const NOOP: &str = r#"{"name":"n","data":{"dataset":"tiny@1","target":"y"},"model":{"family":"mlp","hidden":[]},"train":{"steps":1,"batch_size":1,"loss":"mse"},"resources":{"pool":"served"}}"#;
const ROWS: &str = "x,y\n1,2\n2,4\n";
const SETTINGS: [(&str, &str); 4] = [
    ("STOKER__API__RATE__PER_S", "0"),
    ("STOKER__API__WORKERS", "2"),
    ("STOKER__LOG__FILTER", "warn"),
    ("STOKER__POOL", "served"),
];
/// Most jobs of a page.
const PAGE: u32 = 500;

pub(crate) struct Ours {
    platform: Platform,
    client: Client,
    api: Arc<Api>,
    /// The newest job when jobs were counted last.
    counted: Option<JobId>,
}

/// Milliseconds from submit until the platform called the job succeeded, and until its client knew.
#[derive(Default)]
pub(crate) struct Noop {
    pub(crate) done_ms: Vec<f64>,
    pub(crate) seen_ms: Vec<f64>,
}

impl Ours {
    pub(crate) async fn embedded(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        Self::with(Platform::embedded(program, folder, &SETTINGS).await?).await
    }

    pub(crate) async fn apart(
        program: &Path,
        folder: &Path,
        services: &Services,
    ) -> anyhow::Result<Self> {
        Self::with(Platform::apart(program, folder, services, &SETTINGS).await?).await
    }

    async fn with(platform: Platform) -> anyhow::Result<Self> {
        let client = platform.client()?.clone();
        let token = NewToken {
            subject: "bench".to_owned(),
            role: Role::Developer,
            expires_in_s: 86_400,
        };
        let token = client.create_token(&token).await?.token;
        let new = NewDataset {
            name: "tiny".to_owned(),
            format: DataFormat::Csv,
            header: Header::Yes,
        };
        client
            .create_dataset(&new, &Upload::from_bytes(ROWS))
            .await?;
        let address = client.server().trim_start_matches("http://");
        let api = Arc::new(Api {
            address: address.trim_end_matches('/').parse()?,
            token,
            spec: SPEC,
        });
        Ok(Self {
            platform,
            client,
            api,
            counted: None,
        })
    }

    /// A round of submissions. [`Ours::count`] checks it.
    pub(crate) async fn submit(
        &self,
        round: &str,
        pace: Pace,
        length: Duration,
    ) -> anyhow::Result<Load> {
        load(&self.api, round, pace, length).await
    }

    /// Checks that the jobs created since the last call are these, each once.
    pub(crate) async fn count(&mut self, mut submitted: Vec<JobId>) -> anyhow::Result<()> {
        let mut query = JobQuery {
            limit: Some(PAGE),
            ..JobQuery::default()
        };
        let mut listed = Vec::with_capacity(submitted.len());
        loop {
            let page = self.client.list_jobs(&query).await?;
            let jobs = page.jobs.iter().map(|job| job.id);
            let new = jobs.take_while(|id| self.counted.is_none_or(|counted| *id > counted));
            let before = listed.len();
            listed.extend(new);
            if listed.len() - before < page.jobs.len() || page.next.is_none() {
                break;
            }
            query.after = page.next;
        }
        self.counted = listed.first().copied().or(self.counted);
        submitted.sort_unstable();
        listed.reverse();
        ensure!(
            submitted == listed,
            "{} jobs are listed, {} were submitted",
            listed.len(),
            submitted.len()
        );
        Ok(())
    }

    /// Runs the smallest job, one after another.
    pub(crate) async fn run_noop(&mut self, count: usize, into: &mut Noop) -> anyhow::Result<()> {
        for _ in 0..count {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            let begun = Instant::now();
            let (spec, key) = (SpecText::Json(NOOP), IdempotencyKey::generate());
            let job = self.client.create_job_under(spec, &key).await?;
            self.counted = Some(job.id);
            let job = self.client.wait_job(job.id).await?;
            into.seen_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(
                job.state == JobState::Succeeded,
                "a job is {}: {:?}",
                job.state.as_str(),
                job.failure
            );
            let finished = job.finished_at.context("when it ended")?.as_millis();
            into.done_ms.push(finished as f64 - now.as_millis() as f64);
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.platform.stop().await
    }
}
