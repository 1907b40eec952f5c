//! What an attempt is asked to do: set by the lease and by the job's limits, read by the engine
//! between two steps.

use std::sync::OnceLock;

use stoker_domain::job::Limit;
use tokio::sync::watch;

/// What an attempt is asked to do. Only ever grows more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Request {
    /// Go on.
    Continue,
    /// Save a checkpoint and let go.
    Pause,
    /// Stop at once and write nothing: the lease is gone.
    Stop,
}

/// The request to one attempt, shared with the thread that trains.
#[derive(Debug)]
pub(crate) struct Control {
    request: watch::Sender<Request>,
    limit: OnceLock<Limit>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(Request::Continue),
            limit: OnceLock::new(),
        }
    }
}

impl Control {
    /// Asks for `request`, unless something more urgent was asked for.
    pub(crate) fn ask(&self, request: Request) {
        self.request.send_if_modified(|present| {
            let grows = request > *present;
            *present = request.max(*present);
            grows
        });
    }

    /// Asks to save a checkpoint and end, for the job has reached a limit.
    pub(crate) fn end_at(&self, limit: Limit) {
        // The first limit that was reached is told.
        let _ = self.limit.set(limit);
        self.ask(Request::Pause);
    }

    /// The limit that the job has reached.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.limit.get().copied()
    }

    pub(crate) fn request(&self) -> Request {
        *self.request.borrow()
    }

    /// Waits until something is asked for.
    pub(crate) async fn asked(&self) {
        let mut requests = self.request.subscribe();
        // The sender is here, so that the wait can't fail.
        let _ = requests
            .wait_for(|request| *request > Request::Continue)
            .await;
    }

    pub(crate) fn stopped(&self) -> bool {
        self.request() == Request::Stop
    }
}
