//! Which runs make room for a job that may ask for it.
//!
//! Two kinds of job may: one that stays within what is its tenant's own takes back what others have
//! borrowed, whatever their class; and one of a higher class takes the place of a lower. Nobody loses
//! what is theirs, except to a higher class that is within its own. A run is left alone until it has
//! had the pool's least run time, longer ones when it made room before, and never makes room for a job that once made room for it.
//! Preempted is only who suffices: the whole demand fits then, counting what is being let go already.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::spec::Priority;
use stoker_domain::{JobId, WorkerId};

use super::job::{Job, signed};
use super::placement::{Board, Want};
use super::{Now, State};

/// Runs that are looked at for one job.
const LOOKED_AT_MAX: usize = 128;

/// How often the least run time of a job doubles that makes room again and again.
const DOUBLINGS_MAX: u32 = 3;

/// Who may be preempted for a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) id: JobId,
    pub(super) tenant: u32,
    pub(super) priority: Priority,
    /// Whether it stays within what is its tenant's own.
    pub(super) entitled: bool,
}

/// Room for a job.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where it will start.
    pub(super) workers: Vec<WorkerId>,
    /// Who makes room; nobody, when enough is being let go already.
    pub(super) victims: Vec<JobId>,
}

/// Whether any queued job could make another let go: otherwise nobody needs to look.
pub(super) fn possible(state: &State) -> bool {
    let lowest = state.running.first_key_value();
    let lowest = lowest.map(|((priority, _), _)| super::queue::class(*priority));
    let by_class =
        (state.queue.first_class().zip(lowest)).is_some_and(|(first, last)| first < last);
    by_class || (!state.tenants.guaranteed().is_empty() && lowest.is_some())
}

/// Room for the job, within `budget` preemptions.
pub(super) fn plan(
    board: &Board<'_>,
    want: Want,
    workers: u32,
    claim: Claim,
    budget: usize,
) -> Option<Plan> {
    let mut search = Search {
        board,
        want,
        workers: usize::try_from(workers).ok()?,
        freed: BTreeMap::new(),
        ready: BTreeMap::new(),
    };
    search.add_free();
    let mut lost: BTreeMap<u32, u32> = BTreeMap::new();
    for id in &board.state.letting_go {
        search.add_run(*id, false);
    }
    for id in &board.going {
        search.add_run(*id, false);
        if let Some(job) = board.state.jobs.get(id) {
            *lost.entry(job.tenant).or_default() += job.devices_held();
        }
    }
    if let Some(workers) = search.found() {
        return search.plan(workers, budget);
    }
    for (id, job) in candidates(board, claim) {
        if board.going.contains(&id) || !yields(board, job, id, claim, &lost) {
            continue;
        }
        if !search.add_run(id, true) {
            continue;
        }
        *lost.entry(job.tenant).or_default() += job.devices_held();
        if let Some(workers) = search.found() {
            return search.plan(workers, budget);
        }
    }
    None
}

/// Runs that are old enough, the first to go first.
fn candidates<'a>(board: &Board<'a>, claim: Claim) -> impl Iterator<Item = (JobId, &'a Job)> {
    let state = board.state;
    let oldest = signed(board.now.monotonic_ms);
    let youngest = oldest.saturating_sub(signed(state.tenants.settings.min_run_time.0));
    let classes = [Priority::Low, Priority::Normal, Priority::High];
    let classes = classes
        .into_iter()
        .filter(move |class| claim.entitled || *class < claim.priority);
    let runs = classes.flat_map(move |class| {
        let runs = state.running.range((class, Reverse(youngest))..);
        runs.take_while(move |((priority, _), _)| *priority == class)
    });
    runs.flat_map(|(_, ids)| ids)
        .take(LOOKED_AT_MAX)
        .filter_map(|id| Some((*id, state.jobs.get(id)?)))
}

/// Whether the run has had its least time: the pool's, twice that after it made room once, and so on.
fn has_run(state: &State, job: &Job, id: JobId, now: Now) -> bool {
    let times = state.preemptors.get(&id).map_or(0, |(_, times)| *times);
    let factor = 1_u64 << times.min(DOUBLINGS_MAX);
    let least_ms = state.tenants.settings.min_run_time.0.saturating_mul(factor);
    let began_ms = job.lease().and_then(|lease| lease.began_ms);
    began_ms.is_some_and(|began| signed(now.monotonic_ms) - began >= signed(least_ms))
}

