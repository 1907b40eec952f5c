//! The order in which queued jobs are tried.
//!
//! First those that stay within what is their tenant's own, then the rest: by class; then the tenant
//! that uses the least for its weight; then by age. A job that can't start lets others be looked at:
//! the tenant's next one comes after all tenants of the class have had a look as often.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use stoker_domain::JobId;

use super::State;
use super::job::Job;
use super::queue::{CLASSES, class};

/// The order, and what this decision gives to whom.
#[derive(Debug)]
pub(super) struct Order<'a> {
    state: &'a State,
    now_ms: u64,
    charge: f64,
    lines: BinaryHeap<Line>,
    /// The first class whose lines aren't there yet, except those of tenants that have devices of
    /// their own.
    next_class: usize,
    /// Devices and jobs that tenants get by this decision.
    given: BTreeMap<u32, (u32, u32)>,
    /// Devices that are being freed for tenants' jobs.
    promised: BTreeMap<u32, u32>,
    /// Tenants that have all they may have.
    capped: BTreeSet<u32>,
}

/// A tenant's jobs of one class.
#[derive(Debug, Clone, Copy)]
struct Line {
    key: Key,
    head: JobId,
    /// Decayed use, less what runs now.
    usage: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Key {
    borrows: bool,
    class: usize,
    looked_at: u32,
    score: f64,
    tenant: u32,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Line {}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Line {
    /// The greatest is tried first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.key, &other.key);
        let by_rank = (b.borrows, b.class, b.looked_at).cmp(&(a.borrows, a.class, a.looked_at));
        by_rank
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| b.tenant.cmp(&a.tenant))
    }
}

/// A job whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    line: Line,
}

impl Turn {
    pub(super) const fn job(&self) -> JobId {
        self.line.head
    }
}

impl<'a> Order<'a> {
    pub(super) fn new(state: &'a State, now_ms: u64) -> Self {
        let mut order = Self {
            state,
            now_ms,
            charge: state.tenants.charge(),
            lines: BinaryHeap::new(),
            next_class: 0,
            given: BTreeMap::new(),
            promised: BTreeMap::new(),
            capped: BTreeSet::new(),
        };
        for (heir, hold) in state
            .holds
            .iter()
            .filter(|(_, hold)| hold.until_ms > now_ms)
        {
            if let Some(job) = state.jobs.get(heir).filter(|job| job.lease().is_none()) {
                let workers = u32::try_from(hold.workers.len()).unwrap_or(u32::MAX);
                order.promise(job, workers);
            }
        }
        for tenant in state.tenants.guaranteed() {
            for class in 0..CLASSES {
                if let Some(head) = state.queue.head(class, *tenant) {
                    order.lines.push(order.first_line(class, *tenant, head));
                }
            }
        }
        order
    }

    fn first_line(&self, class: usize, tenant: u32, head: JobId) -> Line {
        let usage = self.state.tenants.usage(tenant, self.now_ms);
        self.line(class, tenant, head, usage, 0)
    }

    /// Joins the lines of the classes whose turn has come: most decisions end before the last.
    fn join_classes(&mut self) {
        while self.next_class < CLASSES {
            let first = self.lines.peek().map(|line| line.key);
            if first.is_some_and(|key| !key.borrows || key.class < self.next_class) {
                return;
            }
            let heads = self.state.queue.heads(self.next_class);
            let heads = heads.filter(|(tenant, _)| !self.state.tenants.is_guaranteed(*tenant));
            let lines = heads.map(|(tenant, head)| self.first_line(self.next_class, tenant, head));
            let mut lines: BinaryHeap<Line> = lines.collect::<Vec<_>>().into();
            self.lines.append(&mut lines);
            self.next_class += 1;
        }
    }

    fn line(&self, class: usize, tenant: u32, head: JobId, usage: f64, looked_at: u32) -> Line {
        let known = self.state.tenants.get(tenant);
        let share = known.map(|tenant| &tenant.share);
        let weight = share.map_or(1, |share| share.weight).max(1);
        let devices = known.map_or(0, |tenant| tenant.devices) + self.given_to(tenant).0;
        let borrows = share.is_none_or(|share| share.devices == 0)
            || !(self.state.jobs.get(&head)).is_some_and(|job| self.is_entitled(head, job));
        Line {
            key: Key {
                borrows,
                class,
                looked_at,
                score: (usage + self.charge * f64::from(devices)) / f64::from(weight),
                tenant,
            },
            head,
            usage,
        }
    }

    fn given_to(&self, tenant: u32) -> (u32, u32) {
        self.given.get(&tenant).copied().unwrap_or_default()
    }

