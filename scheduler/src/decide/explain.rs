//! Why a job waits, and when it will start. What decides is asked, not a copy of its rules.

use stoker_domain::JobId;
use stoker_domain::explain::{Blocker, Explanation, JobsAhead, WhatIf};

use super::dispatch::may_move;
use super::job::{Job, Phase};
use super::order::{Ahead, Allowed, Order};
use super::placement::{Board, Want};
use super::{Now, State, forecast, millis};
use crate::Config;

/// Jobs ahead that are counted.
const AHEAD_MAX: usize = 20_000;

/// What is to be said of a job; `None` when it neither waits nor runs in this pool. With `what_if`:
/// what would be to be said.
#[must_use]
pub fn explain(
    state: &State,
    config: &Config,
    id: JobId,
    now: Now,
    what_if: Option<&WhatIf>,
) -> Option<Explanation> {
    if let Some(what_if) = what_if {
        return explain(&changed(state, id, now, what_if), config, id, now, None);
    }
    let job = state.jobs.get(&id)?;
    if let Some(lease) = job.lease() {
        let rule = match lease.letting_go {
            Some(_) => "It has a place, and is letting go of it.",
            None => "It has a place.",
        };
        return Some(Explanation {
            job: id,
            position: None,
            ahead: None,
            blockers: Vec::new(),
            rule: rule.to_owned(),
            start: None,
        });
    }
    let ahead = Order::new(state, now.monotonic_ms).ahead_of(id, AHEAD_MAX);
    let blockers = blockers(state, config, id, job, now, ahead);
    let jobs_ahead = ahead.map(|ahead| JobsAhead {
        higher_class: count(ahead.higher_class),
        own: count(ahead.own),
        other_tenants: count(ahead.others),
    });
    Some(Explanation {
        job: id,
        position: ahead.map(|ahead| count(ahead.jobs()) + 1),
        ahead: jobs_ahead,
        rule: rule(blockers.first()),
        start: may_start(&blockers)
            .then(|| forecast::forecast(state, config, id, now))
            .flatten(),
        blockers,
    })
}

/// Whether it will start as things are: not when the pool couldn't hold it.
fn may_start(blockers: &[Blocker]) -> bool {
    !blockers.iter().any(|blocker| {
        matches!(
            blocker,
            Blocker::NoWorker {} | Blocker::NotEnoughMemory { .. } | Blocker::TooFewWorkers { .. }
        )
    })
}

fn changed(state: &State, id: JobId, now: Now, what_if: &WhatIf) -> State {
    let mut state = state.clone();
    if let Some(settings) = &what_if.settings {
        state.observe_settings(settings.clone(), now);
    }
    let queued = state.jobs.get(&id).is_some_and(|job| job.lease().is_none());
    if queued && let Some(mut job) = state.unlink(id) {
        job.priority = what_if.priority.unwrap_or(job.priority);
        job.demand.devices = what_if.devices.unwrap_or(job.demand.devices);
        if let Some(workers) = what_if.workers {
            job.demand.workers_min = workers;
            job.demand.workers_max = workers;
        }
        state.link(id, job);
    }
    state
}

fn blockers(
    state: &State,
    config: &Config,
    id: JobId,
    job: &Job,
    now: Now,
    ahead: Option<Ahead>,
) -> Vec<Blocker> {
    let mut blockers = Vec::new();
    if let Phase::Queued {
        not_before: Some(until),
        ..
    } = job.phase
        && until > now.wall
    {
        blockers.push(Blocker::RetryTime { until });
    }
    let board = Board::new(state, config, now);
    let want = board.want(id, job, may_move(job, config, now));
    let least = job.demand.workers_min.max(1);
    blockers.extend(limit(state, job, &Order::new(state, now.monotonic_ms)));
    if board.ever_fits(want, least) {
        let held = state.holds.get(&id);
        if held.is_some_and(|hold| hold.until_ms > now.monotonic_ms) {
            let jobs = count(state.letting_go.len());
            blockers.push(Blocker::RoomIsMade { jobs });
        }
        blockers.extend(ahead.into_iter().flat_map(line));
        if board.fit(want, least).is_none() {
            blockers.push(Blocker::NoFreeDevices {
                needed: job.devices_on(least),
                free: u32::try_from(board.free).unwrap_or(u32::MAX),
                held: board.withheld(id),
            });
        }
    } else {
        blockers.push(misfit(state, config, &board, want, job));
    }
    blockers
}

/// The tenant's limit that keeps the job from starting.
fn limit(state: &State, job: &Job, order: &Order<'_>) -> Option<Blocker> {
    let tenant = state.tenants.get(job.tenant)?;
    match order.allowed_workers(job) {
        Allowed::Workers(_) => None,
        Allowed::JobsMax => Some(Blocker::JobsMax {
            jobs_max: tenant.share.jobs_max?,
        }),
        Allowed::DevicesMax { .. } => Some(Blocker::DevicesMax {
            devices_max: tenant.share.devices_max?,
            in_use: tenant.devices,
            needed: job.devices_on(job.demand.workers_min.max(1)),
        }),
    }
}

