//! How fast the decisions are: 10,000 workers, 100,000 queued jobs, 1,000 tenants. The last line is
//! the result.
#![expect(clippy::print_stdout, reason = "printing the result is what it is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't go on has no result"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time itself")]
#![expect(unsafe_code, reason = "an allocator that counts can't be had without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stoker_domain::job::{Demand, EngineIdentity, Inputs, JobRecord, NewJob, Outcome, Transition};
use stoker_domain::pool::{PoolSettings, Share};
use stoker_domain::spec::{Format, JobSpec, Priority};
use stoker_domain::worker::WorkerRecord;
use stoker_domain::{JobId, Timestamp};
use stoker_scheduler::{Action, Config, Now, State, decide};

const WORKERS: usize = 10_000;
const QUEUED: usize = 100_000;
const TENANTS: usize = 1_000;
const EVENTS: usize = 20_000;

/// Counts what is allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let config = Config::default();
    let now = Now {
        wall: Timestamp::from_millis(1_700_000_000_000),
        monotonic_ms: 1_000_000,
    };
    let mut state = State::default();
    state.observe_settings(settings(), now);
    let workers: Vec<WorkerRecord> = (0..WORKERS).map(worker).collect();
    state.reconcile(&[], &[], &workers, 3_000, now);
    let jobs: BTreeMap<JobId, JobRecord> = (0..QUEUED).map(job).map(|job| (job.id, job)).collect();
    let before = ALLOCATED.load(Ordering::Relaxed);
    jobs.values().for_each(|job| state.observe_job(job, now));
    let per_job = (ALLOCATED.load(Ordering::Relaxed) - before) / QUEUED;

    let mut bench = Bench {
        config,
        now,
        state,
        jobs,
        running: Vec::new(),
        letting_go: Vec::new(),
    };
    let placements_per_s = bench.fill();
    let p99_us = bench.events();
    bench.read(&workers);
    println!(
        "{{\"placements_per_s\":{placements_per_s:.0},\"event_p99_us\":{p99_us:.0},\"bytes_per_job\":{per_job}}}"
    );
}

/// The pool while it is measured.
struct Bench {
    config: Config,
    now: Now,
    state: State,
    jobs: BTreeMap<JobId, JobRecord>,
    running: Vec<JobId>,
    letting_go: Vec<JobId>,
}

impl Bench {
    /// Starts all that finds a place; placements per second.
    fn fill(&mut self) -> f64 {
        let mut deciding = Duration::ZERO;
        loop {
            let from = Instant::now();
            let actions = decide(&self.state, &self.config, self.now);
            deciding += from.elapsed();
            if actions.is_empty() {
                break;
            }
            for action in &actions {
                deciding += self.carry_out(action);
            }
        }
        let placements = self.running.len();
        println!(
            "{placements} placements in {deciding:?}; {} jobs are still queued",
            self.state.queued()
        );
        placements as f64 / deciding.as_secs_f64()
    }

    /// Jobs come, end and let go; 99 of 100 such events take less microseconds than this.
    fn events(&mut self) -> f64 {
        let mut latencies = Vec::new();
        for event in 0..EVENTS {
            self.now.monotonic_ms += 37;
            self.now.wall = self.now.wall.plus_millis(37);
            let record = self.next(event);
            let from = Instant::now();
            self.state.observe_job(&record, self.now);
            let mut actions = decide(&self.state, &self.config, self.now);
            let mut latency = from.elapsed();
            self.jobs.insert(record.id, record);
            while !actions.is_empty() {
                for action in &actions {
                    self.carry_out(action);
                }
                let from = Instant::now();
                actions = decide(&self.state, &self.config, self.now);
                latency = latency.max(from.elapsed());
            }
            latencies.push(latency);
        }
        latencies.sort();
        let at = |share: usize| latencies[latencies.len() * share / 1_000].as_secs_f64() * 1e6;
        println!(
            "events: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us",
            at(500),
            at(990),
            at(999)
        );
        at(990)
    }

    fn next(&mut self, event: usize) -> JobRecord {
        match event % 3 {
            0 if !self.letting_go.is_empty() => {
                let id = self.letting_go.swap_remove(0);
                release(&self.jobs[&id], self.now)
            }
            1 => {
                let id = self.running.swap_remove(event * 7_919 % self.running.len());
                finish(&self.jobs[&id], self.now)
            }
            _ => job(QUEUED + event),
        }
    }

    /// How long the whole pool takes to be read.
    fn read(&mut self, workers: &[WorkerRecord]) {
        let active = self.jobs.values().filter(|job| !job.state.is_final());
        let active: Vec<JobRecord> = active.cloned().collect();
        let from = Instant::now();
        self.state.reconcile(&active, &[], workers, 3_000, self.now);
        println!(
            "a reading of {} jobs and {WORKERS} workers: {:?}",
            active.len(),
            from.elapsed()
        );
    }

