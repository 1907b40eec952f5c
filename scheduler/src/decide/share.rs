//! Tenants: what they use, what is theirs, and what they may have at most.

use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};
use stoker_domain::pool::{PoolSettings, Share};
use stoker_domain::{TenantId, Timestamp};

use super::Now;

/// Version tag of stored usage.
pub const USAGE_VERSION: u16 = 1;

/// What tenants have used of a pool, as a scheduler leaves it for the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageSnapshot {
    /// Version tag of this form.
    pub record_version: u16,
    /// When it was taken.
    pub at: Timestamp,
    /// Device-milliseconds by tenant, where old ones count less.
    pub tenants: BTreeMap<TenantId, f64>,
    /// How long the last jobs ran, as a factor of what was expected.
    #[serde(default)]
    pub ratios: Vec<f64>,
    /// How long the last preempted runs took to let go, in milliseconds.
    #[serde(default)]
    pub releases_ms: Vec<f64>,
}

/// Tenants by the number that stands for them in all other tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Tenants {
    list: Vec<Tenant>,
    index: BTreeMap<TenantId, u32>,
    pub(super) settings: PoolSettings,
    /// Tenants that have devices of their own.
    guaranteed: BTreeSet<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) share: Share,
    /// Device-milliseconds as of `settled_ms`.
    usage: f64,
    settled_ms: u64,
    /// Devices that its jobs have.
    pub(super) devices: u32,
    /// Of those, devices of jobs that let go.
    pub(super) leaving: u32,
    /// Jobs that have a device.
    pub(super) jobs: u32,
}

impl Tenants {
    pub(super) fn number(&mut self, id: &TenantId, now_ms: u64) -> u32 {
        if let Some(&number) = self.index.get(id) {
            return number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Tenant {
            id: id.clone(),
            share: self.settings.share(id),
            usage: 0.0,
            settled_ms: now_ms,
            devices: 0,
            leaving: 0,
            jobs: 0,
        });
        self.index.insert(id.clone(), number);
        self.note_guarantee(number);
        number
    }

    fn note_guarantee(&mut self, number: u32) {
        if (self.get(number)).is_some_and(|tenant| tenant.share.devices > 0) {
            self.guaranteed.insert(number);
        } else {
            self.guaranteed.remove(&number);
        }
    }

    pub(super) const fn guaranteed(&self) -> &BTreeSet<u32> {
        &self.guaranteed
    }

    pub(super) fn is_guaranteed(&self, number: u32) -> bool {
        self.guaranteed.contains(&number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Tenant> {
        self.list.get(usize::try_from(number).ok()?)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Tenant> {
        self.list.get_mut(usize::try_from(number).ok()?)
    }

    /// Milliseconds after which use counts half.
    fn half_life_ms(&self) -> f64 {
        (self.settings.usage_half_life.0 as f64).max(1.0)
    }

    /// What a device counts that runs now: as though it ran on for good, so that use of the past and
    /// use of the present are measured alike.
    pub(super) fn charge(&self) -> f64 {
        self.half_life_ms() / LN_2
    }

    pub(super) fn usage(&self, number: u32, now_ms: u64) -> f64 {
        let half_life_ms = self.half_life_ms();
        self.get(number)
            .map_or(0.0, |tenant| tenant.usage_at(half_life_ms, now_ms))
    }

    /// A job of the tenant gets devices, or lets go of them.
    pub(super) fn change(&mut self, number: u32, change: Change, now_ms: u64) {
        let half_life_ms = self.half_life_ms();
        let Some(tenant) = self.get_mut(number) else {
            return;
        };
        tenant.settle(half_life_ms, now_ms);
        let leaving = if change.leaving { change.devices } else { 0 };
        let jobs = u32::from(change.devices > 0);
        if change.takes {
            tenant.devices += change.devices;
            tenant.leaving += leaving;
            tenant.jobs += jobs;
        } else {
            tenant.devices = tenant.devices.saturating_sub(change.devices);
            tenant.leaving = tenant.leaving.saturating_sub(leaving);
            tenant.jobs = tenant.jobs.saturating_sub(jobs);
        }
    }

    /// Use until now counts by the old half-life.
    pub(super) fn set(&mut self, settings: PoolSettings, now_ms: u64) {
        if settings == self.settings {
            return;
        }
        let half_life_ms = self.half_life_ms();
        for tenant in &mut self.list {
            tenant.settle(half_life_ms, now_ms);
            tenant.share = settings.share(&tenant.id);
        }
        self.settings = settings;
        (0_u32..)
            .take(self.list.len())
            .for_each(|number| self.note_guarantee(number));
    }

    pub(super) fn snapshot(&self, now: Now) -> BTreeMap<TenantId, f64> {
        let half_life_ms = self.half_life_ms();
        let used = self.list.iter().map(|tenant| {
            let usage = tenant.usage_at(half_life_ms, now.monotonic_ms);
            (tenant.id.clone(), usage.round())
        });
        used.filter(|(_, usage)| *usage > 0.0).collect()
    }

    pub(super) fn restore(&mut self, snapshot: &UsageSnapshot, now: Now) {
        let age_ms = now.wall.millis_since(snapshot.at) as f64;
        let left = (-age_ms / self.half_life_ms()).exp2();
        for (id, usage) in &snapshot.tenants {
            let number = self.number(id, now.monotonic_ms);
            if let Some(tenant) = self.get_mut(number)
                && usage.is_finite()
            {
                tenant.usage = usage.max(0.0) * left;
                tenant.settled_ms = now.monotonic_ms;
            }
        }
    }
}

/// Devices that a tenant's job takes or gives back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) takes: bool,
    pub(super) devices: u32,
    /// Whether the job lets go of them.
    pub(super) leaving: bool,
}

impl Tenant {
    fn usage_at(&self, half_life_ms: f64, now_ms: u64) -> f64 {
        let passed_ms = now_ms.saturating_sub(self.settled_ms) as f64;
        let left = (-passed_ms / half_life_ms).exp2();
        let of_now = f64::from(self.devices) * (1.0 - left) * half_life_ms / LN_2;
        self.usage * left + of_now
    }

    fn settle(&mut self, half_life_ms: f64, now_ms: u64) {
        self.usage = self.usage_at(half_life_ms, now_ms);
        self.settled_ms = self.settled_ms.max(now_ms);
    }

    /// Devices that it keeps when those that let go have done so.
    pub(super) fn staying(&self) -> u32 {
        self.devices.saturating_sub(self.leaving)
    }
}
