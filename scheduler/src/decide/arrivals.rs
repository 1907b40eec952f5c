//! Jobs that came lately: as many of their kind will come, and some of them will start first.

use std::collections::VecDeque;

use stoker_domain::JobId;

use super::job::Job;

/// Arrivals that are kept.
const KEPT: usize = 256;

/// Arrivals of which it can be said how often they come.
const ENOUGH: usize = 16;

/// The last jobs that were submitted.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals {
    recent: VecDeque<(u64, Job)>,
}

impl Arrivals {
    /// A job was submitted at `at_ms`, on the monotonic clock.
    pub(super) fn observe(&mut self, job: &Job, at_ms: u64) {
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at_ms, job.clone()));
    }

    /// Milliseconds between two arrivals; `None` while there are too few.
    pub(super) fn pause_ms(&self, now_ms: u64) -> Option<f64> {
        let (first_ms, _) = self.recent.front()?;
        let length_ms = now_ms.saturating_sub(*first_ms) as f64;
        (self.recent.len() >= ENOUGH).then(|| length_ms.max(1.0) / self.recent.len() as f64)
    }

    /// One like those that came; `share` (0 to 1) says which.
    pub(super) fn like(&self, share: f64) -> Option<&Job> {
        let place = (share.clamp(0.0, 1.0) * self.recent.len() as f64) as usize;
        let last = self.recent.len().checked_sub(1)?;
        self.recent.get(place.min(last)).map(|(_, job)| job)
    }
}

/// The id of a job that nobody has submitted. It comes after all others.
pub(super) fn unborn(number: u32) -> Option<JobId> {
    format!("job-ffffffffffffffffffffffff{number:08x}")
        .parse()
        .ok()
}
