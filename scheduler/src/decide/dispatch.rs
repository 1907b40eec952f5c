//! Who starts now, and who makes room.

use std::collections::BTreeSet;

use stoker_domain::job::Holder;
use stoker_domain::{JobId, WorkerId};

use super::job::{Job, Phase};
use super::order::{Allowed, Order};
use super::placement::{Board, Want};
use super::preemption::{Claim, Plan};
use super::{Action, Now, State, millis, preemption, reservation};
use crate::Config;

/// Jobs for which room is sought in one decision.
const SOUGHT_MAX: u32 = 4;

/// What a job's turn comes to.
enum Verdict {
    Started,
    /// None of its tenant's jobs starts now.
    TenantCapped,
    Waits,
}

/// One decision about queued jobs.
struct Round<'a> {
    state: &'a State,
    config: &'a Config,
    now: Now,
    board: Board<'a>,
    order: Order<'a>,
    /// How many more jobs room may be sought for.
    seeks: u32,
    /// Preemptions that are left of the pool's budget.
    budget: usize,
    /// Demands without a limit of time that no worker has room for.
    hopeless: BTreeSet<(Option<u32>, u64, u32, u32)>,
    actions: Vec<Action>,
}

/// Starts what can start, up to `Config.dispatches_max`, and makes room for what may ask for it.
pub(super) fn dispatch(state: &State, config: &Config, now: Now) -> Vec<Action> {
    let budget = config.preemptions_max.saturating_sub(state.preempted);
    let may_preempt = budget > 0 && preemption::possible(state);
    let anything = state.queue.ripe() > 0 && (state.fleet.free > 0 || may_preempt);
    if !anything {
        return Vec::new();
    }
    let mut round = Round {
        state,
        config,
        now,
        board: Board::new(state, config, now),
        order: Order::new(state, now.monotonic_ms),
        seeks: if may_preempt { SOUGHT_MAX } else { 0 },
        budget: usize::try_from(budget).unwrap_or(usize::MAX),
        hopeless: BTreeSet::new(),
        actions: Vec::new(),
    };
    round.start_heirs();
    round.start_others();
    round.actions
}

/// Whether the job may go on with another engine than the one that it began on.
pub(super) fn may_move(job: &Job, config: &Config, now: Now) -> bool {
    match &job.phase {
        Phase::Queued { since, .. } => {
            now.wall.millis_since(*since) >= millis(config.upgrade_grace)
        }
        Phase::Leased(_) => false,
    }
}

