//! Makes an attempt's results durable, then true: objects first, then one token-checked write.
//! What no commit names is garbage.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use stoker_domain::job::{Artifact, Checkpoint, Outcome, Transition};
use stoker_domain::port::{Point, StoreError, TransitionFailed, transition};
use stoker_domain::{JobId, JobRecord, object};

use crate::control::{Control, Request};
use crate::ports::Ports;
use crate::spool::Spool;

/// Wait between two tries while the store or object storage is away.
const RETRY: Duration = Duration::from_millis(500);

/// The lease is gone, or the job with it: nothing more of this attempt can become true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseGone;

/// Writes on behalf of one attempt.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) ports: Ports,
    pub(crate) job: JobId,
    pub(crate) token: u64,
    pub(crate) control: Arc<Control>,
}

impl Committer {
    /// Writes a transition, for as long as it takes the store to answer.
    pub(crate) async fn write(&self, what: Transition) -> Result<JobRecord, LeaseGone> {
        loop {
            let now = self.ports.clock.now();
            match transition(&*self.ports.jobs, self.job, &what, None, now).await {
                Ok(change) => {
                    self.ports.relay.notify(change.outbox());
                    return Ok(change.record);
                }
                Err(TransitionFailed::Store(error)) => {
                    self.wait(&format!("can't write to the store: {error}"))
                        .await?;
                }
                Err(error) => {
                    tracing::info!(job.id = %self.job, token = self.token, %error, "the attempt is over");
                    self.control.ask(Request::Stop);
                    return Err(LeaseGone);
                }
            }
        }
    }

    /// Stores an object, for as long as it takes.
    pub(crate) async fn put(&self, key: String, bytes: Vec<u8>) -> Result<(), LeaseGone> {
        let payload = PutPayload::from(bytes);
        let path = Path::from(key);
        while let Err(error) = self.ports.objects.put(&path, payload.clone()).await {
            self.wait(&format!("can't write {path}: {error}")).await?;
        }
        Ok(())
    }

    /// The job's metric points, for as long as it takes to read them.
    pub(crate) async fn points(&self) -> Result<Vec<Point>, LeaseGone> {
        let telemetry = &self.ports.telemetry;
        loop {
            match telemetry
                .points(self.job, None, 0..=u64::MAX, usize::MAX)
                .await
            {
                Ok(points) => return Ok(points),
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(job.id = %self.job, why, "metric points can't be read");
                    return Ok(Vec::new());
                }
                Err(error) => {
                    self.wait(&format!("can't read metric points: {error}"))
                        .await?
                }
            }
        }
    }

    async fn wait(&self, why: &str) -> Result<(), LeaseGone> {
        if self.control.stopped() {
            return Err(LeaseGone);
        }
        tracing::warn!(job.id = %self.job, "{why}; will try again");
        tokio::time::sleep(RETRY).await;
        Ok(())
    }

    /// Makes a checkpoint the one from which the next attempt goes on.
    pub(crate) async fn checkpoint(
        &self,
        step: u64,
        bytes: Vec<u8>,
    ) -> Result<JobRecord, LeaseGone> {
        let checkpoint = Checkpoint {
            token: self.token,
            step,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            size_bytes: bytes.len() as u64,
        };
        self.put(object::checkpoint(self.job, self.token, step), bytes)
            .await?;
        self.write(Transition::Checkpoint {
            token: self.token,
            checkpoint,
        })
        .await
    }

    /// Stores the files and makes them the job's result.
    pub(crate) async fn succeed(
        &self,
        files: Vec<(&str, Vec<u8>)>,
        outcome: impl FnOnce(Vec<Artifact>, String) -> Outcome,
    ) -> Result<(), LeaseGone> {
        let mut artifacts = Vec::new();
        for (name, bytes) in files {
            artifacts.push(Artifact {
                name: name.to_owned(),
                size_bytes: bytes.len() as u64,
                blake3: blake3::hash(&bytes).to_hex().to_string(),
            });
            self.put(object::artifact(self.job, self.token, name), bytes)
                .await?;
        }
        let manifest = serde_json::to_vec_pretty(&artifacts).unwrap_or_default();
        let manifest_blake3 = blake3::hash(&manifest).to_hex().to_string();
        self.put(object::manifest(self.job, self.token), manifest)
            .await?;
        let outcome = outcome(artifacts, manifest_blake3);
        self.write(Transition::Succeed {
            token: self.token,
            outcome,
        })
        .await
        .map(|_| ())
    }
}

/// Removes an object that nothing names any more; one that stays is garbage, not harm.
pub(crate) async fn remove(objects: &dyn ObjectStore, key: String) {
    let path = Path::from(key);
    if let Err(error) = objects.delete(&path).await {
        tracing::debug!(object = %path, %error, "garbage stays");
    }
}

/// The newest checkpoint on its way to becoming true; an older one that is still waiting is
/// replaced, and training never waits for either.
pub(crate) struct Checkpoints {
    newest: tokio::sync::watch::Sender<Option<(u64, Arc<Vec<u8>>)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Checkpoints {
    /// Begins to commit. The points before a checkpoint are stored before it, so that a later
    /// attempt overwrites them and never doubles.
    pub(crate) fn new(committer: Committer, keep_last: u32, spool: Arc<Spool>) -> Self {
        let (newest, mut coming) = tokio::sync::watch::channel(None::<(u64, Arc<Vec<u8>>)>);
        let task = tokio::spawn(async move {
            let mut kept = std::collections::VecDeque::new();
            while coming.changed().await.is_ok() {
                let Some((step, bytes)) = coming.borrow_and_update().clone() else {
                    continue;
                };
                while !spool.send().await && !committer.control.stopped() {
                    tokio::time::sleep(RETRY).await;
                }
                if committer.checkpoint(step, bytes.to_vec()).await.is_err() {
                    return;
                }
                kept.push_back(step);
                while kept.len() > keep_last as usize {
                    if let Some(old) = kept.pop_front() {
                        let key = object::checkpoint(committer.job, committer.token, old);
                        remove(&*committer.ports.objects, key).await;
                    }
                }
            }
        });
        Self { newest, task }
    }

    pub(crate) fn offer(&self, step: u64, bytes: Vec<u8>) {
        self.newest.send_replace(Some((step, Arc::new(bytes))));
    }

    /// Waits until the newest is committed or the lease is gone.
    pub(crate) async fn finish(self) {
        drop(self.newest);
        // It ends by itself; a panic in it was reported where it happened.
        let _ = self.task.await;
    }
}
