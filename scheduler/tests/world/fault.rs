//! What breaks, and what people do.

use stoker_domain::job::{JobState, Transition};
use stoker_domain::worker::Standing;
use stoker_domain::{JobId, WorkerId};
use stoker_scheduler::State;

use super::{WORKERS, What, World, settings, worker};

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause_ms = self.rng.exponential(40_000.0) as u64;
        self.after(pause_ms.max(1), What::Fault);
        let number = self.rng.below(WORKERS);
        match self.rng.below(20) {
            // A worker dies, and comes back as another.
            0 | 1 => {
                self.silence(number);
                let back_ms = 2_000 + self.rng.below(120_000);
                self.after(back_ms, What::Revive(number));
            }
            // It restarts at once.
            2 => self.revive(number),
            // It can't be heard for a while, and wakes up as the same.
            3 => {
                let id: WorkerId = format!("w{number}").parse().unwrap();
                if let Some(record) = self.workers.get(&id).map(|w| w.record.clone()) {
                    self.disturb(&id);
                    if record.beats > 30 {
                        self.workers.get_mut(&id).unwrap().record.beats -= 1;
                    }
                }
            }
            // The scheduler dies; the next one has what was saved, or nothing.
            4 | 5 => {
                self.state = State::default();
                let now = self.now();
                self.checks.forget();
                if self.rng.chance(0.8) {
                    let saved = self.saved.clone();
                    self.state.restore_usage(&saved, now);
                }
            }
            6 => {
                self.blind_until_ms = self.now_ms + self.rng.below(60_000);
                self.checks.disturbed_ms = self.blind_until_ms;
            }
            // Somebody sets the clock.
            7 => {
                self.wall_off_ms += i64::try_from(self.rng.below(120_000)).unwrap() - 60_000;
                self.checks.clock_jumped(self.now_ms);
            }
            8 => {
                let standing = *self
                    .rng
                    .pick(&[Standing::Cordoned, Standing::Draining])
                    .unwrap();
                self.orders
                    .insert(format!("w{number}").parse().unwrap(), standing);
                self.checks.disturbed_ms = self.now_ms + 60_000;
            }
            9 | 10 => {
                if let Some(id) = self.orders.keys().next().cloned() {
                    self.orders.remove(&id);
                }
            }
            11 => self.set_shares(),
            12..=15 => self.people(),
            _ => {
                let asked: Vec<JobId> = self
                    .jobs
                    .iter()
                    .filter(|(_, job)| job.fits && job.record.state == JobState::Queued)
                    .map(|(id, _)| *id)
                    .collect();
                if let Some(id) = self.rng.pick(&asked).copied() {
                    self.ask(id);
                }
            }
        }
    }

    fn set_shares(&mut self) {
        let mut next = settings();
        for share in next.tenants.values_mut() {
            share.weight = 1 + u32::try_from(self.rng.below(4)).unwrap();
            if let Some(most) = &mut share.jobs_max {
                *most = 3 + u32::try_from(self.rng.below(6)).unwrap();
            }
        }
        self.settings = next;
    }

    /// Somebody cancels or pauses a job.
    fn people(&mut self) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        let Some(id) = self.rng.pick(&ids).copied() else {
            return;
        };
        let what = [
            Transition::Cancel,
            Transition::CancelGently,
            Transition::Pause,
            Transition::Resume,
        ];
        let what = self.rng.pick(&what).unwrap().clone();
        if self.write(id, what)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            job.forecast = None;
            let (token, state) = (job.record.token, job.record.state);
            match state {
                JobState::Pausing => self.after(3_000, What::LetGo(id, token)),
                JobState::Paused => {
                    self.write(id, Transition::Resume);
                }
                _ => {}
            }
        }
    }

    fn silence(&mut self, number: u64) {
        let id: WorkerId = format!("w{number}").parse().unwrap();
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.live = false;
        }
        self.disturb(&id);
    }

    /// The worker begins another life.
    pub(super) fn revive(&mut self, number: u64) {
        let id: WorkerId = format!("w{number}").parse().unwrap();
        let life = self.workers.get(&id).map_or(self.now_ms, |w| {
            w.record.incarnation.parse::<u64>().unwrap() + 1
        });
        let mut fresh = worker(number);
        fresh.record.incarnation = life.to_string();
        self.workers.insert(id.clone(), fresh);
        self.disturb(&id);
    }

    fn disturb(&mut self, worker: &WorkerId) {
        self.checks.disturbed_ms = self.now_ms + 60_000;
        let jobs = self
            .jobs
            .values()
            .filter(|job| job.ranks.iter().any(|(id, _)| id == worker));
        let jobs: Vec<JobId> = jobs.map(|job| job.record.id).collect();
        jobs.into_iter().for_each(|id| self.checks.disturb(id));
    }
}
