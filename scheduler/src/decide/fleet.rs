//! Workers: which there are, and what is free on them.

use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::job::EngineIdentity;
use stoker_domain::worker::{Standing, WorkerRecord};
use stoker_domain::{JobId, WorkerId};

/// Workers, their orders and their loads. All is kept up to date by the change, so that a decision
/// looks at what is free alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Devices in use and jobs, also of workers that aren't there any more.
    loads: BTreeMap<WorkerId, Load>,
    pub(super) engines: Vec<Engine>,
    orders: BTreeMap<WorkerId, Standing>,
    /// Workers by when a heartbeat was last seen.
    beats: BTreeSet<(u64, WorkerId)>,
    /// Free devices of workers that take jobs.
    pub(super) free: u64,
}

#[derive(Debug, Clone, Default)]
struct Load {
    devices: u32,
    jobs: BTreeSet<JobId>,
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) incarnation: String,
    pub(super) engine: u32,
    pub(super) slots: u32,
    /// `u64::MAX` when it isn't known: everything fits.
    pub(super) memory_bytes: u64,
    pub(super) place: Vec<String>,
    pub(super) draining: bool,
    beats: u64,
    /// When a heartbeat was last seen.
    pub(super) seen_at_ms: u64,
}

/// Workers of one engine build and device class.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) identity: EngineIdentity,
    /// Workers that take jobs, by free devices and memory.
    free: BTreeMap<(u32, u64), BTreeSet<WorkerId>>,
    /// How many workers that take jobs there are, by all devices and memory.
    sizes: BTreeMap<(u32, u64), u32>,
}

impl Engine {
    /// Workers with at least `devices` free and enough memory, those with the least first.
    pub(super) fn with_free(
        &self,
        devices: u32,
        memory_bytes: u64,
    ) -> impl DoubleEndedIterator<Item = (u32, &WorkerId)> {
        let levels = self.free.range((devices.max(1), 0)..);
        let levels = levels.filter(move |((_, memory), _)| *memory >= memory_bytes);
        levels.flat_map(|((free, _), ids)| ids.iter().map(|id| (*free, id)))
    }

    /// How many workers could hold it, were they free.
    pub(super) fn able(&self, devices: u32, memory_bytes: u64) -> u32 {
        let sizes = self.sizes.range((devices, 0)..);
        let able = sizes.filter(|((_, memory), _)| *memory >= memory_bytes);
        able.map(|(_, count)| count).sum()
    }

    /// The most devices and the most memory of its workers.
    pub(super) fn largest(&self) -> Option<(u32, u64)> {
        let devices = self.sizes.keys().map(|(devices, _)| *devices).max()?;
        let memory_bytes = self.sizes.keys().map(|(_, memory)| *memory).max()?;
        Some((devices, memory_bytes))
    }
}

