//! What the scheduler knows of its pool.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::job::{JobRecord, JobState, LetGo};
use stoker_domain::pool::PoolSettings;
use stoker_domain::port::LeaseView;
use stoker_domain::spec::Priority;
use stoker_domain::worker::{Standing, WorkerRecord};
use stoker_domain::{JobId, WorkerId};

use super::Now;
use super::arrivals::Arrivals;
use super::fleet::Fleet;
use super::job::{Job, Lease, Phase, Rank, began_ms, signed};
use super::queue::Queue;
use super::share::{Change, Tenants, USAGE_VERSION, UsageSnapshot};
use super::spread::Spread;

/// A job that was created longer ago isn't new: a scheduler that takes over sees all jobs at once, and
/// of the older ones only those that haven't ended.
const NEW_MS: u64 = 60_000;

/// What the scheduler knows of its pool. Rebuilt from the store by [`State::reconcile`]; of the rest,
/// only what [`State::usage`] gives outlives a take-over.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) queue: Queue,
    pub(super) fleet: Fleet,
    pub(super) tenants: Tenants,
    /// Leases by when they were last seen to change.
    pub(super) leases: BTreeSet<(u64, JobId)>,
    /// Jobs whose worker has begun another life.
    pub(super) restarted: BTreeSet<JobId>,
    /// Attempts that have begun and don't let go, those to be preempted first: the lowest class, then
    /// the youngest.
    pub(super) running: BTreeMap<(Priority, Reverse<i64>), BTreeSet<JobId>>,
    /// When attempts end at the latest, as far as it is known.
    pub(super) ends: BTreeSet<(u64, JobId)>,
    /// Jobs whose worker saves a checkpoint and lets go.
    pub(super) letting_go: BTreeSet<JobId>,
    /// How many of them were preempted.
    pub(super) preempted: u32,
    pub(super) holds: BTreeMap<JobId, Hold>,
    /// For whom a job was preempted last, and how often it was.
    pub(super) preemptors: BTreeMap<JobId, (JobId, u32)>,
    /// How long runs were beside what was expected, and how long in milliseconds.
    pub(super) spread: Spread,
    pub(super) lengths: Spread,
    /// How long preempted runs took to let go, in milliseconds.
    pub(super) releases: Spread,
    pub(super) arrivals: Arrivals,
    /// The newest time that was seen.
    now_ms: u64,
    /// Since when the store was seen without a gap.
    seen_since_ms: u64,
    last_seen_ms: Option<u64>,
}

/// Places that are kept for the job for which they were freed.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) workers: Vec<WorkerId>,
    /// When it ends, on the monotonic clock.
    pub(super) until_ms: u64,
}

impl State {
    /// What last changed at this time or before was watched without change for `length_ms`; `None`
    /// when nothing was watched for so long. Time in which the store couldn't be seen doesn't count.
    pub(super) fn unchanged_for(&self, length_ms: u64, now: Now) -> Option<u64> {
        let last = self.last_seen_ms.unwrap_or(now.monotonic_ms);
        let until_ms = last.min(now.monotonic_ms).checked_sub(length_ms)?;
        (until_ms >= self.seen_since_ms).then_some(until_ms)
    }

    /// Jobs waiting for a place.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Jobs that have a place.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// What tenants have used, for the next scheduler of this pool.
    #[must_use]
    pub fn usage(&self, now: Now) -> UsageSnapshot {
        UsageSnapshot {
            record_version: USAGE_VERSION,
            at: now.wall,
            tenants: self.tenants.snapshot(now),
            ratios: self.spread.ratios().collect(),
            releases_ms: self.releases.ratios().collect(),
        }
    }

    /// Goes on from what another scheduler of this pool left.
    pub fn restore_usage(&mut self, snapshot: &UsageSnapshot, now: Now) {
        self.now_ms = self.now_ms.max(now.monotonic_ms);
        self.tenants.restore(snapshot, now);
        for ratio in &snapshot.ratios {
            self.spread.observe(*ratio);
        }
        for release_ms in &snapshot.releases_ms {
            self.releases.observe(*release_ms);
        }
    }