    /// Does what was decided; how long the state took to hear of it.
    fn carry_out(&mut self, action: &Action) -> Duration {
        if let Action::Hold {
            job,
            workers,
            until_ms,
            victims,
        } = action
        {
            let workers = workers.clone();
            self.state.observe_hold(*job, workers, victims, *until_ms);
        }
        let Some(record) = apply(&self.jobs, action, self.now) else {
            return Duration::ZERO;
        };
        let from = Instant::now();
        self.state.observe_job(&record, self.now);
        let observing = from.elapsed();
        let record = begin(&record, self.now);
        self.state.observe_job(&record, self.now);
        if let Action::Preempt { job, .. } = action {
            self.running.retain(|id| id != job);
            self.letting_go.push(*job);
        } else {
            self.running.push(record.id);
        }
        self.jobs.insert(record.id, record);
        observing
    }
}

fn apply(jobs: &BTreeMap<JobId, JobRecord>, action: &Action, now: Now) -> Option<JobRecord> {
    let (id, transition) = match action {
        Action::Dispatch { job, holders } => (job, Transition::Dispatch(holders[0].clone())),
        Action::Preempt { job, token, reason } => (
            job,
            Transition::Preempt {
                token: *token,
                reason: reason.clone(),
            },
        ),
        _ => return None,
    };
    Some(jobs[id].apply(transition, now.wall).unwrap().record)
}

fn begin(record: &JobRecord, now: Now) -> JobRecord {
    let start = record.apply(
        Transition::Start {
            token: record.token,
        },
        now.wall,
    );
    start.map_or_else(|_| record.clone(), |change| change.record)
}

fn release(record: &JobRecord, now: Now) -> JobRecord {
    let token = record.token;
    record
        .apply(Transition::Release { token }, now.wall)
        .unwrap()
        .record
}

fn finish(record: &JobRecord, now: Now) -> JobRecord {
    let token = record.token;
    let outcome = Outcome {
        token,
        manifest_blake3: String::new(),
        artifacts: Vec::new(),
        metrics: BTreeMap::new(),
        steps: 1,
        samples_per_s: 1.0,
        first_step_at: None,
        submit_to_first_step_ms: None,
    };
    record
        .apply(Transition::Succeed { token, outcome }, now.wall)
        .unwrap()
        .record
}

fn settings() -> PoolSettings {
    let own = |number: usize| Share {
        devices: 8,
        weight: 1 + u32::try_from(number % 4).unwrap(),
        ..Share::default()
    };
    let tenants = (0..TENANTS).step_by(10);
    PoolSettings {
        tenants: tenants
            .map(|n| (format!("t{n}").parse().unwrap(), own(n)))
            .collect(),
        ..PoolSettings::default()
    }
}

fn worker(number: usize) -> WorkerRecord {
    WorkerRecord {
        version: 1,
        id: format!("w{number:05}").parse().unwrap(),
        pool: "default".parse().unwrap(),
        incarnation: "1".to_owned(),
        engine: EngineIdentity {
            build: "b".to_owned(),
            device_class: "gpu".to_owned(),
        },
        slots: [1, 4, 8][number % 3],
        memory_bytes: [16, 80][number % 2] << 30,
        place: vec![format!("rack{}", number / 32), format!("w{number:05}")],
        draining: false,
        beats: 1,
        registered_at: Timestamp::from_millis(0),
        profile: None,
    }
}

fn job(number: usize) -> JobRecord {
    let text = "name = \"j\"\ndata = { dataset = \"d\", target = \"y\" }\nmodel = { family = \"mlp\" }\n\
                train = { epochs = 1, batch_size = 8, loss = \"mse\" }";
    let mut spec = JobSpec::parse(text, Format::Toml).unwrap();
    spec.priority = [
        Priority::Normal,
        Priority::Normal,
        Priority::Low,
        Priority::High,
    ][number % 4];
    JobRecord::create(NewJob {
        id: format!("job-{number:032x}").parse().unwrap(),
        tenant: format!("t{}", number * 31 % TENANTS).parse().unwrap(),
        spec,
        inputs: Inputs::default(),
        demand: Demand {
            devices: [1, 1, 2, 1, 4][number % 5],
            memory_bytes: [8, 8, 40][number % 3] << 30,
            expected_ms: Some(600_000 + (number as u64 * 7_919) % 3_600_000),
            ..Demand::default()
        },
        replay_of: None,
        created_at: Timestamp::from_millis(1_700_000_000_000),
    })
    .record
}
