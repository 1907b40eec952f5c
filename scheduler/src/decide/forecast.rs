//! When a job will start: the same decisions, run forward over what runs and waits.
//!
//! How long runs take isn't known, only how far earlier ones were from what was expected, nor how long
//! those that make room take to let go. So it is run forward several times, each with other lengths out
//! of what was seen; eight of ten starts lie in the interval. Jobs that nobody has submitted yet come as those came that were submitted lately.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hash, Hasher};

use stoker_domain::JobId;
use stoker_domain::explain::StartEstimate;
use stoker_domain::job::{Holder, LetGo};

use super::job::{Job, Lease, Phase, Rank, signed};
use super::spread::{self, Spread};
use super::{Action, Now, State, arrivals, decide, millis, preemption};
use crate::Config;

/// How often it is run forward. Of 19 starts, the second and the last but one are what one start in
/// ten is before, and one in ten after.
const RUNS: u32 = 19;

/// How far all lengths and all pauses between arrivals of a run are off together, as a logarithm: the
/// last ones say little of what the next hours bring.
const LENGTHS_OFF: f64 = 0.45;
const ARRIVALS_OFF: f64 = 0.6;

/// How long runs take beside what is expected, at least and at most, before any were seen.
const RATIOS_UNSEEN: (f64, f64) = (0.25, 4.0);

/// Least time between two looks at whether runs may be preempted by now.
const LOOK_MS: u64 = 10_000;

/// When the job will start. `None` when too little is known, or it is too far to see.
pub(super) fn forecast(
    state: &State,
    config: &Config,
    id: JobId,
    now: Now,
) -> Option<StartEstimate> {
    let most = usize::try_from(config.forecast_jobs).unwrap_or(usize::MAX);
    if state.jobs.len() > most {
        return None;
    }
    let known = |spread: &Spread, (least, most): (f64, f64)| {
        (spread.sorted()).unwrap_or_else(|| spread::log_uniform(least, most))
    };
    let ratios = known(&state.spread, RATIOS_UNSEEN);
    let lengths = state.lengths.sorted();
    // Places are kept for another for as long as letting go is reckoned with.
    let releases_unseen = (millis(config.tick) as f64, millis(config.hold) as f64);
    let releases = known(&state.releases, releases_unseen);
    let mut starts = Vec::new();
    for run in 0..RUNS {
        let forward = Forward {
            state: state.clone(),
            config,
            ratios: &ratios,
            lengths: lengths.as_deref(),
            releases: &releases,
            run,
            origin: now,
            now,
            ends: BinaryHeap::new(),
            pause_ms: state.arrivals.pause_ms(now.monotonic_ms),
            arrived: 0,
            arrives_ms: None,
        };
        starts.push(forward.start_of(id).unwrap_or(u64::MAX));
        // Nothing is said where more than one run doesn't see the start.
        if starts.iter().filter(|start| **start == u64::MAX).count() > 1 {
            return None;
        }
    }
    starts.sort_unstable();
    let earliest_ms = starts.get(1).copied()?;
    let latest_ms = starts.iter().rev().nth(1).copied()?;
    (latest_ms < u64::MAX).then_some(StartEstimate {
        earliest_ms,
        latest_ms,
    })
}

/// One run forward.
struct Forward<'a> {
    state: State,
    config: &'a Config,
    ratios: &'a [f64],
    lengths: Option<&'a [f64]>,
    releases: &'a [f64],
    run: u32,
    origin: Now,
    now: Now,
    /// When attempts end or let go.
    ends: BinaryHeap<Reverse<(u64, JobId, u64)>>,
    /// Between two jobs that arrive, on the average.
    pause_ms: Option<f64>,
    arrived: u32,
    /// When the next one does.
    arrives_ms: Option<u64>,
}