    /// How the pool is shared.
    pub fn observe_settings(&mut self, settings: PoolSettings, now: Now) {
        self.now_ms = self.now_ms.max(now.monotonic_ms);
        self.tenants.set(settings, self.now_ms);
    }

    /// What the operators want of the pool's workers; of those that aren't named, nothing.
    pub fn observe_orders(&mut self, orders: BTreeMap<WorkerId, Standing>) {
        self.fleet.set_orders(orders);
    }

    /// One job was read from the store, or written to it. An older reading than the one that is known
    /// says nothing.
    pub fn observe_job(&mut self, record: &JobRecord, now: Now) {
        self.pass(now);
        let known = self.jobs.get(&record.id);
        if known.is_none_or(|known| known.revision < record.revision) {
            self.take(record, now);
        }
    }

    /// Time passes: jobs whose time has come join the queue, and holds end.
    pub fn pass(&mut self, now: Now) {
        self.now_ms = self.now_ms.max(now.monotonic_ms);
        for id in self.queue.take_ripe(now.wall) {
            if let Some(job) = self.jobs.get(&id) {
                self.queue.insert(job.priority, job.tenant, id);
            }
        }
        let now_ms = self.now_ms;
        self.holds.retain(|_, hold| hold.until_ms > now_ms);
    }

    fn take(&mut self, record: &JobRecord, now: Now) {
        let before = self.unlink(record.id);
        if record.state == JobState::Queued {
            self.learn_release(before.as_ref().and_then(Job::lease));
        }
        let phase = match (record.state, &record.attempt) {
            (JobState::Queued, _) => Some(Phase::Queued {
                not_before: record.not_before.filter(|at| *at > now.wall),
                since: record.updated_at,
            }),
            (state, Some(_)) if state.is_leased() => {
                let known = before.as_ref().and_then(Job::lease);
                lease(record, known, now).map(|lease| Phase::Leased(Box::new(lease)))
            }
            _ => None,
        };
        let Some(phase) = phase else {
            self.learn(record, before.is_some());
            self.forget(record.id);
            return;
        };
        let engine = record.engine.as_ref();
        let job = Job {
            revision: record.revision,
            tenant: self.tenants.number(&record.tenant, self.now_ms),
            priority: record.spec.priority,
            engine: engine.map(|engine| self.fleet.engine(engine)),
            demand: record.demand.clone(),
            max_ms: record.spec.resources.max_time.map(|max| max.0),
            used_ms: record.used.run_ms,
            phase,
        };
        let age_ms = now.wall.millis_since(record.created_at);
        if before.is_none() && age_ms <= NEW_MS {
            self.arrivals
                .observe(&job, self.now_ms.saturating_sub(age_ms));
        }
        self.link(record.id, job);
    }

    /// How long it ran, beside what was expected. An elastic run says nothing: how many workers it had
    /// all the time isn't known.
    fn learn(&mut self, record: &JobRecord, known: bool) {
        let is_elastic = record.demand.workers_min != record.demand.workers_max;
        if !known || record.state != JobState::Succeeded || is_elastic {
            return;
        }
        let run_ms = record.used.run_ms as f64;
        self.lengths.observe(run_ms);
        if let Some(expected_ms) = record.demand.expected_ms {
            self.spread.observe(run_ms / (expected_ms as f64).max(1.0));
        }
    }

    /// How long it took to let go.
    fn learn_release(&mut self, lease: Option<&Lease>) {
        let preempted = lease.filter(|lease| lease.letting_go == Some(LetGo::Preempt));
        if let Some(since_ms) = preempted.and_then(|lease| lease.letting_go_ms) {
            self.releases
                .observe(self.now_ms.saturating_sub(since_ms) as f64);
        }
    }

    /// A job isn't there any more.
    pub fn observe_gone(&mut self, id: JobId) {
        self.unlink(id);
        self.forget(id);
    }

    fn forget(&mut self, id: JobId) {
        self.holds.remove(&id);
        self.preemptors.remove(&id);
    }

    /// A worker isn't there any more.
    pub fn observe_worker_gone(&mut self, id: &WorkerId) {
        self.fleet.remove(id);
    }

