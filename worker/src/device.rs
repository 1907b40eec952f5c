//! The device that a worker's settings ask for, and how fast it is.

use std::num::NonZeroUsize;
use std::time::Duration;

use stoker_domain::worker::DeviceProfile;
use stoker_engine::{Cpu, EngineError};

use crate::config::Config;

/// The device, and its threads.
pub(crate) fn open(config: &Config) -> Result<(Cpu, NonZeroUsize), EngineError> {
    let threads = NonZeroUsize::new(config.threads)
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    Ok((Cpu::new(threads)?, threads))
}

/// Measures the device that a worker with these settings would have; it should have nothing else
/// to do. `now` is any steady clock; `about_to` hears what is measured next.
///
/// # Errors
/// When the engine can't be started.
pub fn calibrate(
    config: &Config,
    now: &(dyn Fn() -> Duration + Sync),
    about_to: &mut dyn FnMut(&str),
) -> Result<DeviceProfile, EngineError> {
    open(config)?.0.calibrate(now, about_to)
}
