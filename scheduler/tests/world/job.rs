//! Jobs of the model: what their users ask for, and how long they really take.

use std::collections::BTreeMap;

use stoker_domain::job::{Demand, Inputs, JobRecord, NewJob};
use stoker_domain::spec::{Format, JobSpec, Priority};
use stoker_domain::time::Millis;
use stoker_domain::{JobId, Timestamp, WorkerId};

use super::rng::Rng;

/// A job in the store, and what only the model knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) record: JobRecord,
    /// The record before the last write, for those who read late.
    pub(crate) before: JobRecord,
    /// The attempt's workers, each with its life.
    pub(crate) ranks: Vec<(WorkerId, String)>,
    /// Work in all, in milliseconds on as many workers as it makes use of.
    pub(crate) work_ms: f64,
    /// Work that a checkpoint holds.
    pub(crate) saved_ms: f64,
    pub(crate) started_ms: Option<u64>,
    pub(crate) renewals: u64,
    pub(crate) queued_ms: u64,
    pub(crate) waited_ms: u64,
    pub(crate) preemptions: u32,
    /// When it was to start: earliest and latest, on the monotonic clock.
    pub(crate) forecast: Option<(u64, u64)>,
    /// Whether any pool could hold it.
    pub(crate) fits: bool,
}

pub(crate) const TENANTS: [&str; 7] = ["amber", "blue", "coral", "dune", "ebony", "flint", "gold"];

impl Job {
    pub(crate) fn new(rng: &mut Rng, number: u64, now_ms: u64, wall: Timestamp) -> Self {
        let text = "name = \"j\"\ndata = { dataset = \"d\", target = \"y\" }\nmodel = { family = \"mlp\" }\n\
                    train = { epochs = 1, batch_size = 8, loss = \"mse\" }";
        let mut spec = JobSpec::parse(text, Format::Toml).unwrap();
        spec.priority = match rng.below(10) {
            0 => Priority::High,
            1..=6 => Priority::Normal,
            _ => Priority::Low,
        };
        let work_ms = work_ms(rng);
        // What is expected is wrong by chance, and too little on the whole.
        let expected_ms = (work_ms * (0.35 * rng.normal() - 0.2).exp()).max(1_000.0) as u64;
        if rng.chance(0.4) {
            spec.resources.max_time =
                Some(Millis((work_ms * (1.2 + 2.0 * rng.unit())) as u64 + 60_000));
        }
        let fits = !rng.chance(0.002);
        let (workers_min, workers_max) = match rng.below(100) {
            0..=79 => (1, 1),
            80..=87 => (1, 4),
            88..=95 => (2, 2),
            96..=97 => (3, 3),
            _ => (4, 8),
        };
        let demand = Demand {
            workers_min,
            workers_max,
            devices: *rng.pick(&[1, 1, 1, 2, 2, 4]).unwrap(),
            memory_bytes: match (fits, rng.below(4)) {
                (false, _) => 1 << 50,
                (true, 0) => 60 << 30,
                (true, _) => 8 << 30,
            },
            expected_ms: rng.chance(0.97).then_some(expected_ms),
        };
        // Those that are limited ask for less.
        let limited = |tenant: &str| tenant == "coral" || tenant == "dune";
        let first = *rng.pick(&TENANTS).unwrap();
        let tenant = match limited(first) && rng.chance(0.6) {
            true => "gold",
            false => first,
        };
        // What a limit of its tenant never allows waits for ever, as it should.
        let fits = fits && (tenant != "coral" || workers_min * demand.devices <= 12);
        let record = JobRecord::create(NewJob {
            id: format!("job-{number:032x}").parse::<JobId>().unwrap(),
            tenant: tenant.parse().unwrap(),
            spec,
            inputs: Inputs {
                dataset_blake3: String::new(),
                plugins: BTreeMap::new(),
                ..Inputs::default()
            },
            demand,
            replay_of: None,
            created_at: wall,
        })
        .record;
        Self {
            before: record.clone(),
            record,
            ranks: Vec::new(),
            work_ms,
            saved_ms: 0.0,
            started_ms: None,
            renewals: 0,
            queued_ms: now_ms,
            waited_ms: 0,
            preemptions: 0,
            forecast: None,
            fits,
        }
    }

    pub(crate) fn devices(&self) -> u32 {
        self.record.demand.devices
    }

    pub(crate) fn devices_held(&self) -> u32 {
        match self.record.state.is_leased() {
            true => self.devices() * u32::try_from(self.ranks.len()).unwrap(),
            false => 0,
        }
    }

    fn speed(&self) -> f64 {
        self.ranks.len() as f64 / f64::from(self.record.demand.workers_max)
    }

    /// Milliseconds until the attempt ends, from its start.
    pub(crate) fn left_ms(&self) -> u64 {
        ((self.work_ms - self.saved_ms) / self.speed()).max(1.0) as u64
    }

    /// Saves what was done by now.
    pub(crate) fn save(&mut self, now_ms: u64) {
        if let Some(started_ms) = self.started_ms {
            self.saved_ms += (now_ms - started_ms) as f64 * self.speed();
        }
    }
}

/// Most are short, some are very long.
fn work_ms(rng: &mut Rng) -> f64 {
    let seconds = if rng.chance(0.9) {
        60.0 * (0.9 * rng.normal()).exp()
    } else {
        120.0 * (1.0 - rng.unit()).powf(-1.0 / 1.6)
    };
    seconds.clamp(2.0, 7_200.0) * 1_000.0
}