impl Fleet {
    pub(super) fn engine(&mut self, identity: &EngineIdentity) -> u32 {
        let known = self.engines.iter().position(|e| e.identity == *identity);
        let place = known.unwrap_or_else(|| {
            self.engines.push(Engine {
                identity: identity.clone(),
                free: BTreeMap::new(),
                sizes: BTreeMap::new(),
            });
            self.engines.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    pub(super) fn engine_of(&self, place: u32) -> Option<&Engine> {
        self.engines.get(usize::try_from(place).ok()?)
    }

    pub(super) fn devices_in_use(&self, worker: &WorkerId) -> u32 {
        self.loads.get(worker).map_or(0, |load| load.devices)
    }

    pub(super) fn free_of(&self, worker: &WorkerId) -> u32 {
        let slots = self.workers.get(worker).map_or(0, |worker| worker.slots);
        slots.saturating_sub(self.devices_in_use(worker))
    }

    pub(super) fn jobs_of(&self, worker: &WorkerId) -> impl Iterator<Item = JobId> {
        let load = self.loads.get(worker).into_iter();
        load.flat_map(|load| load.jobs.iter().copied())
    }

    /// A job gets devices of the worker, or gives them back.
    pub(super) fn load(&mut self, worker: &WorkerId, job: JobId, devices: u32, takes: bool) {
        self.unlist(worker);
        let load = self.loads.entry(worker.clone()).or_default();
        if takes {
            load.devices += devices;
            load.jobs.insert(job);
        } else {
            load.devices = load.devices.saturating_sub(devices);
            load.jobs.remove(&job);
        }
        if load.jobs.is_empty() {
            self.loads.remove(worker);
        }
        self.list(worker);
    }

    pub(super) fn standing(&self, worker: &WorkerId) -> Standing {
        self.orders.get(worker).copied().unwrap_or_default()
    }

    /// Whether it takes jobs, as far as it and its operators say.
    pub(super) fn takes_jobs(&self, id: &WorkerId) -> bool {
        let willing = self.workers.get(id).is_some_and(|worker| !worker.draining);
        willing && self.standing(id) == Standing::Open
    }

    /// Workers whose jobs are to go elsewhere.
    pub(super) fn drained(&self) -> impl Iterator<Item = &WorkerId> {
        let orders = self.orders.iter();
        orders
            .filter(|(_, standing)| **standing == Standing::Draining)
            .map(|(id, _)| id)
    }

    pub(super) fn set_orders(&mut self, orders: BTreeMap<WorkerId, Standing>) {
        let changed: Vec<WorkerId> = (self.orders.keys().chain(orders.keys()))
            .filter(|id| self.orders.get(id) != orders.get(id))
            .cloned()
            .collect();
        changed.iter().for_each(|id| self.unlist(id));
        self.orders = orders;
        changed.iter().for_each(|id| self.list(id));
    }

    /// Workers whose last heartbeat was seen at `until_ms` or before.
    pub(super) fn seen_until(&self, until_ms: u64) -> impl Iterator<Item = &WorkerId> {
        let old = self.beats.iter();
        old.take_while(move |(seen_at_ms, _)| *seen_at_ms <= until_ms)
            .map(|(_, id)| id)
    }

    pub(super) fn remove(&mut self, id: &WorkerId) {
        self.unlist(id);
        if let Some(worker) = self.workers.remove(id) {
            self.beats.remove(&(worker.seen_at_ms, id.clone()));
        }
    }

    /// What the worker says of itself; whether this is another life of it.
    pub(super) fn observe(&mut self, record: &WorkerRecord, now_ms: u64) -> bool {
        let known = self.workers.get(&record.id);
        let same_life = known.is_some_and(|known| known.incarnation == record.incarnation);
        let seen_at_ms = match known {
            Some(known) if same_life && known.beats == record.beats => known.seen_at_ms,
            _ => now_ms,
        };
        let engine = self.engine(&record.engine);
        let worker = Worker {
            incarnation: record.incarnation.clone(),
            engine,
            slots: record.slots,
            memory_bytes: match record.memory_bytes {
                0 => u64::MAX,
                known => known,
            },
            place: record.place.clone(),
            draining: record.draining,
            beats: record.beats,
            seen_at_ms,
        };
        match self.workers.get_mut(&record.id) {
            Some(known) if known.same_shape(&worker) => {
                if known.seen_at_ms != seen_at_ms {
                    self.beats.remove(&(known.seen_at_ms, record.id.clone()));
                    self.beats.insert((seen_at_ms, record.id.clone()));
                }
                *known = worker;
            }
            _ => {
                self.remove(&record.id);
                self.workers.insert(record.id.clone(), worker);
                self.beats.insert((seen_at_ms, record.id.clone()));
                self.list(&record.id);
            }
        }
        !same_life
    }

    fn unlist(&mut self, id: &WorkerId) {
        self.relist(id, false);
    }

    fn list(&mut self, id: &WorkerId) {
        self.relist(id, true);
    }

    /// Puts the worker into the lists of those that take jobs, or takes it out.
    fn relist(&mut self, id: &WorkerId, insert: bool) {
        if !self.takes_jobs(id) {
            return;
        }
        let free = self.free_of(id);
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (slots, memory) = (worker.slots, worker.memory_bytes);
        let place = usize::try_from(worker.engine).unwrap_or(usize::MAX);
        let Some(engine) = self.engines.get_mut(place) else {
            return;
        };
        let count = engine.sizes.entry((slots, memory)).or_default();
        if insert {
            *count += 1;
            self.free += u64::from(free);
            let level = engine.free.entry((free, memory)).or_default();
            level.insert(id.clone());
            return;
        }
        *count = count.saturating_sub(1);
        if *count == 0 {
            engine.sizes.remove(&(slots, memory));
        }
        self.free = self.free.saturating_sub(u64::from(free));
        if let Some(level) = engine.free.get_mut(&(free, memory)) {
            level.remove(id);
            if level.is_empty() {
                engine.free.remove(&(free, memory));
            }
        }
    }
}

impl Worker {
    /// Whether it is the same to a decision, however fresh.
    fn same_shape(&self, other: &Self) -> bool {
        self.engine == other.engine
            && self.slots == other.slots
            && self.memory_bytes == other.memory_bytes
            && self.draining == other.draining
            && self.place == other.place
    }
}
