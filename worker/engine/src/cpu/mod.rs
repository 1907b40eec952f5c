//! The CPU device.

mod calibrate;
mod channels;
pub(crate) mod lanes;
mod loss;
mod ops;
mod optimizer;
mod product;
pub(crate) mod session;
pub(crate) mod simd;
mod statistics;
mod unfold;
mod views;

use std::num::NonZeroUsize;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use stoker_domain::job::FailureKind;
use stoker_model::Plan;

use crate::device::{Device, Session};
use crate::error::EngineError;
use session::CpuSession;
use simd::Level;

/// A CPU with its thread pool. Made once per worker and shared by its runs.
#[derive(Debug, Clone)]
pub struct Cpu {
    pool: Arc<ThreadPool>,
    level: Level,
}

impl Cpu {
    /// A device with a pool of `threads` threads, ready to run: what gemm finds out about the host
    /// and allocates per thread is done here.
    ///
    /// # Errors
    /// `platform` when the threads can't be started.
    pub fn new(threads: NonZeroUsize) -> Result<Self, EngineError> {
        Self::with_level(threads, Level::detect())
    }

    /// The same at a chosen level of instructions.
    pub(crate) fn with_level(threads: NonZeroUsize, level: Level) -> Result<Self, EngineError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|index| format!("engine-{index}"))
            .build()
            .map_err(|error| {
                let message = format!("can't start {threads} threads: {error}");
                EngineError::new(FailureKind::Platform, message)
            })?;
        pool.broadcast(|_| product::warm_up());
        Ok(Self {
            pool: Arc::new(pool),
            level,
        })
    }

    /// Its threads.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Arc<ThreadPool> {
        &self.pool
    }
}

impl Device for Cpu {
    fn class(&self) -> String {
        device_class()
    }

    fn open(&self, plan: Arc<Plan>) -> Result<Box<dyn Session>, EngineError> {
        let session = CpuSession::new(Arc::clone(&self.pool), self.level, plan)?;
        Ok(Box::new(session))
    }
}

/// What results depend on besides the engine's build. The instruction sets with fused multiply-add
/// all give the same bits; without it gemm rounds otherwise.
#[must_use]
pub fn device_class() -> String {
    let arch = std::env::consts::ARCH.replace('_', "-");
    #[cfg(target_arch = "x86_64")]
    if !is_x86_feature_detected!("fma") {
        return format!("cpu-{arch}-nofma");
    }
    format!("cpu-{arch}")
}
