//! The rules, each by a test that is named after what it promises.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stoker_domain::explain::{Blocker, WhatIf};
use stoker_domain::job::{Demand, EngineIdentity, Inputs, JobRecord, NewJob, Transition};
use stoker_domain::pool::{PoolSettings, Share};
use stoker_domain::spec::{Format, JobSpec, Priority};
use stoker_domain::time::Millis;
use stoker_domain::worker::{Standing, WorkerRecord};

use super::*;

/// A pool whose store is a list.
struct Pool {
    state: State,
    config: Config,
    jobs: BTreeMap<JobId, JobRecord>,
    now_ms: u64,
    count: u32,
}

fn share(devices: u32, devices_max: Option<u32>, jobs_max: Option<u32>) -> Share {
    Share {
        weight: 1,
        devices,
        devices_max,
        jobs_max,
    }
}

fn one(devices: u32) -> Demand {
    Demand {
        devices,
        ..Demand::default()
    }
}

impl Pool {
    /// `workers`: devices of each, and its rack.
    fn new(workers: &[(u32, &str)], tenants: &[(&str, Share)]) -> Self {
        let mut pool = Self {
            state: State::default(),
            config: Config::default(),
            jobs: BTreeMap::new(),
            now_ms: 1_000_000,
            count: 0,
        };
        let tenants = tenants
            .iter()
            .map(|(id, share)| (id.parse().unwrap(), share.clone()));
        let settings = PoolSettings {
            min_run_time: Millis(60_000),
            tenants: tenants.collect(),
            ..PoolSettings::default()
        };
        pool.state.observe_settings(settings, pool.now());
        let worker = |(number, (slots, rack)): (usize, &(u32, &str))| WorkerRecord {
            version: 1,
            id: format!("w{number}").parse().unwrap(),
            pool: "default".parse().unwrap(),
            incarnation: "1".to_owned(),
            engine: EngineIdentity {
                build: "b".to_owned(),
                device_class: "cpu".to_owned(),
            },
            slots: *slots,
            memory_bytes: 100,
            place: vec![(*rack).to_owned(), format!("w{number}")],
            draining: false,
            beats: 0,
            registered_at: Timestamp::default(),
            profile: None,
        };
        let workers: Vec<WorkerRecord> = workers.iter().enumerate().map(worker).collect();
        let now = pool.now();
        pool.state.reconcile(&[], &[], &workers, 3_000, now);
        pool
    }

    fn now(&self) -> Now {
        let wall = i64::try_from(self.now_ms).unwrap();
        Now {
            wall: Timestamp::from_millis(wall),
            monotonic_ms: self.now_ms,
        }
    }

    fn submit(&mut self, tenant: &str, priority: Priority, demand: Demand) -> JobId {
        self.submit_for(tenant, priority, demand, None)
    }

    fn submit_for(
        &mut self,
        tenant: &str,
        priority: Priority,
        demand: Demand,
        max_ms: Option<u64>,
    ) -> JobId {
        let text = "name = \"j\"\ndata = { dataset = \"d\", target = \"y\" }\nmodel = { family = \"mlp\" }\n\
                    train = { epochs = 1, batch_size = 8, loss = \"mse\" }";
        let mut spec = JobSpec {
            priority,
            ..JobSpec::parse(text, Format::Toml).unwrap()
        };
        spec.resources.max_time = max_ms.map(Millis);
        self.count += 1;
        let record = JobRecord::create(NewJob {
            id: format!("job-{:032x}", self.count).parse().unwrap(),
            tenant: tenant.parse().unwrap(),
            spec,
            inputs: Inputs::default(),
            demand,
            replay_of: None,
            created_at: self.now().wall,
        });
        self.put(record.record.clone());
        record.record.id
    }

    fn put(&mut self, record: JobRecord) {
        self.state.observe_job(&record, self.now());
        self.jobs.insert(record.id, record);
    }

    fn apply(&mut self, id: JobId, what: Transition) {
        let record = self.jobs[&id].apply(what, self.now().wall).unwrap().record;
        self.put(record);
    }

