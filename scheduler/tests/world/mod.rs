//! A pool that doesn't exist: seeded events through the decisions, with every fault that a real one
//! has, and what must hold after every step.
//!
//! The store applies the state machine of real records. An attempt on several workers is one record;
//! its other ranks are the model's. How long a job takes is known to the model alone.

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

mod check;
mod fault;
mod job;
mod rng;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use stoker_domain::job::{Failure, FailureKind, JobRecord, JobState, LetGo, Outcome, Transition};
use stoker_domain::pool::{PoolSettings, Share};
use stoker_domain::port::LeaseView;
use stoker_domain::time::Millis;
use stoker_domain::worker::{Progress, Standing, WorkerRecord};
use stoker_domain::{JobId, Timestamp, WorkerId};
use stoker_scheduler::{Action, Config, Now, State, UsageSnapshot, decide, explain};

use check::Checks;
use job::Job;
use rng::Rng;

const GAP_MS: u64 = 3_000;
const START_MS: u64 = 1_000_000;
/// Jobs in the pool above which no more are submitted.
const ACTIVE_MAX: usize = 260;
const WORKERS: u64 = 40;

/// What happens next, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Tick,
    Submit,
    /// A message says: look at this job.
    Message(JobId),
    Start(JobId, u64),
    End(JobId, u64),
    LetGo(JobId, u64),
    Fault,
    /// A worker comes back.
    Revive(u64),
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) events: u64,
    pub(crate) jobs: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) forecasts: u64,
    pub(crate) forecasts_held: u64,
    pub(crate) early: u64,
    pub(crate) max_wait_ms: u64,
    pub(crate) preemptions: u64,
    pub(crate) dispatches: u64,
    pub(crate) gangs: u64,
}

#[derive(Debug)]
struct SimWorker {
    record: WorkerRecord,
    live: bool,
}

struct World {
    rng: Rng,
    config: Config,
    settings: PoolSettings,
    /// The settings as the scheduler last read them.
    seen_settings: PoolSettings,
    orders: BTreeMap<WorkerId, Standing>,
    state: State,
    saved: UsageSnapshot,
    jobs: BTreeMap<JobId, Job>,
    workers: BTreeMap<WorkerId, SimWorker>,
    agenda: BinaryHeap<Reverse<(u64, u64, What)>>,
    sequence: u64,
    now_ms: u64,
    /// How far the wall clock is from where it should be.
    wall_off_ms: i64,
    blind_until_ms: u64,
    last_saved_ms: u64,
    /// Whether nothing new comes and nothing breaks any more.
    calm: bool,
    checks: Checks,
    report: Report,
}

