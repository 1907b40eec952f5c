//! What must hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use stoker_domain::job::{Holder, JobState, LetGo};
use stoker_domain::worker::Standing;
use stoker_domain::{JobId, TenantId, WorkerId};

use super::World;

/// Longest that a tenant waits for what is its own, from the last fault on.
const OWN_MS: u64 = 360_000;
/// Longest that a tenant with jobs in the queue gets nothing at all.
const TURN_MS: u64 = 2 * 3_600_000;
/// Most preemptions of a job by others.
const PREEMPTIONS_MAX: u32 = 60;

/// What the checks remember.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Jobs whose workers had a fault since they were given to them.
    disturbed: BTreeSet<JobId>,
    /// Until when a fault may still be felt.
    pub(super) disturbed_ms: u64,
    clock_jumped_ms: u64,
    /// The scheduler's life began.
    forgot_ms: u64,
    /// For whom places are being freed.
    pub(super) heir: Option<JobId>,
    preempted_for: BTreeSet<(JobId, JobId)>,
    /// Since when a tenant lacks what is its own.
    lacks: BTreeMap<TenantId, u64>,
    /// When a tenant last got a place, or wanted none.
    turns: BTreeMap<TenantId, u64>,
    events: u64,
}

impl Checks {
    pub(super) fn disturb(&mut self, id: JobId) {
        self.disturbed.insert(id);
    }

    pub(super) fn undisturbed(&mut self, id: JobId) {
        self.disturbed.remove(&id);
    }

    pub(super) fn was_disturbed(&self, id: JobId) -> bool {
        self.disturbed.contains(&id)
    }

    pub(super) const fn clock_jumped(&mut self, now_ms: u64) {
        self.clock_jumped_ms = now_ms;
    }

    pub(super) fn forget(&mut self) {
        self.preempted_for.clear();
        self.disturbed_ms = self.disturbed_ms.max(self.forgot_ms);
    }
}

