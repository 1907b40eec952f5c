//! `stoker worker calibrate`: how fast this machine is, kept where its worker finds it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stoker_domain::worker::DeviceProfile;
use stoker_infra::SystemClock;

use crate::cli::{Output, Table};
use crate::config::Config;

/// Where the profile of this machine's worker is kept.
fn path_under(data_dir: &Path) -> PathBuf {
    data_dir.join("device.json")
}

/// Measures, writes the profile, and shows it.
pub(crate) fn run(config: &Config, data_dir: &Path, output: &Output) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    let now = move || clock.elapsed();
    let mut about_to = |what: &str| output.note(&format!("measuring {what} …"));
    let profile = stoker_worker::calibrate(&config.worker, &now, &mut about_to)?;
    let path = path_under(data_dir);
    std::fs::create_dir_all(data_dir)
        .and_then(|()| std::fs::write(&path, serde_json::to_vec_pretty(&profile)?))
        .with_context(|| format!("can't write {}", path.display()))?;
    if output.json() {
        output.line(&serde_json::to_string_pretty(&profile)?);
        return Ok(());
    }
    let giga = |per_s: u64| format!("{:.1} · 10⁹ / s", per_s as f64 * 1e-9);
    let mut table = Table::of_fields();
    table.field("device", profile.device_class);
    table.field("threads", profile.threads.to_string());
    table.field("products, operations", giga(profile.product_flops_per_s));
    table.field(
        "convolutions, operations",
        giga(profile.convolution_flops_per_s),
    );
    table.field("attention, operations", giga(profile.attention_flops_per_s));
    table.field("memory, bytes", giga(profile.bytes_per_s));
    table.field(
        "starting a kernel",
        format!("{:.1} µs", profile.kernel_ns as f64 * 1e-3),
    );
    table.field("written to", path.display().to_string());
    output.line(&table.render());
    Ok(())
}

/// The profile that was measured here. One that can't be read is left out, with a warning: a worker
/// without one works as well.
pub(crate) fn load(data_dir: &Path) -> Option<DeviceProfile> {
    let path = path_under(data_dir);
    let text = std::fs::read(&path).ok()?;
    let read: Result<DeviceProfile, _> = serde_json::from_slice(&text);
    match read {
        Ok(profile) if profile.version == 1 => Some(profile),
        Ok(profile) => {
            let version = profile.version;
            tracing::warn!("{} has version {version}: calibrate again", path.display());
            None
        }
        Err(error) => {
            tracing::warn!(%error, "can't read {}: calibrate again", path.display());
            None
        }
    }
}