/// Runs `events` events from `seed`, then waits for every job to end.
pub(crate) fn simulate(events: u64, seed: u64) -> Report {
    let mut world = World::new(seed);
    while world.report.events < events && world.report.violations.len() < 20 {
        world.step();
    }
    world.end();
    world.report
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            config: Config::default(),
            settings: settings(),
            seen_settings: settings(),
            orders: BTreeMap::new(),
            state: State::default(),
            saved: State::default().usage(Now {
                wall: Timestamp::from_millis(0),
                monotonic_ms: START_MS,
            }),
            jobs: BTreeMap::new(),
            workers: (0..WORKERS)
                .map(worker)
                .map(|w| (w.record.id.clone(), w))
                .collect(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            now_ms: START_MS,
            wall_off_ms: 0,
            blind_until_ms: 0,
            last_saved_ms: 0,
            calm: false,
            checks: Checks::default(),
            report: Report::default(),
        };
        world.after(0, What::Tick);
        world.after(1, What::Submit);
        world.after(60_000, What::Fault);
        world
    }

    fn now(&self) -> Now {
        let wall = 1_700_000_000_000 + i64::try_from(self.now_ms).unwrap() + self.wall_off_ms;
        Now {
            wall: Timestamp::from_millis(wall),
            monotonic_ms: self.now_ms,
        }
    }

    fn after(&mut self, ms: u64, what: What) {
        self.sequence += 1;
        self.agenda
            .push(Reverse((self.now_ms + ms, self.sequence, what)));
    }

    fn step(&mut self) {
        let Some(Reverse((at_ms, _, what))) = self.agenda.pop() else {
            return;
        };
        self.now_ms = self.now_ms.max(at_ms);
        self.report.events += 1;
        match what {
            What::Tick => self.tick(),
            What::Submit => self.submit(),
            What::Message(job) => self.message(job),
            What::Start(job, token) => self.start(job, token),
            What::End(job, token) => self.end_attempt(job, token),
            What::LetGo(job, token) => self.let_go(job, token),
            What::Fault => self.fault(),
            What::Revive(number) => self.revive(number),
        }
        self.check();
    }

    /// Nothing new, nothing breaks: everything must end.
    fn end(&mut self) {
        self.calm = true;
        self.blind_until_ms = 0;
        self.orders.clear();
        (0..WORKERS).for_each(|number| self.revive(number));
        let unfit = self
            .jobs
            .values()
            .filter(|job| !job.fits || job.record.state == JobState::Paused);
        let unfit: Vec<JobId> = unfit.map(|job| job.record.id).collect();
        unfit.into_iter().for_each(|id| {
            self.write(id, Transition::Cancel);
        });
        let deadline_ms = self.now_ms + 48 * 3_600_000;
        while !self.jobs.is_empty() && self.now_ms < deadline_ms {
            self.step();
        }
        let left: Vec<String> = self
            .jobs
            .values()
            .map(|job| {
                format!(
                    "{} {:?} {:?} {:?}",
                    job.record.id, job.record.state, job.record.demand, job.record.tenant
                )
            })
            .collect();
        if !left.is_empty() {
            self.violation(format!(
                "{} jobs never ended, such as {}",
                left.len(),
                left[0]
            ));
        }
    }

    fn violation(&mut self, what: String) {
        self.report.violations.push(format!(
            "event {} at {} ms: {what}",
            self.report.events, self.now_ms
        ));
    }

    fn submit(&mut self) {
        if self.calm {
            return;
        }
        // The load rises and falls.
        let wave = 1.0 + 0.5 * (self.now_ms as f64 / 5_400_000.0 * std::f64::consts::TAU).sin();
        let pause_ms = self.rng.exponential(1_050.0 / wave) as u64;
        self.after(pause_ms.max(1), What::Submit);
        if self.jobs.len() >= ACTIVE_MAX {
            return;
        }
        self.report.jobs += 1;
        let wall = self.now().wall;
        let job = Job::new(&mut self.rng, self.report.jobs, self.now_ms, wall);
        let id = job.record.id;
        self.jobs.insert(id, job);
        self.publish(id);
        // Who submitted it asks when it will start, once it is in the queue.
        if self.rng.chance(0.05) {
            self.message(id);
            self.ask(id);
        }
    }

    /// A message is lost, late, or comes twice.
    fn publish(&mut self, id: JobId) {
        for _ in 0..2 {
            let late_ms = self.rng.below(if self.rng.clone().chance(0.05) {
                5_000
            } else {
                50
            });
            if !self.rng.chance(0.1) {
                self.after(late_ms, What::Message(id));
            }
            if !self.rng.chance(0.05) {
                break;
            }
        }
    }

    fn message(&mut self, id: JobId) {
        if self.blind() {
            return;
        }
        let now = self.now();
        match self.jobs.get(&id) {
            // Readings overtake each other.
            Some(job) => {
                self.state.observe_job(&job.record, now);
                if self.rng.chance(0.05) {
                    self.state.observe_job(&job.before, now);
                }
                self.tell_ranks(id);
            }
            None => self.state.observe_gone(id),
        }
        self.act();
    }

    fn tell_ranks(&mut self, id: JobId) {
        if let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.record.state.is_leased())
        {
            self.state.observe_ranks(id, job.record.token, &job.ranks);
        }
    }

    const fn blind(&self) -> bool {
        self.now_ms < self.blind_until_ms
    }

    fn live(&self, ranks: &[(WorkerId, String)]) -> bool {
        ranks.iter().all(|(id, life)| {
            self.workers
                .get(id)
                .is_some_and(|w| w.live && w.record.incarnation == *life)
        })
    }

    fn tick(&mut self) {
        self.after(1_000, What::Tick);
        for worker in self.workers.values_mut().filter(|worker| worker.live) {
            worker.record.beats += 1;
        }
        let leased = self
            .jobs
            .iter()
            .filter(|(_, job)| job.record.state.is_leased());
        let renewed: Vec<JobId> = leased
            .filter(|(_, job)| self.live(&job.ranks))
            .map(|(id, _)| *id)
            .collect();
        for id in renewed {
            self.jobs.get_mut(&id).unwrap().renewals += 1;
        }
        if self.blind() {
            return;
        }
        let now = self.now();
        let records: Vec<JobRecord> = (self.jobs.values().map(|job| &job.record))
            .filter(|record| record.state == JobState::Queued || record.state.is_leased())
            .cloned()
            .collect();
        let view = |record: &JobRecord| LeaseView {
            job: record.id,
            token: record.token,
            renewals: self.jobs[&record.id].renewals,
            progress: Progress::default(),
        };
        let leases: Vec<LeaseView> = records
            .iter()
            .filter(|r| r.state.is_leased())
            .map(view)
            .collect();
        let workers: Vec<WorkerRecord> = self.workers.values().map(|w| w.record.clone()).collect();
        self.seen_settings = self.settings.clone();
        self.state.observe_settings(self.settings.clone(), now);
        self.state.observe_orders(self.orders.clone());
        self.state
            .reconcile(&records, &leases, &workers, GAP_MS, now);
        records.iter().for_each(|record| self.tell_ranks(record.id));
        self.act();
        if self.now_ms >= self.last_saved_ms + 10_000 {
            self.saved = self.state.usage(now);
            self.last_saved_ms = self.now_ms;
        }
    }

    /// What the driver does: until nothing is left.
    fn act(&mut self) {
        for _ in 0..200 {
            let actions = decide(&self.state, &self.config, self.now());
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        self.violation("the decisions don't settle".to_owned());
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Dispatch { job, holders } => self.dispatch(job, &holders),
            Action::Hold {
                job,
                workers,
                until_ms,
                victims,
            } => {
                self.checks.heir = Some(job);
                self.state.observe_hold(job, workers, &victims, until_ms);
            }
            Action::Preempt { job, token, reason } => self.preempt(job, token, reason),
            Action::LoseLease { job, token, reason } => {
                let healthy = self.jobs.get(&job).is_some_and(|job| {
                    job.record.token == token
                        && job.record.state.is_leased()
                        && self.live(&job.ranks)
                });
                if healthy && !self.checks.was_disturbed(job) {
                    self.violation(format!("{job} lost a lease that its workers renewed"));
                }
                self.write(
                    job,
                    Transition::LoseLease {
                        token,
                        reason: reason.to_string(),
                    },
                );
            }
            Action::ForgetWorker {
                worker,
                incarnation,
            } => {
                let gone = self
                    .workers
                    .get(&worker)
                    .is_some_and(|w| w.record.incarnation == incarnation && !w.live);
                if gone {
                    self.workers.remove(&worker);
                }
                self.state.observe_worker_gone(&worker);
            }
        }
    }

    fn dispatch(&mut self, id: JobId, holders: &[stoker_domain::job::Holder]) {
        self.check_dispatch(id, holders);
        let Some(holder) = holders.first() else {
            return;
        };
        if !self.write(id, Transition::Dispatch(holder.clone())) {
            return;
        }
        self.report.dispatches += 1;
        self.report.gangs += u64::from(holders.len() > 1);
        self.checks.undisturbed(id);
        let now_ms = self.now_ms;
        let job = self.jobs.get_mut(&id).unwrap();
        job.ranks = holders
            .iter()
            .map(|h| (h.worker.clone(), h.incarnation.clone()))
            .collect();
        job.started_ms = None;
        job.renewals = 0;
        job.waited_ms = now_ms - job.queued_ms;
        self.report.max_wait_ms = self.report.max_wait_ms.max(job.waited_ms);
        let token = job.record.token;
        if let Some((earliest_ms, latest_ms)) = job.forecast.take() {
            self.report.forecasts += 1;
            self.report.forecasts_held += u64::from((earliest_ms..=latest_ms).contains(&now_ms));
            self.report.early += u64::from(now_ms < earliest_ms);
        }
        self.tell_ranks(id);
        let delay_ms = 100 + self.rng.below(2_000);
        self.after(delay_ms, What::Start(id, token));
    }

    fn preempt(&mut self, id: JobId, token: u64, reason: String) {
        self.check_preempt(id, &reason);
        if self.write(id, Transition::Preempt { token, reason }) {
            self.report.preemptions += 1;
            self.jobs.get_mut(&id).unwrap().preemptions += 1;
            let delay_ms = 1_000 + self.rng.below(15_000);
            self.after(delay_ms, What::LetGo(id, token));
        }
    }

    /// Writes a transition into the store, as whoever may. The scheduler sees it when it is the
    /// writer, or by a message.
    fn write(&mut self, id: JobId, what: Transition) -> bool {
        let now = self.now();
        let by_scheduler = matches!(
            what,
            Transition::Dispatch(_) | Transition::Preempt { .. } | Transition::LoseLease { .. }
        );
        let Some(job) = self.jobs.get_mut(&id) else {
            self.state.observe_gone(id);
            return false;
        };
        let was_leased = job.record.state.is_leased();
        let Ok(change) = job.record.apply(what, now.wall) else {
            self.state.observe_job(&job.record.clone(), now);
            return false;
        };
        if change.record.token < job.record.token {
            self.report
                .violations
                .push(format!("{id}: the token went back"));
        }
        job.before = std::mem::replace(&mut job.record, change.record);
        let record = job.record.clone();
        if was_leased && !record.state.is_leased() {
            job.queued_ms = self.now_ms;
            job.ranks.clear();
            job.started_ms = None;
        }
        if record.state.is_final() {
            self.jobs.remove(&id);
        }
        if by_scheduler {
            self.state.observe_job(&record, now);
        } else if record.state.is_final() && !self.blind() && !self.rng.chance(0.1) {
            self.state.observe_job(&record, now);
            self.act();
        } else {
            self.publish(id);
        }
        true
    }

    fn start(&mut self, id: JobId, token: u64) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.record.token == token) else {
            return;
        };
        if !self.live(&job.ranks.clone()) || !self.write(id, Transition::Start { token }) {
            return;
        }
        let now_ms = self.now_ms;
        let job = self.jobs.get_mut(&id).unwrap();
        job.started_ms = Some(now_ms);
        let limit_ms = job.record.limit().map_or(u64::MAX, |(ms, _)| ms);
        let left_ms = job.left_ms().min(limit_ms);
        self.after(left_ms, What::End(id, token));
    }

    fn end_attempt(&mut self, id: JobId, token: u64) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.record.token == token) else {
            return;
        };
        if !self.live(&job.ranks) {
            return;
        }
        let done = job.left_ms() <= self.now_ms - job.started_ms.unwrap_or(self.now_ms) + 1;
        let what = match done {
            true if self.rng.chance(0.97) => Transition::Succeed {
                token,
                outcome: outcome(token),
            },
            true => Transition::Fail {
                token,
                failure: Failure::new(FailureKind::Platform, "by chance"),
            },
            false => Transition::Fail {
                token,
                failure: Failure::new(FailureKind::Timeout, "max_time"),
            },
        };
        self.write(id, what);
    }

    fn let_go(&mut self, id: JobId, token: u64) {
        let now_ms = self.now_ms;
        let Some(job) = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.record.token == token)
        else {
            return;
        };
        if job.record.state != JobState::Pausing {
            return;
        }
        let ranks = job.ranks.clone();
        if self.live(&ranks) {
            self.jobs.get_mut(&id).unwrap().save(now_ms);
            let resumes = self.jobs[&id].record.letting_go == Some(LetGo::Pause);
            self.write(id, Transition::Release { token });
            if resumes && self.write(id, Transition::Resume) {
                self.publish(id);
            }
        }
    }

    fn ask(&mut self, id: JobId) {
        if std::env::var_os("NOASK").is_some() {
            return;
        }
        let Some(found) = explain(&self.state, &self.config, id, self.now(), None) else {
            return;
        };
        if found.rule.is_empty() {
            self.violation(format!("{id} isn't explained"));
        }
        if let (Some(start), Some(job)) = (found.start, self.jobs.get_mut(&id))
            && job.record.state == JobState::Queued
        {
            // A free place is seen by the next tick; none is seen before it is free.
            let latest_ms = start.latest_ms + 1_000;
            job.forecast = Some((self.now_ms + start.earliest_ms, self.now_ms + latest_ms));
        }
    }
}

