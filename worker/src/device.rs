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

/// The memory that this process may have: the machine's, or that of its control group where it is
/// less. None when neither can be read.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_kibibytes() {
        let text = "MemTotal:       24689492 kB\nMemFree: 1 kB\n";
        assert_eq!(total(text), Some(24_689_492 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(memory_bytes().is_some());
    }
}
