//! Metric points of jobs that have ended move to files; those of jobs that are gone go.

use crate::{Config, HousekeepingError, Ports};

/// Jobs looked at by one read.
const PAGE: usize = 500;

/// Moves them; the number of jobs whose points moved or went.
pub(crate) async fn compact(config: &Config, ports: &Ports) -> Result<u64, HousekeepingError> {
    let (mut compacted, mut after) = (0, None);
    loop {
        let jobs = ports.telemetry.jobs_to_compact(after, PAGE).await?;
        let Some(last) = jobs.last().copied() else {
            return Ok(compacted);
        };
        for job in jobs {
            match ports.jobs.job(job).await? {
                Some(record) if !record.state.is_final() => continue,
                Some(record) => {
                    let since = ports.clock.now().millis_since(record.updated_at);
                    if since < config.compact_after.0 {
                        continue;
                    }
                    ports.telemetry.compact(job).await?;
                }
                None => ports.telemetry.delete_points(job).await?,
            }
            compacted += 1;
        }
        after = Some(last);
    }
}