    /// Decides until nothing is left, and starts what was given away; who started, on which workers,
    /// and who was preempted.
    fn act(&mut self) -> (Vec<(JobId, Vec<String>)>, Vec<JobId>) {
        let (mut started, mut preempted) = (Vec::new(), Vec::new());
        for round in 0.. {
            assert!(round < 50, "it settles");
            let actions = decide(&self.state, &self.config, self.now());
            if actions.is_empty() {
                break;
            }
            for action in actions {
                match action {
                    Action::Dispatch { job, holders } => {
                        self.apply(job, Transition::Dispatch(holders[0].clone()));
                        let token = self.jobs[&job].token;
                        self.apply(job, Transition::Start { token });
                        let ranks: Vec<_> = holders
                            .iter()
                            .map(|h| (h.worker.clone(), h.incarnation.clone()))
                            .collect();
                        self.state.observe_ranks(job, token, &ranks);
                        started.push((job, ranks.iter().map(|(id, _)| id.to_string()).collect()));
                    }
                    Action::Hold {
                        job,
                        workers,
                        until_ms,
                        victims,
                    } => {
                        self.state.observe_hold(job, workers, &victims, until_ms);
                    }
                    Action::Preempt { job, token, reason } => {
                        self.apply(job, Transition::Preempt { token, reason });
                        preempted.push(job);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        (started, preempted)
    }

    fn started(&mut self) -> Vec<JobId> {
        self.act().0.into_iter().map(|(job, _)| job).collect()
    }

    fn let_go(&mut self, id: JobId) {
        let token = self.jobs[&id].token;
        self.apply(id, Transition::Release { token });
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now();
        self.state.pass(now);
    }

    fn blockers(&self, id: JobId) -> Vec<Blocker> {
        explain(&self.state, &self.config, id, self.now(), None)
            .unwrap()
            .blockers
    }
}

use Priority::{High, Low, Normal};

#[test]
fn a_tenant_that_uses_less_for_its_weight_comes_first() {
    let weighs_two = Share {
        weight: 2,
        ..Share::default()
    };
    let mut pool = Pool::new(&[(6, "r")], &[("b", weighs_two)]);
    let a: Vec<JobId> = (0..6).map(|_| pool.submit("a", Normal, one(1))).collect();
    let b: Vec<JobId> = (0..6).map(|_| pool.submit("b", Normal, one(1))).collect();
    let started = pool.started();
    assert_eq!(started.iter().filter(|id| a.contains(id)).count(), 2);
    assert_eq!(started.iter().filter(|id| b.contains(id)).count(), 4);
}

#[test]
fn use_of_the_past_counts_less_with_time_and_outlives_the_scheduler() {
    let mut pool = Pool::new(&[(1, "r")], &[]);
    let first = pool.submit("a", Normal, one(1));
    assert_eq!(pool.started(), [first]);
    pool.pass(3_600_000);
    pool.let_go(first);
    pool.apply(first, Transition::Cancel);
    let snapshot = pool.state.usage(pool.now());
    let used = |snapshot: &UsageSnapshot| snapshot.tenants.values().copied().sum::<f64>();
    assert!(
        (used(&snapshot) / 3_600_000.0 - 1.0).abs() < 0.03,
        "{snapshot:?}"
    );
    let text = serde_json::to_string(&snapshot).unwrap();
    let snapshot: UsageSnapshot = serde_json::from_str(&text).unwrap();
    let mut next = State::default();
    pool.now_ms += 24 * 3_600_000;
    next.restore_usage(&snapshot, pool.now());
    let half = used(&next.usage(pool.now())) / used(&snapshot);
    assert!((half - 0.5).abs() < 0.01, "{half}");
}

#[test]
fn limits_of_a_tenant_make_its_jobs_wait_and_nobody_elses() {
    let mut pool = Pool::new(
        &[(8, "r")],
        &[
            ("a", share(0, Some(2), None)),
            ("b", share(0, None, Some(1))),
        ],
    );
    let ids: Vec<JobId> = ["a", "a", "a", "b", "b", "c"]
        .map(|tenant| pool.submit(tenant, Normal, one(1)))
        .into();
    let mut started = pool.started();
    started.sort();
    assert_eq!(started, [ids[0], ids[1], ids[3], ids[5]]);
    assert!(matches!(
        pool.blockers(ids[2])[0],
        Blocker::DevicesMax {
            devices_max: 2,
            in_use: 2,
            needed: 1
        }
    ));
    assert!(matches!(
        pool.blockers(ids[4])[0],
        Blocker::JobsMax { jobs_max: 1 }
    ));
}

#[test]
fn a_tenant_takes_back_its_own_from_who_borrowed_it_youngest_first() {
    let mut pool = Pool::new(
        &[(4, "r")],
        &[("a", share(2, None, None)), ("b", share(1, None, None))],
    );
    let mut borrowers = Vec::new();
    for _ in 0..4 {
        borrowers.push(pool.submit("b", High, one(1)));
        pool.act();
        pool.pass(1_000);
    }
    let own: Vec<JobId> = (0..3).map(|_| pool.submit("a", Low, one(1))).collect();
    assert!(
        pool.act().1.is_empty(),
        "a run keeps its place for its least time"
    );
    pool.pass(60_000);
    let (_, mut preempted) = pool.act();
    preempted.sort();
    assert_eq!(
        preempted,
        borrowers[2..],
        "two are its own; the third would be borrowed"
    );
    assert!(matches!(
        pool.blockers(own[0])[0],
        Blocker::RoomIsMade { jobs: 2 }
    ));
    preempted.into_iter().for_each(|id| pool.let_go(id));
    assert_eq!(
        pool.started(),
        own[..2],
        "what was freed is theirs for whom it was"
    );
    pool.pass(600_000);
    assert!(pool.act().1.is_empty(), "and nobody takes it again");
}

#[test]
fn a_higher_class_takes_the_place_of_a_lower_once() {
    let mut pool = Pool::new(&[(2, "r")], &[]);
    let low = pool.submit("a", Low, one(2));
    pool.act();
    pool.pass(61_000);
    let big = pool.submit("b", High, one(4));
    assert!(pool.act().1.is_empty(), "it wouldn't fit anyway");
    let high = pool.submit("b", High, one(1));
    assert_eq!(pool.act().1, [low]);
    let other = pool.submit("c", High, one(2));
    pool.let_go(low);
    assert_eq!(pool.started(), [high], "the place is kept for it");
    pool.pass(3_600_000);
    assert!(pool.act().1.is_empty());
    assert!(matches!(
        pool.blockers(big)[0],
        Blocker::TooFewWorkers { there_are: 0, .. }
    ));
    assert!(!pool.blockers(other).is_empty());
}

#[test]
fn places_that_were_freed_are_kept_for_a_time_only() {
    let mut pool = Pool::new(&[(1, "r")], &[]);
    let low = pool.submit("a", Low, one(1));
    pool.act();
    pool.pass(61_000);
    let high = pool.submit("b", High, one(1));
    assert_eq!(pool.act().1, [low]);
    pool.apply(high, Transition::Pause);
    pool.let_go(low);
    assert_eq!(pool.started(), [low], "its heir is gone");
}

#[test]
fn what_is_a_tenants_own_yields_to_a_higher_class_within_its_own_alone() {
    for (own, expected) in [(0, 0), (1, 1)] {
        let mut pool = Pool::new(
            &[(1, "r")],
            &[("a", share(1, None, None)), ("b", share(own, None, None))],
        );
        pool.submit("a", Low, one(1));
        pool.act();
        pool.pass(61_000);
        pool.submit("b", High, one(1));
        assert_eq!(pool.act().1.len(), expected, "b owns {own}");
    }
}

#[test]
fn no_more_are_preempted_at_a_time_than_the_budget_says() {
    let mut pool = Pool::new(&[(8, "r")], &[]);
    pool.config.preemptions_max = 3;
    (0..8).for_each(|_| drop(pool.submit("a", Low, one(1)).to_string()));
    pool.act();
    pool.pass(61_000);
    pool.submit("b", High, one(8));
    assert!(pool.act().1.is_empty(), "eight would have to go");
    (0..8).for_each(|_| drop(pool.submit("b", High, one(1)).to_string()));
    assert_eq!(pool.act().1.len(), 3);
}

#[test]
fn a_gang_gets_all_its_workers_near_each_other_or_none() {
    let gang = |workers_min, workers_max| Demand {
        workers_min,
        workers_max,
        devices: 2,
        ..Demand::default()
    };
    let racks = [(2, "r0"), (2, "r1"), (4, "r1"), (2, "r2"), (2, "r2")];
    let mut pool = Pool::new(&racks, &[]);
    let two = pool.submit("a", Normal, gang(2, 2));
    assert_eq!(
        pool.act().0,
        [(two, vec!["w3".to_owned(), "w4".to_owned()])]
    );
    let four = pool.submit("a", Normal, gang(4, 4));
    assert!(pool.act().0.is_empty());
    let single = pool.submit("a", Normal, gang(1, 1));
    let kept = "the gang's workers are kept for it, but not what it leaves of them";
    assert_eq!(pool.act().0, [(single, vec!["w2".to_owned()])], "{kept}");
    pool.apply(four, Transition::Cancel);
    let elastic = pool.submit("a", Normal, gang(1, 8));
    let near = vec!["w1".to_owned(), "w2".to_owned()];
    assert_eq!(
        pool.act().0,
        [(elastic, near)],
        "the largest power of two that fits"
    );
}

#[test]
fn a_small_job_goes_where_the_least_is_left_over() {
    let mut pool = Pool::new(&[(8, "r"), (2, "r"), (4, "r")], &[]);
    pool.submit("a", Normal, one(2));
    assert_eq!(pool.act().0[0].1, ["w1"]);
}

#[test]
fn who_ends_in_time_goes_before_a_reservation_and_nobody_else() {
    let mut pool = Pool::new(&[(2, "r")], &[]);
    let first = pool.submit_for("a", Normal, one(1), Some(100_000));
    assert_eq!(pool.started(), [first]);
    let whole = pool.submit("b", Normal, one(2));
    let unbounded = pool.submit("c", Normal, one(1));
    let long = pool.submit_for("d", Normal, one(1), Some(100_001));
    let short = pool.submit_for("e", Normal, one(1), Some(99_000));
    assert_eq!(pool.started(), [short]);
    for id in [whole, unbounded, long] {
        assert!(matches!(
            pool.blockers(id).last(),
            Some(Blocker::NoFreeDevices { .. }) | None
        ));
    }
}

#[test]
fn a_cordoned_worker_gets_nothing_and_a_drained_one_is_emptied() {
    let mut pool = Pool::new(&[(1, "r")], &[]);
    let first = pool.submit("a", Normal, one(1));
    pool.act();
    let order = |standing| BTreeMap::from([("w0".parse().unwrap(), standing)]);
    pool.state.observe_orders(order(Standing::Cordoned));
    assert_eq!(pool.act(), (vec![], vec![]));
    pool.state.observe_orders(order(Standing::Draining));
    assert_eq!(pool.act(), (vec![], vec![first]));
    pool.let_go(first);
    assert!(pool.started().is_empty());
    assert!(matches!(pool.blockers(first)[..], [Blocker::NoWorker {}]));
    pool.state.observe_orders(BTreeMap::new());
    assert_eq!(pool.started(), [first]);
}

#[test]
fn an_elastic_run_grows_when_nobody_waits() {
    let demand = Demand {
        workers_min: 1,
        workers_max: 2,
        devices: 1,
        ..Demand::default()
    };
    let mut pool = Pool::new(&[(1, "r"), (1, "r")], &[]);
    let other = pool.submit("a", Normal, one(1));
    pool.act();
    let elastic = pool.submit("a", Normal, demand);
    assert_eq!(pool.act().0[0].1.len(), 1);
    pool.pass(61_000);
    pool.apply(other, Transition::Cancel);
    assert_eq!(pool.act().1, [elastic]);
    pool.let_go(elastic);
    assert_eq!(pool.act().0[0].1.len(), 2);
    pool.pass(3_600_000);
    assert_eq!(pool.act(), (vec![], vec![]), "it has all it makes use of");
}

#[test]
fn a_job_is_told_what_keeps_it_and_what_would_change_that() {
    let mut pool = Pool::new(&[(1, "r")], &[]);
    let runs = pool.submit_for("a", Normal, one(1), Some(50_000));
    pool.act();
    let too_large = pool.submit(
        "a",
        Normal,
        Demand {
            memory_bytes: 101,
            ..Demand::default()
        },
    );
    let waits = pool.submit("b", Normal, one(1));
    let last = pool.submit_for("b", Low, one(1), Some(1_000));
    let said = |id, what_if: Option<&WhatIf>| {
        explain(&pool.state, &pool.config, id, pool.now(), what_if).unwrap()
    };
    assert_eq!(said(runs, None).position, None);
    let memory = Blocker::NotEnoughMemory {
        needed_bytes: 101,
        largest_bytes: 100,
    };
    assert_eq!(said(too_large, None).blockers, [memory]);
    let next = said(waits, None);
    assert_eq!(next.position, Some(1));
    let start = next.start.unwrap();
    assert_eq!(
        (start.earliest_ms, start.latest_ms),
        (50_000, 50_000),
        "it is known to the millisecond"
    );
    let low = said(last, None);
    assert!(
        low.position.unwrap() > 1 && low.start.is_none(),
        "nobody knows how long the one before takes"
    );
    let high = WhatIf {
        priority: Some(High),
        ..WhatIf::default()
    };
    assert_eq!(said(last, Some(&high)).position, Some(1));
    assert_eq!(pool.state.queued(), 3, "nothing was changed");
}

/// A job that preempts another, which has its checkpoint saved after `release_ms`.
fn preempt(pool: &mut Pool, release_ms: Option<u64>) -> JobId {
    let low = pool.submit("a", Low, one(1));
    pool.act();
    pool.pass(61_000);
    let high = pool.submit("b", High, one(1));
    assert_eq!(pool.act().1, [low]);
    if let Some(release_ms) = release_ms {
        pool.pass(release_ms);
        pool.let_go(low);
        pool.apply(low, Transition::Cancel);
        assert_eq!(pool.started(), [high]);
        pool.apply(high, Transition::Cancel);
    }
    high
}

#[test]
fn how_long_runs_take_to_let_go_is_learned_and_outlives_the_scheduler() {
    let start = |state: &State, pool: &Pool, id, now| {
        let found = explain(state, &pool.config, id, now, None).unwrap();
        found.start.unwrap()
    };
    let mut pool = Pool::new(&[(1, "r")], &[]);
    let id = preempt(&mut pool, None);
    let unseen = start(&pool.state, &pool, id, pool.now());
    assert!(
        unseen.earliest_ms < 5_000 && unseen.latest_ms > 20_000,
        "nothing is known of it: {unseen:?}"
    );
    let mut pool = Pool::new(&[(1, "r")], &[]);
    for second in 10..20 {
        preempt(&mut pool, Some(second * 1_000));
    }
    let id = preempt(&mut pool, None);
    let seen = start(&pool.state, &pool, id, pool.now());
    assert!(
        seen.earliest_ms >= 10_000 && seen.latest_ms <= 19_000 && seen.earliest_ms < seen.latest_ms,
        "as long as those before: {seen:?}"
    );
    pool.pass(15_000);
    let late = start(&pool.state, &pool, id, pool.now());
    assert!(late.latest_ms <= 4_000, "15 s of it are over: {late:?}");
    let mut next = State::default();
    next.restore_usage(&pool.state.usage(pool.now()), pool.now());
    assert_eq!(next.releases.sorted(), pool.state.releases.sorted());
}

#[test]
fn who_takes_over_knows_how_often_jobs_come() {
    let mut pool = Pool::new(&[(10, "r")], &[]);
    for _ in 0..20 {
        pool.pass(2_000);
        pool.submit("a", Normal, one(1));
        pool.act();
    }
    let jobs: Vec<JobRecord> = pool.jobs.values().cloned().collect();
    let mut next = State::default();
    next.reconcile(&jobs, &[], &[], 3_000, pool.now());
    for state in [&pool.state, &next] {
        let pause_ms = state.arrivals.pause_ms(pool.now_ms).unwrap();
        assert!((pause_ms - 2_000.0).abs() < 200.0, "{pause_ms}");
    }
}

proptest! {
    /// Whatever comes later: the first job that doesn't fit starts when it was said to, or before.
    #[test]
    fn a_reserved_gang_is_never_late(
        jobs in prop::collection::vec((1_u32..4, 1_u32..5, 1_u64..40), 1..60),
        early in prop::collection::vec(1_u64..100, 60),
    ) {
        let mut pool = Pool::new(&[(4, "r"), (4, "r"), (4, "s"), (4, "s")], &[]);
        let mut promised: Option<(JobId, u64)> = None;
        let mut ends: Vec<(u64, JobId)> = Vec::new();
        let mut jobs = jobs.into_iter().zip(early);
        for _ in 0..2_000 {
            pool.pass(500);
            let now_ms = pool.now_ms;
            let (over, left): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(end_ms, _)| *end_ms <= now_ms);
            ends = left;
            over.into_iter().for_each(|(_, id)| pool.apply(id, Transition::Cancel));
            if pool.now_ms.is_multiple_of(1_000) && let Some(((workers, devices, seconds), early)) = jobs.next() {
                let demand = Demand { workers_min: workers, workers_max: workers, devices, ..Demand::default() };
                let id = pool.submit_for("a", Normal, demand, Some(seconds * 1_000));
                pool.jobs.get_mut(&id).unwrap().revision = early;
                let record = pool.jobs[&id].clone();
                pool.put(record);
            }
            for (id, _) in pool.act().0 {
                let bound_ms = pool.jobs[&id].spec.resources.max_time.unwrap().0;
                // Many end before they must.
                let ran_ms = bound_ms * (pool.jobs[&id].revision % 100 + 1) / 100;
                ends.push((pool.now_ms + ran_ms, id));
            }
            let first = pool.state.queue.head(1, 0);
            promised = match (promised, first) {
                (Some((id, by_ms)), Some(first)) if id == first => {
                    prop_assert!(pool.now_ms <= by_ms + 500, "late by {} ms", pool.now_ms - by_ms);
                    Some((id, by_ms))
                }
                (_, Some(first)) => {
                    let board = placement::Board::new(&pool.state, &pool.config, pool.now());
                    let job = &pool.state.jobs[&first];
                    let want = board.want(first, job, false);
                    let start = reservation::start(&board, want, job.demand.workers_min);
                    start.and_then(|start| start.from_ms).map(|by_ms| (first, by_ms))
                }
                (_, None) => None,
            };
        }
    }
}
