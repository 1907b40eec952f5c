//! The worker's settings.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoker_domain::worker::DeviceProfile;
use stoker_domain::{FieldError, WorkerId};

/// The worker's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Its id, unique in the pool; made up when absent. A worker that keeps its id over a restart
    /// gives up the leases of its earlier life at once, not after their time.
    pub id: Option<WorkerId>,
    /// Jobs it runs at a time.
    pub slots: u32,
    /// Where it stands, from the outside in, such as rack and host: ranks of one run are put near each
    /// other.
    pub place: Vec<String>,
    /// Memory that the jobs of one slot may fill; its share of what this machine or its control group
    /// has when absent.
    pub memory_bytes: Option<u64>,
    /// Threads of the engine, shared by all slots; 0 for one per core. Never changes a result.
    pub threads: usize,
    /// Time between heartbeats.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// Time between renewals of a lease.
    #[serde(with = "humantime_serde")]
    pub renewal: Duration,
    /// Time between sendings of metric points and log lines.
    #[serde(with = "humantime_serde")]
    pub report: Duration,
    /// Points and lines kept while the store is away; beyond it they are dropped, with a marker in
    /// the log. Training goes on.
    pub spool_entries: usize,
    /// Memory for the prepared rows of data sets, over all of them. Rows that jobs use just now
    /// stay whatever their size.
    pub dataset_cache_bytes: u64,
    /// Most bytes of prepared rows of one data set in memory: more are kept on disk, and read window
    /// by window while a job trains. Never changes a result.
    pub table_memory_bytes: u64,
    /// Where data sets and prepared rows lie; the system's directory for temporary files when absent.
    /// The files have no names: whatever ends the worker frees them.
    pub cache_dir: Option<PathBuf>,
    /// Disk for data sets and prepared rows, over all of them; also the most that the prepared rows
    /// of one data set may take. What jobs use just now stays.
    pub disk_cache_bytes: u64,
    /// How long a draining worker waits for its jobs to save a checkpoint.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How fast its device is, which quotes tell times by; what `stoker worker calibrate` wrote when
    /// absent.
    pub profile: Option<DeviceProfile>,
    /// Limits of plugins while they run.
    pub plugins: stoker_plugins::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: None,
            slots: 1,
            place: Vec::new(),
            memory_bytes: None,
            threads: 0,
            heartbeat: Duration::from_secs(2),
            renewal: Duration::from_secs(2),
            report: Duration::from_millis(300),
            spool_entries: 200_000,
            dataset_cache_bytes: 2 << 30,
            table_memory_bytes: 256 << 20,
            cache_dir: None,
            disk_cache_bytes: 64 << 30,
            drain: Duration::from_secs(30),
            profile: None,
            plugins: stoker_plugins::Config::default(),
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: &str| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        check(
            (1..=1024).contains(&self.slots),
            "slots",
            "not in 1 to 1024",
        );
        let named = |part: &String| (1..=64).contains(&part.len());
        check(
            self.place.len() <= 8 && self.place.iter().all(named),
            "place",
            "at most 8 parts, each of 1 to 64 bytes",
        );
        check(self.threads <= 1024, "threads", "not in 0 to 1024");
        let seconds = |least, most| Duration::from_millis(least)..=Duration::from_millis(most);
        check(
            seconds(10, 10_000).contains(&self.heartbeat),
            "heartbeat",
            "not in 10ms to 10s",
        );
        check(
            seconds(10, 5_000).contains(&self.renewal),
            "renewal",
            "not in 10ms to 5s",
        );
        check(
            seconds(10, 60_000).contains(&self.report),
            "report",
            "not in 10ms to 60s",
        );
        check(
            self.spool_entries >= 1_000,
            "spool_entries",
            "at least 1000 needed",
        );
        check(
            self.disk_cache_bytes >= 1 << 20,
            "disk_cache_bytes",
            "at least 1048576 needed",
        );
        errors
    }
}