/// Who comes first.
fn line(ahead: Ahead) -> impl Iterator<Item = Blocker> {
    let higher = (ahead.higher_class > 0).then(|| Blocker::HigherClass {
        jobs: count(ahead.higher_class),
    });
    let others = (ahead.others > 0).then(|| Blocker::OtherTenants {
        jobs: count(ahead.others),
    });
    let own = (ahead.own > 0).then(|| Blocker::OwnJobs {
        jobs: count(ahead.own),
    });
    [higher, others, own].into_iter().flatten()
}

/// Why the pool couldn't hold the job if all of it were free.
fn misfit(state: &State, config: &Config, board: &Board<'_>, want: Want, job: &Job) -> Blocker {
    let least = job.demand.workers_min.max(1);
    let anywhere = Want {
        engine: None,
        ..want
    };
    let largest = board
        .engines(anywhere)
        .filter_map(|(_, engine)| engine.largest());
    let Some(largest_bytes) = largest.map(|(_, memory)| memory).max() else {
        return Blocker::NoWorker {};
    };
    let began_on = job.engine.and_then(|engine| state.fleet.engine_of(engine));
    if let (Some(engine), Phase::Queued { since, .. }) = (began_on, &job.phase)
        && board.ever_fits(anywhere, least)
    {
        return Blocker::NoWorkerOfEngine {
            engine: engine.identity.clone(),
            moves_at: since.plus_millis(millis(config.upgrade_grace)),
        };
    }
    if largest_bytes < want.memory_bytes {
        return Blocker::NotEnoughMemory {
            needed_bytes: want.memory_bytes,
            largest_bytes,
        };
    }
    let able =
        |(_, engine): (u32, &super::fleet::Engine)| engine.able(want.devices, want.memory_bytes);
    Blocker::TooFewWorkers {
        workers: least,
        devices: want.devices,
        there_are: board.engines(want).map(able).max().unwrap_or(0),
    }
}

/// The rule behind a blocker.
fn rule(blocker: Option<&Blocker>) -> String {
    match blocker {
        None => "Nothing keeps it: it starts with the next decision.".to_owned(),
        Some(Blocker::RetryTime { until }) => {
            format!("After a failed attempt it waits until {until}, as its retry rule says.")
        }
        Some(Blocker::JobsMax { jobs_max }) => {
            format!("Its tenant may have {jobs_max} jobs on devices at a time, and has them.")
        }
        Some(Blocker::DevicesMax {
            devices_max,
            in_use,
            needed,
        }) => format!(
            "Its tenant may have {devices_max} devices at a time and has {in_use}; the job needs {needed}."
        ),
        Some(Blocker::NoWorker {}) => "No worker of the pool takes jobs.".to_owned(),
        Some(Blocker::NotEnoughMemory {
            needed_bytes,
            largest_bytes,
        }) => format!(
            "It needs {needed_bytes} bytes of a device, and the largest of the pool has {largest_bytes}."
        ),
        Some(Blocker::TooFewWorkers {
            workers,
            devices,
            there_are,
        }) => format!(
            "It needs {workers} workers with {devices} devices each; the pool has {there_are} of that size."
        ),
        Some(Blocker::NoWorkerOfEngine { engine, moves_at }) => format!(
            "It began on engine {} and {}, and no worker has that; from {moves_at} on it may go on elsewhere.",
            engine.build, engine.device_class
        ),
        Some(Blocker::NoFreeDevices { needed, free, held }) => {
            let needs = match needed {
                1 => "It needs a device".to_owned(),
                needed => format!("It needs {needed} devices"),
            };
            match (free.saturating_sub(*held), held) {
                (0, 0) => format!("{needs}, and none is free."),
                (0, held) => format!("{needs}, and the {held} that are free are kept for others."),
                (free, _) if free < *needed => format!("{needs}, and {free} are free."),
                (free, _) => {
                    format!("{needs}, and the {free} that are free can't hold it together.")
                }
            }
        }
        Some(Blocker::HigherClass { jobs }) => {
            format!("{jobs} jobs of a higher class start first.")
        }
        Some(Blocker::OtherTenants { jobs }) => format!(
            "{jobs} jobs start first whose tenants have used less for their weight, or are within what is their own."
        ),
        Some(Blocker::OwnJobs { jobs }) => format!("{jobs} older jobs of its tenant start first."),
        Some(Blocker::RoomIsMade { .. }) => {
            "Others save a checkpoint and let go, to make room for it.".to_owned()
        }
    }
}

fn count(jobs: usize) -> u64 {
    u64::try_from(jobs).unwrap_or(u64::MAX)
}