    /// Whether the job stays within what is its tenant's own.
    pub(super) fn is_entitled(&self, id: JobId, job: &Job) -> bool {
        let Some(tenant) = self.state.tenants.get(job.tenant) else {
            return false;
        };
        let needs = job.devices_on(job.demand.workers_min.max(1));
        let promised = self.promised.get(&job.tenant).copied().unwrap_or(0);
        let others = promised.saturating_sub(self.promised_to(id, job));
        tenant.staying() + self.given_to(job.tenant).0 + others + needs <= tenant.share.devices
    }

    /// On how many workers the job may run, by its tenant's limits.
    pub(super) fn allowed_workers(&self, job: &Job) -> Allowed {
        let Some(tenant) = self.state.tenants.get(job.tenant) else {
            return Allowed::Workers(u32::MAX);
        };
        let (devices, jobs) = self.given_to(job.tenant);
        if (tenant.share.jobs_max).is_some_and(|most| tenant.jobs + jobs >= most) {
            return Allowed::JobsMax;
        }
        let Some(most) = tenant.share.devices_max else {
            return Allowed::Workers(u32::MAX);
        };
        let left = most.saturating_sub(tenant.devices + devices);
        let workers = left / job.demand.devices.max(1);
        if workers < job.demand.workers_min.max(1) {
            let ever = most >= job.devices_on(job.demand.workers_min.max(1));
            return Allowed::DevicesMax { ever };
        }
        Allowed::Workers(workers)
    }

    /// The next to be tried.
    pub(super) fn next(&mut self) -> Option<Turn> {
        loop {
            self.join_classes();
            let line = self.lines.pop()?;
            let Key {
                class,
                tenant,
                looked_at,
                ..
            } = line.key;
            if self.capped.contains(&tenant) {
                continue;
            }
            // What its tenant got in another class counts here too.
            let fresh = self.line(class, tenant, line.head, line.usage, looked_at);
            if fresh.key == line.key {
                return Some(Turn { line });
            }
            self.lines.push(fresh);
        }
    }

    /// It got a place on so many workers.
    pub(super) fn gave(&mut self, id: JobId, job: &Job, workers: u32) {
        let kept = self.promised_to(id, job);
        if let Some(promised) = self.promised.get_mut(&job.tenant) {
            *promised = promised.saturating_sub(kept);
        }
        let given = self.given.entry(job.tenant).or_default();
        given.0 += job.devices_on(workers);
        given.1 += 1;
    }

    /// Places on so many workers are being freed for it.
    pub(super) fn promise(&mut self, job: &Job, workers: u32) {
        *self.promised.entry(job.tenant).or_default() += job.devices_on(workers);
    }

    /// Devices that were freed for the job before.
    fn promised_to(&self, id: JobId, job: &Job) -> u32 {
        let hold = self.state.holds.get(&id);
        let hold = hold.filter(|hold| hold.until_ms > self.now_ms);
        let workers = hold.map_or(0, |hold| hold.workers.len());
        job.devices_on(u32::try_from(workers).unwrap_or(u32::MAX))
    }

    /// Goes on with the tenant's next job.
    pub(super) fn go_on(&mut self, turn: Turn, looked_at: u32) {
        let Key {
            class,
            tenant,
            looked_at: before,
            ..
        } = turn.line.key;
        if let Some(head) = self.state.queue.after(class, tenant, turn.line.head) {
            let next = self.line(class, tenant, head, turn.line.usage, before + looked_at);
            self.lines.push(next);
        }
    }

    /// None of the tenant's jobs starts now.
    pub(super) fn cap(&mut self, tenant: u32) {
        self.capped.insert(tenant);
    }

    /// How many jobs would start before this one, if all found a place; at most `most`.
    pub(super) fn ahead_of(&mut self, id: JobId, most: usize) -> Option<Ahead> {
        let job = self.state.jobs.get(&id)?;
        let mut ahead = Ahead::default();
        while let Some(turn) = self.next() {
            let other = self.state.jobs.get(&turn.job())?;
            if turn.job() == id {
                return Some(ahead);
            }
            if ahead.jobs() >= most {
                return None;
            }
            match class(other.priority).cmp(&class(job.priority)) {
                Ordering::Less => ahead.higher_class += 1,
                _ if other.tenant == job.tenant => ahead.own += 1,
                _ => ahead.others += 1,
            }
            self.gave(turn.job(), other, other.demand.workers_min.max(1));
            self.go_on(turn, 0);
        }
        None
    }
}

/// What a tenant's limits say to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// It may run on so many workers.
    Workers(u32),
    /// Its tenant has as many jobs as it may have.
    JobsMax,
    /// Its tenant has too many devices, for now or, when not `ever`, whatever it has.
    DevicesMax {
        /// Whether it may run once others have ended.
        ever: bool,
    },
}

/// Jobs that come before one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) higher_class: usize,
    pub(super) own: usize,
    pub(super) others: usize,
}

impl Ahead {
    pub(super) const fn jobs(&self) -> usize {
        self.higher_class + self.own + self.others
    }
}