fn outcome(token: u64) -> Outcome {
    Outcome {
        token,
        manifest_blake3: String::new(),
        artifacts: Vec::new(),
        metrics: BTreeMap::new(),
        steps: 1,
        samples_per_s: 1.0,
        first_step_at: None,
        submit_to_first_step_ms: None,
    }
}

/// Two racks of hosts with 4 or 8 devices; every fourth host has small ones.
fn worker(number: u64) -> SimWorker {
    SimWorker {
        live: true,
        record: WorkerRecord {
            version: 1,
            id: format!("w{number}").parse().unwrap(),
            pool: "default".parse().unwrap(),
            incarnation: "1".to_owned(),
            engine: stoker_domain::job::EngineIdentity {
                build: "b1".to_owned(),
                device_class: if number.is_multiple_of(5) {
                    "cpu-b"
                } else {
                    "cpu-a"
                }
                .to_owned(),
            },
            slots: if number.is_multiple_of(3) { 8 } else { 4 },
            memory_bytes: if number.is_multiple_of(4) {
                16 << 30
            } else {
                80 << 30
            },
            place: vec![format!("rack{}", number % 2), format!("host{number}")],
            draining: false,
            beats: 0,
            registered_at: Timestamp::default(),
            profile: None,
        },
    }
}

fn settings() -> PoolSettings {
    let share = |weight, devices, devices_max, jobs_max| Share {
        weight,
        devices,
        devices_max,
        jobs_max,
    };
    let tenants = [
        ("amber", share(2, 24, None, None)),
        ("blue", share(1, 16, Some(80), None)),
        ("coral", share(1, 0, Some(12), None)),
        ("dune", share(1, 0, None, Some(6))),
        ("ebony", share(4, 0, None, None)),
    ];
    PoolSettings {
        usage_half_life: Millis(3_600_000),
        min_run_time: Millis(30_000),
        tenants: tenants
            .into_iter()
            .map(|(id, share)| (id.parse().unwrap(), share))
            .collect(),
        ..PoolSettings::default()
    }
}