impl Round<'_> {
    /// Those for whom places were freed have them.
    fn start_heirs(&mut self) {
        for (heir, hold) in &self.state.holds {
            let Some(job) = self
                .state
                .jobs
                .get(heir)
                .filter(|job| job.lease().is_none())
            else {
                continue;
            };
            if hold.until_ms <= self.now.monotonic_ms {
                continue;
            }
            let Allowed::Workers(most) = self.order.allowed_workers(job) else {
                continue;
            };
            let want = self
                .board
                .want(*heir, job, may_move(job, self.config, self.now));
            let held = u32::try_from(hold.workers.len()).unwrap_or(u32::MAX);
            if let Some(workers) = self.board.fit(want, held.min(most)) {
                self.start(*heir, job, want, &workers);
            }
        }
    }

    fn start_others(&mut self) {
        let (mut looked_at, mut started) = (0, 0);
        while looked_at < self.config.backfill_depth && started < self.config.dispatches_max {
            if self.board.free == 0 && self.seeks == 0 {
                break;
            }
            let Some(turn) = self.order.next() else { break };
            let id = turn.job();
            let Some(job) = self.state.jobs.get(&id) else {
                self.order.go_on(turn, 1);
                continue;
            };
            match self.consider(id, job) {
                Verdict::Started => {
                    started += 1;
                    self.order.go_on(turn, 0);
                }
                Verdict::TenantCapped => self.order.cap(job.tenant),
                Verdict::Waits => {
                    looked_at += 1;
                    self.order.go_on(turn, 1);
                }
            }
        }
    }

    fn consider(&mut self, id: JobId, job: &Job) -> Verdict {
        if self.is_started(id) {
            return Verdict::Waits;
        }
        let most = match self.order.allowed_workers(job) {
            Allowed::Workers(most) => most,
            Allowed::JobsMax | Allowed::DevicesMax { ever: true } => return Verdict::TenantCapped,
            Allowed::DevicesMax { ever: false } => return Verdict::Waits,
        };
        let want = self
            .board
            .want(id, job, may_move(job, self.config, self.now));
        let least = job.demand.workers_min.max(1);
        let demand = (want.engine, want.memory_bytes, want.devices, least);
        let hopeless = job.max_ms.is_none() && self.hopeless.contains(&demand);
        if !hopeless {
            for count in job.worker_counts().filter(|count| *count <= most) {
                let Some(workers) = self.board.fit(want, count) else {
                    continue;
                };
                if self.better_later(job, want, count, most) {
                    break;
                }
                self.start(id, job, want, &workers);
                return Verdict::Started;
            }
        }
        let held = self.state.holds.get(&id);
        if held.is_some_and(|hold| hold.until_ms > self.now.monotonic_ms) {
            return Verdict::Waits;
        }
        if !self.make_room(id, job, want, least) && !hopeless {
            self.reserve(want, least);
            // Nothing is given back in a decision: who wants the same finds no more than this one,
            // unless it ends in time for a reservation.
            if job.max_ms.is_none() {
                self.hopeless.insert(demand);
            }
        }
        Verdict::Waits
    }

    fn is_started(&self, id: JobId) -> bool {
        let started =
            |action: &Action| matches!(action, Action::Dispatch { job, .. } if *job == id);
        self.state.holds.contains_key(&id) && self.actions.iter().any(started)
    }

    /// Whether the job would end sooner on more workers, though it waits for them.
    fn better_later(&self, job: &Job, want: Want, count: u32, most: u32) -> bool {
        let more = job
            .worker_counts()
            .filter(|more| *more > count && *more <= most);
        let Some(more) = more.last() else {
            return false;
        };
        if !self.board.ever_fits(want, more) {
            return false;
        }
        let on = |count: u32| job.expected_ms(usize::try_from(count).unwrap_or(usize::MAX));
        let start = reservation::start(&self.board, want, more).and_then(|start| start.from_ms);
        let (Some(start_ms), Some(now), Some(later)) = (start, on(count), on(more)) else {
            return false;
        };
        start_ms.saturating_sub(self.now.monotonic_ms) + later < now
    }

    fn start(&mut self, id: JobId, job: &Job, want: Want, workers: &[&WorkerId]) {
        let holders: Vec<Holder> = workers
            .iter()
            .filter_map(|id| holder(self.state, id))
            .collect();
        self.board.take(want, workers);
        let count = u32::try_from(workers.len()).unwrap_or(u32::MAX);
        self.order.gave(id, job, count);
        self.actions.push(Action::Dispatch { job: id, holders });
    }

    /// Asks others to let go, if the job may ask for that and fits then.
    fn make_room(&mut self, id: JobId, job: &Job, want: Want, workers: u32) -> bool {
        if self.seeks == 0 || !self.board.ever_fits(want, workers) {
            return false;
        }
        let claim = Claim {
            id,
            tenant: job.tenant,
            priority: job.priority,
            entitled: self.order.is_entitled(id, job),
        };
        self.seeks -= 1;
        let Some(plan) = preemption::plan(&self.board, want, workers, claim, self.budget) else {
            return false;
        };
        self.order.promise(job, workers);
        self.carry_out(plan, claim, want);
        true
    }

    fn carry_out(&mut self, plan: Plan, claim: Claim, want: Want) {
        let why = if claim.entitled {
            "a tenant takes back devices that are its own"
        } else {
            "a job of a higher class needs the place"
        };
        self.budget = self.budget.saturating_sub(plan.victims.len());
        self.board.hold(claim.id, &plan.workers, want.devices);
        self.board.going.extend(&plan.victims);
        let hold_ms = millis(self.config.hold);
        let preempts = preempts(self.state, &plan.victims, why);
        self.actions.push(Action::Hold {
            job: claim.id,
            workers: plan.workers,
            until_ms: self.now.monotonic_ms.saturating_add(hold_ms),
            victims: plan.victims,
        });
        self.actions.extend(preempts);
    }

    /// The first that doesn't fit gets a reservation.
    fn reserve(&mut self, want: Want, workers: u32) {
        if self.board.free == 0
            || self.board.has_reservation()
            || !self.board.ever_fits(want, workers)
        {
            return;
        }
        if let Some(start) = reservation::start(&self.board, want, workers) {
            self.board.reserve(want, start.from_ms, start.workers);
        }
    }
}

fn holder(state: &State, id: &WorkerId) -> Option<Holder> {
    let worker = state.fleet.workers.get(id)?;
    Some(Holder {
        worker: id.clone(),
        incarnation: worker.incarnation.clone(),
        engine: state.fleet.engine_of(worker.engine)?.identity.clone(),
        price_per_device_hour: state.tenants.settings.price_per_device_hour,
    })
}

/// Asks these runs to let go.
pub(super) fn preempts(state: &State, victims: &[JobId], why: &str) -> Vec<Action> {
    let token = |id: &JobId| Some(state.jobs.get(id)?.lease()?.token);
    let preempt = |id: &JobId| {
        token(id).map(|token| Action::Preempt {
            job: *id,
            token,
            reason: why.to_owned(),
        })
    };
    victims.iter().filter_map(preempt).collect()
}
