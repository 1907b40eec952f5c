//! Pools of workers, as their operators set them up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::id::TenantId;
use crate::time::Millis;

/// Version tag of stored pool settings.
pub const RECORD_VERSION: u16 = 1;

/// Most that a tenant's share may weigh.
pub const WEIGHT_MAX: u32 = 1_000;

/// How a pool is shared. A pool that nobody set up has the defaults: free, all tenants equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// Version tag of this form.
    pub record_version: u16,
    /// What a device costs for an hour; 0 for nothing.
    pub price_per_device_hour: f64,
    /// After this time use counts half as much against its tenant.
    #[schema(value_type = String, example = "24h")]
    pub usage_half_life: Millis,
    /// How long an attempt runs before another job may take its place.
    #[schema(value_type = String, example = "5m")]
    pub min_run_time: Millis,
    /// What is particular to a tenant; all others have the default share.
    pub tenants: BTreeMap<TenantId, Share>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            record_version: RECORD_VERSION,
            price_per_device_hour: 0.0,
            usage_half_life: Millis(24 * 3_600_000),
            min_run_time: Millis(300_000),
            tenants: BTreeMap::new(),
        }
    }
}

/// A tenant's share of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// Who weighs twice as much gets twice as much, 1 to 1000.
    pub weight: u32,
    /// Devices that are the tenant's whenever it asks; others may borrow them until then.
    pub devices: u32,
    /// Most devices at a time, borrowed ones too; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices_max: Option<u32>,
    /// Most jobs at a time that have a device; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs_max: Option<u32>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            weight: 1,
            devices: 0,
            devices_max: None,
            jobs_max: None,
        }
    }
}

impl PoolSettings {
    /// The tenant's share.
    #[must_use]
    pub fn share(&self, tenant: &TenantId) -> Share {
        self.tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        let price = self.price_per_device_hour;
        let message = format!("{price} is not in 0 to 1000000");
        check(
            (0.0..=1e6).contains(&price),
            "price_per_device_hour",
            message,
        );
        let half_life = self.usage_half_life;
        let message = format!("{half_life} is not in 1m to 8760h");
        let range = 60_000..=365 * 86_400_000;
        check(range.contains(&half_life.0), "usage_half_life", message);
        let min = self.min_run_time;
        let message = format!("{min} is not in 0s to 168h");
        check(min.0 <= 7 * 86_400_000, "min_run_time", message);
        for (tenant, share) in &self.tenants {
            let field = |name: &str| format!("tenants.{tenant}.{name}");
            let message = format!("{} is not in 1 to {WEIGHT_MAX}", share.weight);
            let is_right = (1..=WEIGHT_MAX).contains(&share.weight);
            check(is_right, &field("weight"), message);
            let most = share.devices_max.unwrap_or(u32::MAX);
            let message = format!("{most} is less than the tenant's own {}", share.devices);
            check(most >= share.devices, &field("devices_max"), message);
        }
        errors
    }
}