impl World {
    /// A job gets its place: may it have it?
    pub(super) fn check_dispatch(&mut self, id: JobId, holders: &[Holder]) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if job.record.state != JobState::Queued {
            return;
        }
        let mut wrong = Vec::new();
        let demand = &job.record.demand;
        let count = u32::try_from(holders.len()).unwrap();
        let whole = (demand.workers_min..=demand.workers_max).contains(&count)
            && (count.is_power_of_two() || count == demand.workers_min);
        let distinct: BTreeSet<&WorkerId> = holders.iter().map(|h| &h.worker).collect();
        if !whole || distinct.len() < holders.len() {
            wrong.push(format!("{id} got {count} workers of {demand:?}"));
        }
        for holder in holders {
            let Some(worker) = self.workers.get(&holder.worker) else {
                continue;
            };
            let standing = self.orders.get(&holder.worker).copied().unwrap_or_default();
            if worker.record.memory_bytes < demand.memory_bytes {
                wrong.push(format!(
                    "{id} doesn't fit into the memory of {}",
                    holder.worker
                ));
            }
            // Orders are seen by the next reading.
            if standing != Standing::Open && self.now_ms > self.checks.disturbed_ms {
                wrong.push(format!(
                    "{id} was given to {}, which is {standing:?}",
                    holder.worker
                ));
            }
        }
        let tenant = &job.record.tenant;
        // A change of settings is seen by the next reading.
        let share = self.seen_settings.share(tenant);
        let theirs = self
            .jobs
            .values()
            .filter(|job| job.record.tenant == *tenant);
        let (jobs, devices) = theirs.fold((0, 0), |(jobs, devices), job| {
            (
                jobs + u32::from(job.record.state.is_leased()),
                devices + job.devices_held(),
            )
        });
        if share
            .devices_max
            .is_some_and(|most| devices + count * demand.devices > most)
        {
            wrong.push(format!(
                "{tenant} has {devices} devices and gets more than its most"
            ));
        }
        if share.jobs_max.is_some_and(|most| jobs + 1 > most) {
            wrong.push(format!(
                "{tenant} has {jobs} jobs and gets more than its most"
            ));
        }
        let now_ms = self.now_ms;
        self.checks.turns.insert(tenant.clone(), now_ms);
        wrong.into_iter().for_each(|what| self.violation(what));
    }

    pub(super) fn check_preempt(&mut self, id: JobId, reason: &str) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if reason.contains("drained") || job.record.state != JobState::Running {
            return;
        }
        let mut wrong = Vec::new();
        let ran_ms = self.now_ms - job.started_ms.unwrap_or(self.now_ms);
        let least_ms = self.settings.min_run_time.0;
        if ran_ms < least_ms && self.checks.clock_jumped_ms == 0 {
            wrong.push(format!("{id} was preempted after {ran_ms} ms"));
        }
        if job.preemptions > PREEMPTIONS_MAX {
            wrong.push(format!(
                "{id} was preempted {} times, last as {reason}; {:?}",
                job.preemptions, job.record.demand
            ));
        }
        let letting_go = |job: &&super::Job| job.record.letting_go == Some(LetGo::Preempt);
        let at_a_time = self.jobs.values().filter(letting_go).count();
        if self.orders.is_empty() && at_a_time > 64 {
            wrong.push(format!("{at_a_time} are preempted at a time"));
        }
        if let Some(heir) = self.checks.heir.filter(|heir| *heir != id) {
            if self.checks.preempted_for.contains(&(heir, id)) {
                wrong.push(format!(
                    "{id} was preempted for {heir}, which was preempted for it"
                ));
            }
            self.checks.preempted_for.insert((id, heir));
        }
        wrong.into_iter().for_each(|what| self.violation(what));
    }

    pub(super) fn check(&mut self) {
        self.checks.events += 1;
        if self.checks.events.is_multiple_of(16) {
            self.check_tenants();
        }
        let mut in_use: BTreeMap<&WorkerId, u32> = BTreeMap::new();
        for job in self
            .jobs
            .values()
            .filter(|job| job.record.state.is_leased())
        {
            for (worker, life) in &job.ranks {
                let here = self
                    .workers
                    .get(worker)
                    .is_some_and(|w| w.record.incarnation == *life);
                if here {
                    *in_use.entry(worker).or_default() += job.devices();
                }
            }
        }
        let over = in_use
            .iter()
            .find(|(id, devices)| self.workers[**id].record.slots < **devices);
        if let Some(over) = over.map(|(id, devices)| format!("{id} has {devices} devices in use")) {
            self.violation(over);
        }
    }

    fn check_tenants(&mut self) {
        let mut wrong = Vec::new();
        let quiet =
            self.now_ms > self.checks.disturbed_ms && !self.blind() && self.orders.is_empty();
        let wall = self.now().wall;
        for tenant in super::job::TENANTS {
            let tenant: TenantId = tenant.parse().unwrap();
            let share = self.settings.share(&tenant);
            let theirs = || self.jobs.values().filter(|job| job.record.tenant == tenant);
            let devices: u32 = theirs().map(super::Job::devices_held).sum();
            let jobs = theirs().filter(|job| job.record.state.is_leased()).count();
            let waits = |job: &&super::Job| {
                let record = &job.record;
                job.fits
                    && record.state == JobState::Queued
                    && record.engine.is_none()
                    && record.not_before.is_none_or(|at| at < wall)
            };
            let needs = |job: &super::Job| job.devices() * job.record.demand.workers_min;
            let own = theirs()
                .filter(waits)
                .any(|job| devices + needs(job) <= share.devices);
            let since = self
                .checks
                .lacks
                .entry(tenant.clone())
                .or_insert(self.now_ms);
            if !own || !quiet {
                *since = self.now_ms;
            }
            if self.now_ms - *since > OWN_MS {
                wrong.push(format!(
                    "{tenant} has {devices} of its {} devices and waits",
                    share.devices
                ));
                *since = self.now_ms;
            }
            let may = share.devices_max.is_none_or(|most| devices + 4 <= most)
                && share
                    .jobs_max
                    .is_none_or(|most| jobs < usize::try_from(most).unwrap());
            let turn = self
                .checks
                .turns
                .entry(tenant.clone())
                .or_insert(self.now_ms);
            if !may || !theirs().any(|job| waits(&job)) {
                *turn = self.now_ms;
            }
            if self.now_ms - *turn > TURN_MS {
                wrong.push(format!("{tenant} got nothing for two hours"));
                *turn = self.now_ms;
            }
        }
        wrong.into_iter().for_each(|what| self.violation(what));
    }
}
