//! Where a job fits: what is free now, less what this decision gave away and what is kept for others.

use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::worker::Standing;
use stoker_domain::{JobId, WorkerId};

use super::fleet::{Engine, Worker};
use super::job::Job;
use super::{Now, State, millis};
use crate::Config;

/// Workers that are compared for a place of several, the fullest first.
const COMPARED_MAX: usize = 1_024;

/// The pool during one decision.
#[derive(Debug)]
pub(super) struct Board<'a> {
    pub(super) state: &'a State,
    pub(super) now: Now,
    /// Workers that missed too many heartbeats.
    silent: BTreeSet<&'a WorkerId>,
    /// Devices given away by this decision.
    taken: BTreeMap<WorkerId, u32>,
    /// Devices kept for those for whom they were freed.
    held: BTreeMap<WorkerId, Vec<(JobId, u32)>>,
    reserved: Option<Reserved>,
    /// Runs that this decision asks to let go.
    pub(super) going: BTreeSet<JobId>,
    /// Free devices of the pool that this decision has left.
    pub(super) free: u64,
}

/// Workers on which the first job that doesn't fit is to start.
#[derive(Debug)]
struct Reserved {
    heir: JobId,
    /// When it starts at the latest; `None` when that isn't known.
    from_ms: Option<u64>,
    /// Devices of each that it doesn't need then.
    spare: BTreeMap<WorkerId, u32>,
}

/// What a job asks of each of its workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) job: JobId,
    pub(super) devices: u32,
    pub(super) memory_bytes: u64,
    /// The engine that it must have; any when `None`.
    pub(super) engine: Option<u32>,
    /// When it would end at the latest, if it started now.
    pub(super) end_ms: Option<u64>,
}

impl<'a> Board<'a> {
    pub(super) fn new(state: &'a State, config: &Config, now: Now) -> Self {
        let silent = state.unchanged_for(millis(config.worker_silence), now);
        let silent = silent.into_iter();
        let mut board = Self {
            state,
            now,
            silent: silent
                .flat_map(|until_ms| state.fleet.seen_until(until_ms))
                .collect(),
            taken: BTreeMap::new(),
            held: BTreeMap::new(),
            reserved: None,
            going: BTreeSet::new(),
            free: state.fleet.free,
        };
        for (heir, hold) in &state.holds {
            if let Some(job) = state.jobs.get(heir)
                && hold.until_ms > now.monotonic_ms
            {
                board.hold(*heir, &hold.workers, job.demand.devices);
            }
        }
        board
    }

    /// What the job asks of each of its workers. `may_move`: whether it may go on with another engine.
    pub(super) fn want(&self, id: JobId, job: &Job, may_move: bool) -> Want {
        Want {
            job: id,
            devices: job.demand.devices,
            memory_bytes: job.demand.memory_bytes,
            engine: job.engine.filter(|_| !may_move),
            end_ms: (job.bound_ms()).map(|bound| self.now.monotonic_ms.saturating_add(bound)),
        }
    }

    pub(super) fn engines(&self, want: Want) -> impl Iterator<Item = (u32, &'a Engine)> {
        let engines = (0_u32..).zip(&self.state.fleet.engines);
        engines.filter(move |(place, _)| want.engine.is_none_or(|engine| engine == *place))
    }

    /// Whether the worker may get the job at all, were it free.
    pub(super) fn able(&self, worker: &WorkerId, want: Want) -> bool {
        self.able_worker(worker, want).is_some()
    }

