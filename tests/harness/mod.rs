//! What the end-to-end tests share: a platform of the built binary, and the main job made long
//! enough to be disturbed.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};

use stoker::launch::{Platform, Role};
use stoker_domain::view::JobView;
use stoker_domain::{JobId, JobState};
use stoker_infra::testing::Services;
use stoker_sdk::Client;
use tempfile::TempDir;

/// Where the built binary is.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stoker"))
}

/// Where `make plugins` put the sample plugins: beside the build output.
pub(crate) fn plugins() -> PathBuf {
    let build = program()
        .parent()
        .and_then(Path::parent)
        .expect("target/debug/stoker");
    build.join("plugins")
}

/// Faults are to be seen in seconds, not in the minutes that are right in production.
const HASTY: &[(&str, &str)] = &[
    ("STOKER__SCHEDULER__TICK", "200ms"),
    ("STOKER__SCHEDULER__LEASE_TTL", "4s"),
    ("STOKER__SCHEDULER__WORKER_SILENCE", "2s"),
    ("STOKER__WORKER__HEARTBEAT", "300ms"),
    ("STOKER__WORKER__RENEWAL", "300ms"),
    ("STOKER__LOG__FILTER", "info"),
];

/// A platform with the main job's inputs uploaded.
pub(crate) struct Bench {
    pub(crate) platform: Platform,
    pub(crate) services: Option<Services>,
    scratch: TempDir,
}

impl Bench {
    /// In one process.
    pub(crate) async fn embedded() -> Self {
        Self::embedded_with(&[]).await
    }

    /// In one process with these settings.
    pub(crate) async fn embedded_with(settings: &[(&str, &str)]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let settings = [HASTY, settings].concat();
        let platform = Platform::embedded(program(), &data_dir, &settings)
            .await
            .unwrap();
        Self::ready(platform, None, scratch).await
    }

    /// The roles apart, over servers of their own.
    pub(crate) async fn apart() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let services = tokio::task::spawn_blocking(Services::start)
            .await
            .unwrap()
            .unwrap();
        let platform = Platform::apart(program(), &data_dir, &services, HASTY)
            .await
            .unwrap();
        Self::ready(platform, Some(services), scratch).await
    }

    /// Where the platform keeps its state.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    async fn ready(platform: Platform, services: Option<Services>, scratch: TempDir) -> Self {
        stoker::digits::upload(platform.client().unwrap(), &plugins())
            .await
            .unwrap();
        Self {
            platform,
            services,
            scratch,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        self.platform.client().unwrap()
    }

    /// Runs the long job to its end, undisturbed; its weights.
    pub(crate) async fn reference(&self) -> String {
        let job = self.client().create_job_toml(&long_job()).await.unwrap();
        self.weights(job.id).await
    }

    /// Waits for a job that must succeed; its weights.
    pub(crate) async fn weights(&self, id: JobId) -> String {
        let job = self.client().wait_job(id).await.unwrap();
        assert_eq!(
            job.state,
            JobState::Succeeded,
            "{:?}\n{}",
            job.failure,
            self.logs()
        );
        weights(&job)
    }

    /// Submits the long job and waits until it has committed a checkpoint and gone on.
    pub(crate) async fn in_the_middle(&self) -> JobId {
        let job = self.client().create_job_toml(&long_job()).await.unwrap();
        self.past_checkpoint(job.id, 1).await;
        job.id
    }

    /// Waits until the job has committed a checkpoint at or after `step`.
    pub(crate) async fn past_checkpoint(&self, id: JobId, step: u64) {
        loop {
            let job = self.client().get_job(id).await.unwrap();
            assert!(
                !job.state.is_final(),
                "the job ended before it could be disturbed: {:?}",
                job.failure
            );
            if job
                .checkpoint
                .is_some_and(|checkpoint| checkpoint.step >= step)
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn logs(&self) -> String {
        let roles = [Role::Up, Role::Api, Role::Scheduler, Role::Worker];
        roles
            .map(|role| std::fs::read_to_string(self.platform.log(role)).unwrap_or_default())
            .join("\n")
    }
}

/// The main job, some seconds long, with a checkpoint every few steps.
pub(crate) fn long_job() -> String {
    let job = stoker::digits::SPEC
        .replace("epochs = 30", "epochs = 60")
        .replace("every_steps = 100", "every_steps = 20");
    assert!(
        job.contains("epochs = 60") && job.contains("every_steps = 20"),
        "the spec has changed"
    );
    job
}

/// The hash of a job's weights.
pub(crate) fn weights(job: &JobView) -> String {
    let result = job
        .result
        .as_ref()
        .expect("a job that succeeded has a result");
    let file = result
        .artifacts
        .iter()
        .find(|file| file.name == "weights.safetensors");
    file.expect("a job that succeeded has weights")
        .blake3
        .clone()
}
