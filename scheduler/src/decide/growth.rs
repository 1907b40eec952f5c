//! Runs that could use more workers, when nobody else needs them.

use stoker_domain::WorkerId;

use super::job::signed;
use super::placement::Board;
use super::{Action, Now, State, dispatch, millis};
use crate::Config;

/// Runs that are looked at.
const LOOKED_AT_MAX: usize = 64;

/// One run that is to go on with more workers: nothing is queued, it had its least run time, and all
/// that it will have is free. It saves a checkpoint, lets go, and finds the place kept for it.
pub(super) fn grow(state: &State, config: &Config, now: Now) -> Vec<Action> {
    if state.queue.len() > 0 || state.fleet.free == 0 || !state.letting_go.is_empty() {
        return Vec::new();
    }
    let board = Board::new(state, config, now);
    let oldest = signed(now.monotonic_ms);
    let youngest = oldest.saturating_sub(signed(state.tenants.settings.min_run_time.0));
    let runs = state
        .running
        .iter()
        .filter(|((_, began_ms), _)| began_ms.0 <= youngest);
    for id in runs.flat_map(|(_, ids)| ids).take(LOOKED_AT_MAX) {
        let Some((job, lease)) = state.jobs.get(id).and_then(|job| Some((job, job.lease()?)))
        else {
            continue;
        };
        let has = u32::try_from(lease.ranks.len()).unwrap_or(u32::MAX);
        let share = state
            .tenants
            .get(job.tenant)
            .map(|tenant| (tenant.devices, &tenant.share));
        let allowed = |more: u32| {
            let after = |devices: u32| devices.saturating_add(job.devices_on(more - has));
            share.is_none_or(|(devices, share)| {
                share.devices_max.is_none_or(|most| after(devices) <= most)
            })
        };
        let more = job
            .worker_counts()
            .filter(|more| *more > has && allowed(*more));
        let want = board.want(*id, job, false);
        for more in more {
            let Some(others) = board.fit(want, more - has) else {
                continue;
            };
            let own = lease.ranks.iter().map(|rank| rank.worker.clone());
            let workers: Vec<WorkerId> = own.clone().chain(others.into_iter().cloned()).collect();
            // Its own are free for it once it lets go; another rank on the same worker isn't meant.
            if workers
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len()
                < workers.len()
            {
                continue;
            }
            let hold = Action::Hold {
                job: *id,
                workers,
                until_ms: now.monotonic_ms.saturating_add(millis(config.hold)),
                victims: vec![*id],
            };
            let why = "it goes on with more workers, which nobody else needs";
            return [hold]
                .into_iter()
                .chain(dispatch::preempts(state, &[*id], why))
                .collect();
        }
    }
    Vec::new()
}
