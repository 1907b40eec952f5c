//! Keeps an attempt's lease alive and hears what is asked of it.
//!
//! The store away: training goes on, renewals are tried again. Only an answer of the store ends
//! the attempt.

use std::sync::Arc;
use std::time::Duration;

use stoker_domain::port::{JobStore, LeaseAnswer};
use stoker_domain::worker::Progress;
use stoker_domain::{JobId, JobState};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::control::{Control, Request};

/// A lease that renews itself until it is dropped.
pub(crate) struct Lease {
    progress: watch::Sender<Progress>,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Lease {
    pub(crate) fn keep(
        store: Arc<dyn JobStore>,
        job: JobId,
        token: u64,
        every: Duration,
        control: Arc<Control>,
    ) -> Self {
        let (progress, newest) = watch::channel(Progress::default());
        let nudge = Arc::new(Notify::new());
        let renewing = Renewing {
            store,
            job,
            token,
            every,
            control,
            newest,
            nudge: nudge.clone(),
        };
        Self {
            progress,
            nudge,
            task: tokio::spawn(renewing.run()),
        }
    }

    /// Tells how far the attempt is; the next renewal carries it.
    pub(crate) fn progress(&self) -> watch::Sender<Progress> {
        self.progress.clone()
    }

    /// Asks the store now: something about the job has changed.
    pub(crate) fn nudge(&self) -> Arc<Notify> {
        self.nudge.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Renewing {
    store: Arc<dyn JobStore>,
    job: JobId,
    token: u64,
    every: Duration,
    control: Arc<Control>,
    newest: watch::Receiver<Progress>,
    nudge: Arc<Notify>,
}

impl Renewing {
    async fn run(self) {
        let mut blind = false;
        loop {
            let progress = self.newest.borrow().clone();
            match self
                .store
                .renew_lease(self.job, self.token, &progress)
                .await
            {
                Ok(LeaseAnswer::Held(state)) => {
                    blind = false;
                    if state == JobState::Pausing {
                        self.control.ask(Request::Pause);
                    }
                }
                Ok(LeaseAnswer::Stale) => {
                    tracing::info!(job.id = %self.job, token = self.token, "the lease is gone: the attempt stops");
                    return self.control.ask(Request::Stop);
                }
                Err(error) if !blind => {
                    blind = true;
                    tracing::warn!(job.id = %self.job, %error, "can't renew the lease: training goes on");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = self.nudge.notified() => {}
            }
        }
    }
}
