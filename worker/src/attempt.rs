//! One try at running a job: lease, inputs, training, report.

use std::sync::Arc;
use std::time::Duration;

use stoker_domain::job::{Failure, FailureKind, JobRecord, Transition};
use tokio::sync::Notify;

use crate::commit::{Checkpoints, Committer, LeaseGone};
use crate::config::Config;
use crate::control::{Control, Request};
use crate::inputs::Inputs;
use crate::lease::Lease;
use crate::ports::Ports;
use crate::spool::{Destination, Spool};
use crate::train::{self, Trained, Training};

/// What attempts of one worker share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) ports: Ports,
    pub(crate) inputs: Inputs,
    pub(crate) device: Arc<dyn stoker_engine::Device>,
    pub(crate) threads: usize,
    pub(crate) worker: String,
}

/// A running attempt, as its worker holds it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) token: u64,
    pub(crate) control: Arc<Control>,
    pub(crate) nudge: Arc<Notify>,
}

/// An attempt that has its lease and hasn't begun.
pub(crate) struct Attempt {
    shared: Arc<Shared>,
    record: JobRecord,
    control: Arc<Control>,
    lease: Lease,
}

impl Attempt {
    /// Takes the lease up. `record` is dispatched, or running, under this worker's token.
    pub(crate) fn new(shared: Arc<Shared>, record: JobRecord) -> Self {
        let control = Arc::new(Control::default());
        let jobs = shared.ports.jobs.clone();
        let every = shared.config.renewal;
        let lease = Lease::keep(jobs, record.id, record.token, every, control.clone());
        Self {
            shared,
            record,
            control,
            lease,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        let (control, nudge) = (self.control.clone(), self.lease.nudge());
        Handle {
            token: self.record.token,
            control,
            nudge,
        }
    }

    /// Runs to the end, whichever it is, or to the job's limits; what can be reported is.
    pub(crate) async fn run(self) {
        let (control, limit) = (self.control.clone(), self.record.limit());
        let ending = async move {
            let Some((ms, limit)) = limit else { return };
            tokio::time::sleep(Duration::from_millis(ms)).await;
            control.end_at(limit);
        };
        let ending = tokio::spawn(ending);
        self.work().await;
        ending.abort();
    }

    async fn work(self) {
        let (job, token) = (self.record.id, self.record.token);
        let Ports {
            telemetry,
            objects,
            clock,
            ..
        } = self.shared.ports.clone();
        let destination = Destination {
            job,
            token,
            telemetry,
            objects,
            clock,
        };
        let config = &self.shared.config;
        let spool = Arc::new(Spool::new(destination, config.spool_entries, config.report));
        let committer = Committer {
            ports: self.shared.ports.clone(),
            job,
            token,
            control: self.control.clone(),
        };
        let number = self
            .record
            .attempt
            .as_ref()
            .map_or(1, |attempt| attempt.number);
        let from = self
            .record
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.step);
        spool.log(
            "info",
            format!(
                "attempt {number} on worker {} begins at step {from}",
                self.shared.worker
            ),
        );
        let ended = match self.train(&spool, &committer).await {
            Ok(trained) => self.report(trained, &spool, &committer).await,
            Err(failure) => {
                spool.log("error", failure.message.clone());
                spool.send().await;
                committer
                    .write(Transition::Fail { token, failure })
                    .await
                    .map(|_| ())
            }
        };
        if ended == Err(LeaseGone) {
            tracing::info!(job.id = %job, token, "the attempt ended without a word: its lease is gone");
        }
    }

    async fn train(&self, spool: &Arc<Spool>, committer: &Committer) -> Result<Trained, Failure> {
        let prepared = tokio::select! {
            prepared = self.shared.inputs.prepare(&self.record) => prepared?,
            () = self.control.asked() => {
                return Ok(match self.control.request() {
                    Request::Stop => Trained::Stopped,
                    _ => Trained::Paused { checkpoint: None },
                });
            }
        };
        if self.record.checkpoint.is_some() && prepared.checkpoint.is_none() {
            spool.log(
                "warn",
                "the checkpoint is gone or damaged: begins anew".to_owned(),
            );
        }
        let keep_last = self.record.spec.train.checkpoint.keep_last;
        let checkpoints = Arc::new(Checkpoints::new(
            committer.clone(),
            keep_last,
            spool.clone(),
        ));
        let training = Training {
            record: self.record.clone(),
            prepared,
            device: self.shared.device.clone(),
            spool: spool.clone(),
            checkpoints: checkpoints.clone(),
            control: self.control.clone(),
            progress: self.lease.progress(),
            clock: self.shared.ports.clock.clone(),
        };
        let trained = tokio::task::spawn_blocking(move || train::run(training)).await;
        if let Some(checkpoints) = Arc::into_inner(checkpoints) {
            checkpoints.finish().await;
        }
        trained.unwrap_or_else(|panic| {
            tracing::error!(job.id = %self.record.id, %panic, "the engine panicked: a bug");
            Err(Failure::new(
                FailureKind::Platform,
                "the engine failed in a way that is our bug",
            ))
        })
    }

    async fn report(
        &self,
        trained: Trained,
        spool: &Spool,
        committer: &Committer,
    ) -> Result<(), LeaseGone> {
        match trained {
            Trained::Stopped => Err(LeaseGone),
            Trained::Paused { checkpoint } => {
                let token = self.record.token;
                if let Some((step, checkpoint)) = checkpoint {
                    spool.log("info", format!("lets go after step {step}"));
                    spool.send().await;
                    committer.checkpoint(step, checkpoint).await?;
                }
                let ending = match self.control.limit() {
                    None => Transition::Release { token },
                    Some(limit) => {
                        let message = format!("the job has reached {limit}");
                        spool.log("error", message.clone());
                        spool.send().await;
                        let failure = Failure::new(FailureKind::Timeout, message);
                        Transition::Fail { token, failure }
                    }
                };
                committer.write(ending).await.map(|_| ())
            }
            Trained::Finished(finished) => {
                spool.log("info", format!("finished after {} steps", finished.steps));
                while !spool.send().await && self.control.request() != Request::Stop {
                    tokio::time::sleep(self.shared.config.report).await;
                }
                let points = committer.points().await?;
                let files = train::files(&self.shared, &self.record, &points, &finished).await;
                let outcome =
                    |artifacts, manifest| finished.outcome(&self.record, artifacts, manifest);
                committer.succeed(files, outcome).await
            }
        }
    }
}
