//! Queued jobs, by class and tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use stoker_domain::spec::Priority;
use stoker_domain::{JobId, Timestamp};

/// Number of priority classes.
pub(super) const CLASSES: usize = 3;

/// Queued jobs. Within a class and a tenant they are in the order of their ids, which is that of
/// their creation.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    classes: [BTreeMap<u32, BTreeSet<JobId>>; CLASSES],
    /// Those that wait for their time.
    waiting: BTreeSet<(Timestamp, JobId)>,
    len: usize,
}

/// The class's place, the first to start first.
pub(super) const fn class(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len + self.waiting.len()
    }

    /// Jobs whose time has come.
    pub(super) fn ripe(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, priority: Priority, tenant: u32, job: JobId) {
        if let Some(class) = self.classes.get_mut(class(priority)) {
            self.len += usize::from(class.entry(tenant).or_default().insert(job));
        }
    }

    pub(super) fn wait(&mut self, until: Timestamp, job: JobId) {
        self.waiting.insert((until, job));
    }

    pub(super) fn remove(
        &mut self,
        priority: Priority,
        tenant: u32,
        until: Option<Timestamp>,
        job: JobId,
    ) {
        if let Some(until) = until
            && self.waiting.remove(&(until, job))
        {
            return;
        }
        let Some(class) = self.classes.get_mut(class(priority)) else {
            return;
        };
        if let Some(jobs) = class.get_mut(&tenant) {
            self.len -= usize::from(jobs.remove(&job));
            if jobs.is_empty() {
                class.remove(&tenant);
            }
        }
    }

    /// Takes out those whose time has come.
    pub(super) fn take_ripe(&mut self, now: Timestamp) -> Vec<JobId> {
        let mut ripe = Vec::new();
        while let Some(&(until, job)) = self.waiting.first()
            && until <= now
        {
            self.waiting.pop_first();
            ripe.push(job);
        }
        ripe
    }

    /// When the next of those that wait may start.
    pub(super) fn next_ripe(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// Tenants with jobs in the class, each with its first job.
    pub(super) fn heads(&self, class: usize) -> impl Iterator<Item = (u32, JobId)> {
        let tenants = self.classes.get(class).into_iter().flatten();
        tenants.filter_map(|(tenant, jobs)| Some((*tenant, *jobs.first()?)))
    }

    /// The tenant's first job in the class.
    pub(super) fn head(&self, class: usize, tenant: u32) -> Option<JobId> {
        self.classes.get(class)?.get(&tenant)?.first().copied()
    }

    /// The tenant's next job in the class.
    pub(super) fn after(&self, class: usize, tenant: u32, job: JobId) -> Option<JobId> {
        let jobs = self.classes.get(class)?.get(&tenant)?;
        let later = (Bound::Excluded(job), Bound::Unbounded);
        jobs.range(later).next().copied()
    }

    /// The first class with jobs.
    pub(super) fn first_class(&self) -> Option<usize> {
        self.classes.iter().position(|class| !class.is_empty())
    }
}