    /// The workers of an attempt on several of them, the first included; its record names the first.
    pub fn observe_ranks(&mut self, id: JobId, token: u64, workers: &[(WorkerId, String)]) {
        let rank = |(worker, incarnation): &(WorkerId, String)| Rank {
            worker: worker.clone(),
            incarnation: incarnation.clone(),
        };
        let ranks: Vec<Rank> = workers.iter().map(rank).collect();
        let is_news = |lease: &Lease| lease.token == token && lease.ranks != ranks;
        if !(self.jobs.get(&id).and_then(Job::lease)).is_some_and(is_news) {
            return;
        }
        let Some(mut job) = self.unlink(id) else {
            return;
        };
        if let Phase::Leased(lease) = &mut job.phase {
            lease.ranks = ranks;
        }
        self.link(id, job);
    }

    /// Places are being freed for a job, which keeps them until `until_ms` on the monotonic clock.
    pub fn observe_hold(
        &mut self,
        heir: JobId,
        workers: Vec<WorkerId>,
        victims: &[JobId],
        until_ms: u64,
    ) {
        self.holds.insert(heir, Hold { workers, until_ms });
        for victim in victims.iter().filter(|victim| **victim != heir) {
            let preemptor = self.preemptors.entry(*victim).or_insert((heir, 0));
            *preemptor = (heir, preemptor.1.saturating_add(1));
        }
    }

    /// The whole pool was read from the store, which began at `now`. `gap_ms` is the longest time
    /// between two readings that still counts as seeing without a gap.
    pub fn reconcile(
        &mut self,
        jobs: &[JobRecord],
        leases: &[LeaseView],
        workers: &[WorkerRecord],
        gap_ms: u64,
        now: Now,
    ) {
        self.pass(now);
        let unbroken = self
            .last_seen_ms
            .is_some_and(|last| now.monotonic_ms.saturating_sub(last) <= gap_ms);
        if !unbroken {
            self.seen_since_ms = now.monotonic_ms;
        }
        self.last_seen_ms = Some(now.monotonic_ms);
        self.observe_workers(workers, now);
        let there: BTreeSet<JobId> = jobs.iter().map(|record| record.id).collect();
        let gone = self.jobs.keys().filter(|id| !there.contains(id)).copied();
        let gone: Vec<JobId> = gone.collect();
        gone.into_iter().for_each(|id| self.observe_gone(id));
        for record in jobs {
            let known = self.jobs.get(&record.id);
            if known.is_none_or(|known| known.revision != record.revision) {
                self.take(record, now);
            }
        }
        leases
            .iter()
            .for_each(|lease| self.observe_lease(lease, now));
    }

    fn observe_lease(&mut self, view: &LeaseView, now: Now) {
        let Some(Job {
            phase: Phase::Leased(lease),
            ..
        }) = self.jobs.get_mut(&view.job)
        else {
            return;
        };
        if lease.token != view.token || lease.renewals == view.renewals {
            return;
        }
        self.leases.remove(&(lease.seen_at_ms, view.job));
        lease.renewals = view.renewals;
        lease.seen_at_ms = now.monotonic_ms;
        lease.says_end_ms = view.progress.eta_ms.map(|eta| now.monotonic_ms + eta);
        self.leases.insert((lease.seen_at_ms, view.job));
    }

    fn observe_workers(&mut self, records: &[WorkerRecord], now: Now) {
        let there: BTreeSet<&WorkerId> = records.iter().map(|record| &record.id).collect();
        let gone = self.fleet.workers.keys().filter(|id| !there.contains(id));
        let gone: Vec<WorkerId> = gone.cloned().collect();
        gone.iter().for_each(|id| self.fleet.remove(id));
        for record in records {
            if self.fleet.observe(record, now.monotonic_ms) {
                let jobs: Vec<JobId> = self.fleet.jobs_of(&record.id).collect();
                jobs.into_iter().for_each(|id| self.look_for_restart(id));
            }
        }
    }

    fn look_for_restart(&mut self, id: JobId) {
        let restarted = |rank: &Rank| {
            let worker = self.fleet.workers.get(&rank.worker);
            worker.is_some_and(|worker| worker.incarnation != rank.incarnation)
        };
        let lease = self.jobs.get(&id).and_then(Job::lease);
        if lease.is_some_and(|lease| lease.ranks.iter().any(restarted)) {
            self.restarted.insert(id);
        } else {
            self.restarted.remove(&id);
        }
    }

