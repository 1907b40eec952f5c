//! What an attempt is asked to do: set by the lease, read by the engine between two steps.

use std::sync::atomic::{AtomicU8, Ordering};

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
#[derive(Debug, Default)]
pub(crate) struct Control(AtomicU8);

impl Control {
    /// Asks for `request`, unless something more urgent was asked for.
    pub(crate) fn ask(&self, request: Request) {
        self.0.fetch_max(request as u8, Ordering::AcqRel);
    }

    pub(crate) fn request(&self) -> Request {
        match self.0.load(Ordering::Acquire) {
            0 => Request::Continue,
            1 => Request::Pause,
            _ => Request::Stop,
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.request() == Request::Stop
    }
}