/// Whether the run yields to the claim. `lost`: devices that tenants are about to lose.
fn yields(
    board: &Board<'_>,
    job: &Job,
    id: JobId,
    claim: Claim,
    lost: &BTreeMap<u32, u32>,
) -> bool {
    let (state, now) = (board.state, board.now);
    let made_room = (state.preemptors.get(&claim.id)).is_some_and(|(heir, _)| *heir == id);
    if id == claim.id || made_room || !has_run(state, job, id, now) {
        return false;
    }
    let Some(tenant) = state.tenants.get(job.tenant) else {
        return false;
    };
    let lost = lost.get(&job.tenant).copied().unwrap_or(0);
    let left = tenant
        .staying()
        .saturating_sub(lost)
        .saturating_sub(job.devices_held());
    let borrowed = left >= tenant.share.devices;
    let own_tenant = job.tenant == claim.tenant;
    if job.priority < claim.priority {
        borrowed || own_tenant || claim.entitled
    } else {
        claim.entitled && borrowed && !own_tenant
    }
}

/// Gathers room until it suffices.
struct Search<'a, 'b> {
    board: &'b Board<'a>,
    want: Want,
    workers: usize,
    /// What is being freed, and by whom: `true` when it is to be preempted for this.
    freed: BTreeMap<&'a WorkerId, Vec<(JobId, u32, bool)>>,
    /// Workers with enough, by engine.
    ready: BTreeMap<u32, Vec<&'a WorkerId>>,
}

impl<'a> Search<'a, '_> {
    fn add_free(&mut self) {
        for (place, engine) in self.board.engines(self.want) {
            let free = engine.with_free(self.want.devices, self.want.memory_bytes);
            let free = free.map(|(_, id)| id).filter(|id| {
                self.board.may_claim(id, self.want).is_some()
                    && self.board.available_on(id, self.want) >= self.want.devices
            });
            self.ready.insert(place, free.take(self.workers).collect());
        }
    }

    /// Counts on what the run has; whether it has anything where the job could be.
    fn add_run(&mut self, id: JobId, preempt: bool) -> bool {
        let jobs = &self.board.state.jobs;
        let Some((job, lease)) = jobs.get(&id).and_then(|job| Some((job, job.lease()?))) else {
            return false;
        };
        let mut helps = false;
        for rank in &lease.ranks {
            let Some(worker) = self.board.may_claim(&rank.worker, self.want) else {
                continue;
            };
            helps = true;
            let before = self.room(&rank.worker);
            let freed = self.freed.entry(&rank.worker).or_default();
            freed.push((id, job.demand.devices, preempt));
            if before < self.want.devices && self.room(&rank.worker) >= self.want.devices {
                let ready = self.ready.entry(worker.engine).or_default();
                ready.push(&rank.worker);
            }
        }
        helps
    }

    /// What is free on the worker once those let go, less what is kept for others.
    fn room(&self, worker: &WorkerId) -> u32 {
        let freed = self.freed.get(worker).into_iter().flatten();
        let freed: u32 = freed.map(|(_, devices, _)| devices).sum();
        let free = self.board.free_on(worker) + freed;
        free.saturating_sub(self.board.kept(worker, self.want.job))
    }

    fn found(&self) -> Option<Vec<&'a WorkerId>> {
        let workers = self
            .ready
            .values()
            .find(|workers| workers.len() >= self.workers)?;
        Some(workers.iter().take(self.workers).copied().collect())
    }

    /// The plan with those victims alone that these workers need.
    fn plan(&self, workers: Vec<&'a WorkerId>, budget: usize) -> Option<Plan> {
        let mut victims: BTreeSet<JobId> = BTreeSet::new();
        for worker in &workers {
            let runs = self.freed.get(worker).into_iter().flatten();
            let mut spare = self.room(worker).saturating_sub(self.want.devices);
            // The last to be found is the first to be spared: it is of the highest class, and oldest.
            for (id, devices, _) in runs.rev().filter(|(_, _, preempt)| *preempt) {
                if *devices <= spare && !victims.contains(id) {
                    spare -= devices;
                } else {
                    victims.insert(*id);
                }
            }
        }
        (victims.len() <= budget).then(|| Plan {
            workers: workers.into_iter().cloned().collect(),
            victims: victims.into_iter().collect(),
        })
    }
}