    pub(super) fn link(&mut self, id: JobId, job: Job) {
        match &job.phase {
            Phase::Queued { not_before, .. } => match not_before {
                Some(at) => self.queue.wait(*at, id),
                None => self.queue.insert(job.priority, job.tenant, id),
            },
            Phase::Leased(lease) => {
                self.holds.remove(&id);
                self.occupy(id, &job, lease, true);
                self.leases.insert((lease.seen_at_ms, id));
                self.ends.extend(job.end_ms().map(|end_ms| (end_ms, id)));
                match (lease.letting_go, lease.began_ms) {
                    (Some(why), _) => {
                        self.letting_go.insert(id);
                        self.preempted += u32::from(why == LetGo::Preempt);
                    }
                    (None, Some(began_ms)) => {
                        let key = (job.priority, Reverse(began_ms));
                        self.running.entry(key).or_default().insert(id);
                    }
                    (None, None) => {}
                }
            }
        }
        self.jobs.insert(id, job);
        self.look_for_restart(id);
    }

    pub(super) fn unlink(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        match &job.phase {
            Phase::Queued { not_before, .. } => {
                self.queue.remove(job.priority, job.tenant, *not_before, id);
            }
            Phase::Leased(lease) => {
                self.occupy(id, &job, lease, false);
                self.leases.remove(&(lease.seen_at_ms, id));
                self.restarted.remove(&id);
                self.letting_go.remove(&id);
                let preempted = lease.letting_go == Some(LetGo::Preempt);
                self.preempted -= u32::from(preempted);
                if let Some(end_ms) = job.end_ms() {
                    self.ends.remove(&(end_ms, id));
                }
                if let Some(began_ms) = lease.began_ms {
                    let key = (job.priority, Reverse(began_ms));
                    let of_that_time = self.running.entry(key).or_default();
                    of_that_time.remove(&id);
                    if of_that_time.is_empty() {
                        self.running.remove(&key);
                    }
                }
            }
        }
        Some(job)
    }

    fn occupy(&mut self, id: JobId, job: &Job, lease: &Lease, takes: bool) {
        for rank in &lease.ranks {
            let devices = job.demand.devices;
            self.fleet.load(&rank.worker, id, devices, takes);
        }
        let change = Change {
            takes,
            devices: job.devices_held(),
            leaving: lease.letting_go.is_some(),
        };
        self.tenants.change(job.tenant, change, self.now_ms);
    }
}

/// The lease of a record, with what was seen of it before.
fn lease(record: &JobRecord, known: Option<&Lease>, now: Now) -> Option<Lease> {
    let attempt = record.attempt.as_ref()?;
    let known = known.filter(|known| known.token == attempt.token);
    let first = || {
        vec![Rank {
            worker: attempt.worker.clone(),
            incarnation: attempt.incarnation.clone(),
        }]
    };
    // A clock that is wrong doesn't make a run older than what was seen of it.
    let age_floor = known.map(|known| signed(known.leased_ms));
    let began_ms =
        began_ms(record, now).map(|began| age_floor.map_or(began, |floor| began.max(floor)));
    let letting_go = record
        .letting_go
        .or((record.state == JobState::Pausing).then_some(LetGo::Pause));
    let goes_since = known.and_then(|known| match known.letting_go {
        Some(_) => known.letting_go_ms,
        None => Some(now.monotonic_ms),
    });
    Some(Lease {
        ranks: known.map_or_else(first, |known| known.ranks.clone()),
        token: attempt.token,
        renewals: known.map_or(0, |known| known.renewals),
        seen_at_ms: known.map_or(now.monotonic_ms, |known| known.seen_at_ms),
        leased_ms: known.map_or(now.monotonic_ms, |known| known.leased_ms),
        began_ms: known.and_then(|known| known.began_ms).or(began_ms),
        letting_go,
        letting_go_ms: goes_since.filter(|_| letting_go.is_some()),
        says_end_ms: known.and_then(|known| known.says_end_ms),
    })
}