    fn able_worker(&self, id: &WorkerId, want: Want) -> Option<&'a Worker> {
        let fits = |worker: &&Worker| {
            worker.slots >= want.devices
                && worker.memory_bytes >= want.memory_bytes
                && want.engine.is_none_or(|engine| engine == worker.engine)
                && !worker.draining
        };
        let fleet = &self.state.fleet;
        let worker = fleet.workers.get(id).filter(fits)?;
        let open = fleet.standing(id) == Standing::Open && !self.silent.contains(id);
        open.then_some(worker)
    }

    /// Whether the pool has so many workers at all that could hold it.
    pub(super) fn ever_fits(&self, want: Want, workers: u32) -> bool {
        self.engines(want)
            .any(|(_, engine)| engine.able(want.devices, want.memory_bytes) >= workers)
    }

    /// Devices of the worker that the job may have now, of those that are free.
    fn available(&self, worker: &WorkerId, free: u32, want: Want) -> u32 {
        let taken = self.taken.get(worker).copied().unwrap_or(0);
        let free = free
            .saturating_sub(taken)
            .saturating_sub(self.kept(worker, want.job));
        let Some(reserved) = self.reserved.as_ref().filter(|r| r.heir != want.job) else {
            return free;
        };
        let gone_by_then =
            (reserved.from_ms.zip(want.end_ms)).is_some_and(|(from, end)| end <= from);
        match reserved.spare.get(worker) {
            Some(spare) if !gone_by_then => free.min(*spare),
            _ => free,
        }
    }

    /// What is free on the worker, for whomever.
    pub(super) fn free_on(&self, worker: &WorkerId) -> u32 {
        let taken = self.taken.get(worker).copied().unwrap_or(0);
        self.state.fleet.free_of(worker).saturating_sub(taken)
    }

    /// The worker, if others may be asked to make room for the job there.
    pub(super) fn may_claim(&self, id: &WorkerId, want: Want) -> Option<&'a Worker> {
        let reserved = self.reserved.as_ref().filter(|r| r.heir != want.job);
        let is_reserved = reserved.is_some_and(|reserved| reserved.spare.contains_key(id));
        self.able_worker(id, want).filter(|_| !is_reserved)
    }

    /// Devices of the worker that are kept for others.
    pub(super) fn kept(&self, worker: &WorkerId, job: JobId) -> u32 {
        let holds = self.held.get(worker).into_iter().flatten();
        holds
            .filter(|(heir, _)| *heir != job)
            .map(|(_, devices)| devices)
            .sum()
    }

    /// Devices of the worker that the job may have now.
    pub(super) fn available_on(&self, worker: &WorkerId, want: Want) -> u32 {
        self.available(worker, self.state.fleet.free_of(worker), want)
    }

    /// Workers of that engine where the job may have its devices now, the fullest first.
    fn fitting(&self, engine: &'a Engine, want: Want) -> impl Iterator<Item = (u32, &'a WorkerId)> {
        let free = engine.with_free(want.devices, want.memory_bytes);
        let known = free.filter(|(_, id)| !self.silent.contains(id));
        known
            .map(move |(free, id)| (self.available(id, free, want), id))
            .filter(move |(free, _)| *free >= want.devices)
    }

    /// Where the job fits now on so many workers, all of one engine: near each other, and where the
    /// least is left over.
    pub(super) fn fit(&self, want: Want, workers: u32) -> Option<Vec<&'a WorkerId>> {
        let engines = self.engines(want);
        if workers <= 1 {
            let fullest = engines.filter_map(|(_, engine)| self.fitting(engine, want).next());
            return fullest.min().map(|(_, id)| vec![id]);
        }
        let count = usize::try_from(workers).ok()?;
        let found = engines.filter_map(|(_, engine)| {
            let most = COMPARED_MAX.max(count);
            let fitting: Vec<_> = self.fitting(engine, want).take(most).collect();
            self.nearest(&fitting, count)
        });
        found
            .min_by(|a, b| (b.depth, a.left_over).cmp(&(a.depth, b.left_over)))
            .map(|group| group.workers)
    }

    /// The workers that share the longest part of their place; of such groups, the one in which the
    /// least is left over.
    fn nearest(&self, fitting: &[(u32, &'a WorkerId)], count: usize) -> Option<Group<'a>> {
        if fitting.len() < count {
            return None;
        }
        let place = |id: &WorkerId| {
            let worker = self.state.fleet.workers.get(id);
            worker.map_or(&[][..], |worker| worker.place.as_slice())
        };
        let deepest = fitting.iter().map(|(_, id)| place(id).len()).max()?;
        (0..=deepest).rev().find_map(|depth| {
            let mut groups: BTreeMap<&[String], Vec<(u32, &'a WorkerId)>> = BTreeMap::new();
            for (free, id) in fitting {
                if let Some(near) = place(id).get(..depth) {
                    groups.entry(near).or_default().push((*free, id));
                }
            }
            let whole = groups.into_values().filter(|group| group.len() >= count);
            let whole = whole.map(|group| Group {
                depth,
                left_over: group.iter().map(|(free, _)| u64::from(*free)).sum(),
                workers: group.iter().take(count).map(|(_, id)| *id).collect(),
            });
            whole.min_by_key(|group| group.left_over)
        })
    }

    /// The job gets its place.
    pub(super) fn take(&mut self, want: Want, workers: &[&WorkerId]) {
        for worker in workers {
            *self.taken.entry((*worker).clone()).or_default() += want.devices;
            self.free = self.free.saturating_sub(u64::from(want.devices));
            if let Some(reserved) = &mut self.reserved
                && let Some(spare) = reserved.spare.get_mut(*worker)
            {
                *spare = spare.saturating_sub(want.devices);
            }
        }
        self.release(want.job);
    }

    /// Keeps devices of these workers for a job.
    pub(super) fn hold(&mut self, heir: JobId, workers: &[WorkerId], devices: u32) {
        for worker in workers {
            let held = self.held.entry(worker.clone()).or_default();
            held.push((heir, devices));
        }
    }

    /// Nothing is kept for the job any more.
    fn release(&mut self, heir: JobId) {
        for held in self.held.values_mut() {
            held.retain(|(job, _)| *job != heir);
        }
    }

    pub(super) fn has_reservation(&self) -> bool {
        self.reserved.is_some()
    }

    /// Devices that are free and kept for others than `job`.
    pub(super) fn withheld(&self, job: JobId) -> u32 {
        let held = self.held.values().flatten();
        let held = held
            .filter(|(heir, _)| *heir != job)
            .map(|(_, devices)| devices);
        let reserved = self.reserved.iter().filter(|reserved| reserved.heir != job);
        let reserved = reserved.flat_map(|reserved| &reserved.spare);
        let reserved =
            reserved.map(|(worker, spare)| self.state.fleet.free_of(worker).saturating_sub(*spare));
        held.sum::<u32>() + reserved.sum::<u32>()
    }

    /// Reserves these workers. `free_then`: what is free of each when the job starts.
    pub(super) fn reserve(
        &mut self,
        want: Want,
        from_ms: Option<u64>,
        free_then: impl IntoIterator<Item = (WorkerId, u32)>,
    ) {
        let spare = free_then
            .into_iter()
            .map(|(id, free)| (id, free.saturating_sub(want.devices)));
        self.reserved = Some(Reserved {
            heir: want.job,
            from_ms,
            spare: spare.collect(),
        });
    }
}

/// Workers that are near each other.
struct Group<'a> {
    depth: usize,
    left_over: u64,
    workers: Vec<&'a WorkerId>,
}