impl Forward<'_> {
    /// Milliseconds until the job starts.
    fn start_of(mut self, id: JobId) -> Option<u64> {
        let leased: Vec<JobId> = self.state.leases.iter().map(|(_, job)| *job).collect();
        leased.into_iter().for_each(|job| self.expect_end(job));
        self.expect_arrival();
        for _ in 0..self.config.forecast_steps {
            let actions = decide(&self.state, self.config, self.now);
            if actions.is_empty() {
                self.go_on()?;
                continue;
            }
            for action in actions {
                let is_start = matches!(&action, Action::Dispatch { job, .. } if *job == id);
                if is_start {
                    return Some(self.now.monotonic_ms - self.origin.monotonic_ms);
                }
                self.carry_out(action);
            }
        }
        None
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Dispatch { job, holders } => self.start(job, &holders),
            Action::Hold {
                job,
                workers,
                until_ms,
                victims,
            } => self.state.observe_hold(job, workers, &victims, until_ms),
            Action::Preempt { job, .. } => {
                let now_ms = self.now.monotonic_ms;
                self.change_lease(job, |lease| {
                    lease.letting_go = Some(LetGo::Preempt);
                    lease.letting_go_ms = Some(now_ms);
                });
                self.expect_end(job);
            }
            Action::LoseLease { job, .. } => self.requeue(job),
            Action::ForgetWorker { worker, .. } => self.state.observe_worker_gone(&worker),
        }
    }

    /// To the next moment at which something may change.
    fn go_on(&mut self) -> Option<()> {
        let here = self.now.monotonic_ms;
        let end = self.ends.peek().map(|Reverse((end_ms, ..))| *end_ms);
        let ripe = self.state.queue.next_ripe();
        let ripe = ripe.map(|at| here + at.millis_since(self.now.wall).max(1));
        let hold = self.state.holds.values().map(|hold| hold.until_ms).min();
        let look = preemption::possible(&self.state).then_some(here + LOOK_MS);
        let arrival = self.arrives_ms;
        let next = [end, ripe, hold, arrival, look.filter(|_| end.is_some())];
        let next = next.into_iter().flatten().min()?.max(here);
        self.now.wall = self.now.wall.plus_millis(next - here);
        self.now.monotonic_ms = next;
        while let Some(Reverse((end_ms, job, token))) = self.ends.peek().copied()
            && end_ms <= next
        {
            self.ends.pop();
            self.end(job, token);
        }
        if self.arrives_ms.is_some_and(|at_ms| at_ms <= next) {
            self.arrive();
        }
        self.state.pass(self.now);
        Some(())
    }

    /// A job comes that is like one that came before.
    fn arrive(&mut self) {
        let share = self.share((self.arrived, "which"));
        let like = self.state.arrivals.like(share).cloned();
        if let (Some(mut job), Some(id)) = (like, arrivals::unborn(self.arrived)) {
            (job.engine, job.used_ms) = (None, 0);
            job.phase = Phase::Queued {
                not_before: None,
                since: self.now.wall,
            };
            self.state.link(id, job);
        }
        self.arrived += 1;
        self.expect_arrival();
    }

    fn expect_arrival(&mut self) {
        let share = self.share((self.arrived, "when"));
        self.arrives_ms = self.pause_ms.map(|mean_ms| {
            let pause_ms = -mean_ms * (1.0 - share).ln() * self.tempo(7, ARRIVALS_OFF);
            self.now.monotonic_ms + (pause_ms as u64).max(1)
        });
    }

    fn start(&mut self, id: JobId, holders: &[Holder]) {
        let Some(mut job) = self.state.unlink(id) else {
            return;
        };
        job.revision += 1;
        let rank = |holder: &Holder| Rank {
            worker: holder.worker.clone(),
            incarnation: holder.incarnation.clone(),
        };
        job.phase = Phase::Leased(Box::new(Lease {
            ranks: holders.iter().map(rank).collect(),
            token: u64::MAX - job.revision,
            renewals: 0,
            seen_at_ms: self.now.monotonic_ms,
            leased_ms: self.now.monotonic_ms,
            began_ms: Some(signed(self.now.monotonic_ms)),
            letting_go: None,
            letting_go_ms: None,
            says_end_ms: None,
        }));
        self.state.link(id, job);
        self.expect_end(id);
    }

    fn change_lease(&mut self, id: JobId, change: impl FnOnce(&mut Lease)) {
        let Some(mut job) = self.state.unlink(id) else {
            return;
        };
        if let Phase::Leased(lease) = &mut job.phase {
            change(lease);
        }
        self.state.link(id, job);
    }

    fn end(&mut self, id: JobId, token: u64) {
        let lease = self.state.jobs.get(&id).and_then(Job::lease);
        match lease
            .filter(|lease| lease.token == token)
            .map(|lease| lease.letting_go)
        {
            Some(Some(LetGo::Preempt)) => self.requeue(id),
            Some(_) => self.state.observe_gone(id),
            None => {}
        }
    }

    fn requeue(&mut self, id: JobId) {
        let Some(mut job) = self.state.unlink(id) else {
            return;
        };
        let began_ms = job.lease().and_then(|lease| lease.began_ms);
        let ran_ms = began_ms.map_or(0, |began| signed(self.now.monotonic_ms) - began);
        job.used_ms += u64::try_from(ran_ms).unwrap_or(0);
        job.phase = Phase::Queued {
            not_before: None,
            since: self.now.wall,
        };
        self.state.link(id, job);
    }

    /// Puts down when the attempt ends, in this run.
    fn expect_end(&mut self, id: JobId) {
        let Some((job, lease)) =
            (self.state.jobs.get(&id)).and_then(|job| Some((job, job.lease()?)))
        else {
            return;
        };
        let left_ms = match lease.letting_go {
            Some(_) => Some(self.release_ms(id, lease)),
            None => self.left_ms(id, job, lease),
        };
        if let Some(left_ms) = left_ms {
            let end_ms = self.now.monotonic_ms.saturating_add(left_ms);
            self.ends.push(Reverse((end_ms, id, lease.token)));
        }
    }

    /// How much longer the attempt takes to let go, in this run.
    fn release_ms(&self, id: JobId, lease: &Lease) -> u64 {
        let since_ms = lease.letting_go_ms.unwrap_or(self.now.monotonic_ms);
        let passed_ms = self.now.monotonic_ms.saturating_sub(since_ms) as f64;
        let share = self.share((id, lease.token, "release"));
        (spread::above(self.releases, passed_ms, share) - passed_ms).max(0.0) as u64
    }

    /// How much longer the attempt takes, in this run.
    fn left_ms(&self, id: JobId, job: &Job, lease: &Lease) -> Option<u64> {
        let share = self.share(id);
        let now_ms = self.now.monotonic_ms;
        let began_ms = lease.began_ms.unwrap_or_else(|| signed(lease.leased_ms));
        let ran_ms = u64::try_from(signed(now_ms) - began_ms).unwrap_or(0);
        let bound_ms = job.bound_ms().map(|bound| bound.saturating_sub(ran_ms));
        let says = lease.says_end_ms.map(|end_ms| {
            let left = end_ms.saturating_sub(now_ms) as f64;
            (left * (0.9 + 0.2 * share)) as u64
        });
        let expected = || {
            let workers = lease.ranks.len().max(1) as f64;
            let speed = workers / f64::from(job.demand.workers_max.max(1)).max(workers);
            let done = job.used_ms as f64 + ran_ms as f64 * speed;
            // Of what nothing is expected, the last jobs say how long such things take.
            let (unit, known) = match job.demand.expected_ms {
                Some(expected_ms) => ((expected_ms as f64).max(1.0), self.ratios),
                None => (1.0, self.lengths?),
            };
            let ratio = spread::above(known, done / unit, share);
            Some(((ratio * unit - done).max(0.0) / speed * self.tempo(1, LENGTHS_OFF)) as u64)
        };
        let left = says.or_else(expected);
        match (left, bound_ms) {
            (Some(left), Some(bound)) => Some(left.min(bound)),
            (left, bound) => left.or(bound),
        }
    }

    /// A factor that all lengths, or all pauses, of this run have in common; over the runs they are
    /// spread evenly, by `step` in another order.
    fn tempo(&self, step: u32, most: f64) -> f64 {
        let place = f64::from(self.run * step % RUNS) + 0.5;
        ((2.0 * place / f64::from(RUNS) - 1.0) * most).exp()
    }

    /// A number from 0 to 1 that belongs to `what` in this run, spread evenly over both.
    fn share(&self, what: impl Hash) -> f64 {
        let mut hasher = DefaultHasher::new();
        (what, self.run).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
