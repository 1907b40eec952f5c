//! How often a tenant may ask: a bucket of tokens for each, which fills at a steady rate (GCRA). The
//! buckets are this process's: with several API processes a tenant may ask as often of each.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use stoker_domain::{Clock, ErrorCode, TenantId};

use crate::config::RateConfig;
use crate::problem::ApiError;

/// Tenants whose buckets are kept before full ones are dropped.
const TENANTS_MAX: usize = 10_000;

/// The port's clock, as the limiter reads it.
#[derive(Clone)]
struct PortClock(Arc<dyn Clock>);

impl GovernorClock for PortClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.monotonic_ms())
    }
}

type Buckets =
    RateLimiter<TenantId, DashMapStateStore<TenantId>, PortClock, NoOpMiddleware<Duration>>;

/// Counts requests by tenant.
pub(crate) struct Rate {
    buckets: Option<Buckets>,
    clock: PortClock,
    config: RateConfig,
}

impl Rate {
    pub(crate) fn new(config: &RateConfig, clock: Arc<dyn Clock>) -> Self {
        let clock = PortClock(clock);
        let quota = NonZeroU32::new(config.per_s).zip(NonZeroU32::new(config.burst));
        let buckets = quota.map(|(per_s, burst)| {
            let quota = Quota::per_second(per_s).allow_burst(burst);
            RateLimiter::new(quota, DashMapStateStore::default(), clock.clone())
        });
        Self {
            buckets,
            clock,
            config: config.clone(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `rate_limited` when the tenant has asked too often.
    pub(crate) fn count(&self, tenant: &TenantId) -> Result<(), ApiError> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        if buckets.len() >= TENANTS_MAX {
            buckets.retain_recent();
        }
        buckets.check_key(tenant).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let detail = format!(
                "the tenant may ask {} times a second, and {} at once; ask again in {} ms",
                self.config.per_s,
                self.config.burst,
                wait.as_millis().max(1)
            );
            ApiError::new(ErrorCode::RateLimited, detail)
        })
    }
}
