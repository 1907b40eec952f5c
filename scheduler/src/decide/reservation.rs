//! When and where the first job that doesn't fit will start: what is there by then is kept for it,
//! so that jobs that are smaller never delay it.

use std::collections::BTreeMap;

use stoker_domain::WorkerId;

use super::placement::{Board, Want};

/// Ends of runs that are looked at.
const ENDS_MAX: usize = 256;

/// Where a job will start.
#[derive(Debug)]
pub(super) struct Start {
    /// At the latest; `None` when the ends of the runs in its way aren't known.
    pub(super) from_ms: Option<u64>,
    /// The workers, with what is free of them then.
    pub(super) workers: Vec<(WorkerId, u32)>,
}

/// Where the job will start at the latest, as far as the ends of runs are known. Where they aren't:
/// the workers of which the most is free already. As nobody else may take what is free there, it only
/// grows, and the job starts some day.
pub(super) fn start(board: &Board<'_>, want: Want, workers: u32) -> Option<Start> {
    let workers = usize::try_from(workers).ok()?;
    known_start(board, want, workers).or_else(|| unknown_start(board, want, workers))
}

fn known_start(board: &Board<'_>, want: Want, count: usize) -> Option<Start> {
    let state = board.state;
    let mut freed: BTreeMap<&WorkerId, u32> = BTreeMap::new();
    // Ready workers by engine, in the order in which they become so.
    let mut ready: BTreeMap<u32, Vec<&WorkerId>> = BTreeMap::new();
    for (place, engine) in board.engines(want) {
        let free = engine.with_free(want.devices, want.memory_bytes);
        let free = free.map(|(_, id)| id).filter(|id| board.able(id, want));
        let free = free.filter(|id| board.available_on(id, want) >= want.devices);
        ready.insert(place, free.take(count).collect());
    }
    for (end_ms, job) in state.ends.iter().take(ENDS_MAX) {
        let Some((job, lease)) = state
            .jobs
            .get(job)
            .and_then(|job| Some((job, job.lease()?)))
        else {
            continue;
        };
        for rank in &lease.ranks {
            if !board.able(&rank.worker, want) {
                continue;
            }
            let before = board.available_on(&rank.worker, want);
            let freed = freed.entry(&rank.worker).or_default();
            let was_ready = before + *freed >= want.devices;
            *freed += job.demand.devices;
            let Some(worker) = state.fleet.workers.get(&rank.worker) else {
                continue;
            };
            if !was_ready && before + *freed >= want.devices {
                ready.entry(worker.engine).or_default().push(&rank.worker);
            }
        }
        if let Some(workers) = ready.values().find(|workers| workers.len() >= count) {
            let then = |id: &&WorkerId| {
                let more = freed.get(*id).copied().unwrap_or(0);
                ((*id).clone(), board.available_on(id, want) + more)
            };
            return Some(Start {
                from_ms: Some((*end_ms).max(board.now.monotonic_ms)),
                workers: workers.iter().take(count).map(then).collect(),
            });
        }
    }
    None
}

fn unknown_start(board: &Board<'_>, want: Want, count: usize) -> Option<Start> {
    let with_most = board.engines(want).filter_map(|(_, engine)| {
        let fullest_last = engine.with_free(1, want.memory_bytes).rev();
        let free = fullest_last.filter(|(_, id)| board.able(id, want));
        let free: Vec<_> = free.take(count).collect();
        let total: u32 = free.iter().map(|(free, _)| free).sum();
        (total > 0).then_some((total, free))
    });
    let (_, free) = with_most.max_by_key(|(total, _)| *total)?;
    let workers = free.into_iter().map(|(free, id)| (id.clone(), free));
    Some(Start {
        from_ms: None,
        workers: workers.collect(),
    })
}
