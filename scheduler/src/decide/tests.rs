use std::collections::BTreeMap;

use proptest::prelude::*;
use stoker_domain::job::{Demand, EngineIdentity, Inputs, JobRecord, JobState, NewJob, Transition};
use stoker_domain::port::LeaseView;
use stoker_domain::spec::{Format, JobSpec, Priority};
use stoker_domain::worker::{Progress, WorkerRecord};

use super::*;

const GAP_MS: u64 = 3_000;

fn at(ms: u64) -> Now {
    Now {
        wall: Timestamp::from_millis(i64::try_from(ms).unwrap()),
        monotonic_ms: ms,
    }
}

fn job(priority: Priority) -> JobRecord {
    let text = "name = \"j\"\ndata = { dataset = \"d\", target = \"y\" }\nmodel = { family = \"mlp\" }\n\
                train = { epochs = 1, batch_size = 8, loss = \"mse\" }";
    let spec = JobSpec {
        priority,
        ..JobSpec::parse(text, Format::Toml).unwrap()
    };
    JobRecord::create(NewJob {
        id: JobId::generate(),
        tenant: "acme".parse().unwrap(),
        spec,
        inputs: Inputs::default(),
        demand: Demand::default(),
        replay_of: None,
        created_at: Timestamp::from_millis(0),
    })
    .record
}

fn worker(id: &str, incarnation: u64, beats: u64, slots: u32) -> WorkerRecord {
    WorkerRecord {
        version: 1,
        id: id.parse().unwrap(),
        pool: "default".parse().unwrap(),
        incarnation: incarnation.to_string(),
        engine: EngineIdentity {
            build: "b".to_owned(),
            device_class: "cpu".to_owned(),
        },
        slots,
        memory_bytes: 0,
        place: Vec::new(),
        draining: false,
        beats,
        registered_at: Timestamp::default(),
        profile: None,
    }
}

fn dispatched(actions: &[Action]) -> Vec<JobId> {
    let job = |action: &Action| match action {
        Action::Dispatch { job, .. } => Some(*job),
        _ => None,
    };
    actions.iter().filter_map(job).collect()
}

fn carry_out(record: &JobRecord, action: &Action, now: Now) -> JobRecord {
    let transition = match action {
        Action::Dispatch { holders, .. } => Transition::Dispatch(holders[0].clone()),
        Action::Preempt { token, reason, .. } => Transition::Preempt {
            token: *token,
            reason: reason.clone(),
        },
        Action::LoseLease { token, reason, .. } => Transition::LoseLease {
            token: *token,
            reason: reason.to_string(),
        },
        Action::Hold { .. } | Action::ForgetWorker { .. } => unreachable!("not about a job"),
    };
    record.apply(transition, now.wall).unwrap().record
}

#[test]
fn jobs_start_by_priority_then_age_and_never_more_than_there_are_slots() {
    let jobs = [
        job(Priority::Low),
        job(Priority::Normal),
        job(Priority::High),
        job(Priority::Normal),
    ];
    let mut state = State::default();
    state.reconcile(&jobs, &[], &[worker("a", 1, 1, 3)], GAP_MS, at(0));
    let order = dispatched(&decide(&state, &Config::default(), at(0)));
    assert_eq!(order, [jobs[2].id, jobs[1].id, jobs[3].id]);
}

#[test]
fn a_lease_is_lost_after_its_time_unrenewed_and_kept_while_renewed() {
    let config = Config::default();
    let mut state = State::default();
    let queued = job(Priority::Normal);
    state.reconcile(
        std::slice::from_ref(&queued),
        &[],
        &[worker("a", 1, 0, 1)],
        GAP_MS,
        at(0),
    );
    let actions = decide(&state, &config, at(0));
    let leased = carry_out(&queued, &actions[0], at(0));
    state.observe_job(&leased, at(0));
    for second in 1..=40_u64 {
        let renewals = second.min(20);
        let lease = LeaseView {
            job: leased.id,
            token: 1,
            renewals,
            progress: Progress::default(),
        };
        state.reconcile(
            std::slice::from_ref(&leased),
            &[lease],
            &[worker("a", 1, second, 1)],
            GAP_MS,
            at(second * 1_000),
        );
        let lost = !decide(&state, &config, at(second * 1_000)).is_empty();
        assert_eq!(
            lost,
            second >= 35,
            "last renewed at 20 s, so lost from 35 s on; now {second} s"
        );
    }
}

/// A control plane that couldn't see must not take its own blindness for a worker's death.
#[test]
fn time_in_which_the_store_was_away_counts_against_no_lease() {
    let config = Config::default();
    let mut state = State::default();
    let queued = job(Priority::Normal);
    let workers = |beats| [worker("a", 1, beats, 1)];
    state.reconcile(
        std::slice::from_ref(&queued),
        &[],
        &workers(0),
        GAP_MS,
        at(0),
    );
    let leased = carry_out(&queued, &decide(&state, &config, at(0))[0], at(0));
    state.observe_job(&leased, at(0));
    assert!(
        decide(&state, &config, at(600_000)).is_empty(),
        "nothing was seen for ten minutes"
    );
    state.reconcile(
        std::slice::from_ref(&leased),
        &[],
        &workers(0),
        GAP_MS,
        at(600_000),
    );
    assert!(
        decide(&state, &config, at(600_000)).is_empty(),
        "the first look says nothing about before"
    );
    for second in 601..615_u64 {
        state.reconcile(
            std::slice::from_ref(&leased),
            &[],
            &workers(0),
            GAP_MS,
            at(second * 1_000),
        );
        assert!(decide(&state, &config, at(second * 1_000)).is_empty());
    }
    state.reconcile(
        std::slice::from_ref(&leased),
        &[],
        &workers(0),
        GAP_MS,
        at(615_000),
    );
    assert!(matches!(
        decide(&state, &config, at(615_000))[0],
        Action::LoseLease {
            reason: Lost::Silent,
            ..
        }
    ));
}

#[test]
fn a_restarted_worker_has_lost_its_leases_at_once() {
    let config = Config::default();
    let mut state = State::default();
    let queued = job(Priority::Normal);
    state.reconcile(
        std::slice::from_ref(&queued),
        &[],
        &[worker("a", 1, 0, 1)],
        GAP_MS,
        at(0),
    );
    let leased = carry_out(&queued, &decide(&state, &config, at(0))[0], at(0));
    state.reconcile(
        std::slice::from_ref(&leased),
        &[],
        &[worker("a", 2, 0, 1)],
        GAP_MS,
        at(1_000),
    );
    let actions = decide(&state, &config, at(1_000));
    assert!(matches!(
        actions[..],
        [Action::LoseLease {
            token: 1,
            reason: Lost::Restarted,
            ..
        }]
    ));
}

#[test]
fn draining_and_silent_workers_get_nothing() {
    let config = Config::default();
    let queued = [job(Priority::Normal)];
    let draining = WorkerRecord {
        draining: true,
        ..worker("a", 1, 0, 1)
    };
    let mut state = State::default();
    state.reconcile(&queued, &[], &[draining], GAP_MS, at(0));
    assert!(dispatched(&decide(&state, &config, at(0))).is_empty());
    let mut state = State::default();
    for second in 0..=6 {
        state.reconcile(
            &queued,
            &[],
            &[worker("a", 1, 7, 1)],
            GAP_MS,
            at(second * 1_000),
        );
    }
    assert!(dispatched(&decide(&state, &config, at(6_000))).is_empty());
}

#[test]
fn a_job_waits_for_the_engine_it_began_on_and_then_moves() {
    let config = Config::default();
    let other = EngineIdentity {
        build: "older".to_owned(),
        device_class: "cpu".to_owned(),
    };
    let record = JobRecord {
        engine: Some(other),
        ..job(Priority::Normal)
    };
    let mut state = State::default();
    state.reconcile(&[record], &[], &[worker("a", 1, 0, 1)], GAP_MS, at(0));
    assert!(dispatched(&decide(&state, &config, at(0))).is_empty());
    let later = Now {
        wall: at(600_000).wall,
        monotonic_ms: 1,
    };
    assert_eq!(dispatched(&decide(&state, &config, later)).len(), 1);
}

#[derive(Debug, Clone)]
enum Fault {
    Submit(u8),
    Work,
    Restart(u8),
    Silence(u8),
    Blind(u8),
    Finish,
    Takeover,
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => (0_u8..3).prop_map(Fault::Submit),
        6 => Just(Fault::Work),
        1 => (0_u8..3).prop_map(Fault::Restart),
        1 => (0_u8..3).prop_map(Fault::Silence),
        1 => (1_u8..60).prop_map(Fault::Blind),
        3 => Just(Fault::Finish),
        1 => Just(Fault::Takeover),
    ]
}

proptest! {
    /// Seeded events through the decisions, with crashes, silence, blindness and take-overs: no
    /// worker has more jobs than slots, a live worker seen by all never loses a lease, and
    /// everything ends once the faults do.
    #[test]
    fn no_lease_is_doubled_and_no_job_is_lost(faults in prop::collection::vec(any_fault(), 1..80)) {
        let config = Config::default();
        let mut state = State::default();
        let mut jobs: BTreeMap<JobId, JobRecord> = BTreeMap::new();
        let mut workers: BTreeMap<WorkerId, (WorkerRecord, bool)> =
            ["a", "b", "c"].iter().map(|id| (id.parse().unwrap(), (worker(id, 1, 0, 2), true))).collect();
        let mut renewals: BTreeMap<(JobId, u64), u64> = BTreeMap::new();
        let mut now_ms = 0;
        let calm = std::iter::repeat_n(Fault::Work, 40).flat_map(|f| [f, Fault::Finish, Fault::Finish, Fault::Finish]);
        for fault in faults.into_iter().chain((0..3).map(Fault::Restart)).chain(calm) {
            let nth = |n: u8| ["a", "b", "c"][usize::from(n)].parse::<WorkerId>().unwrap();
            match fault {
                Fault::Submit(class) => {
                    let record = job([Priority::Low, Priority::Normal, Priority::High][usize::from(class)]);
                    jobs.insert(record.id, record);
                }
                Fault::Work => now_ms += 1_000,
                Fault::Restart(n) => {
                    let (record, live) = workers.get_mut(&nth(n)).unwrap();
                    record.incarnation = (record.incarnation.parse::<u64>().unwrap() + 1).to_string();
                    *live = true;
                }
                Fault::Silence(n) => workers.get_mut(&nth(n)).unwrap().1 = false,
                Fault::Blind(seconds) => now_ms += 1_000 * u64::from(seconds),
                Fault::Finish => {
                    let done = jobs.values().find(|j| j.state == JobState::Running || j.state == JobState::Dispatched).cloned();
                    if let Some(record) = done && workers[&record.attempt.as_ref().unwrap().worker].1 {
                        let next = record.apply(Transition::Fail { token: record.token, failure: stoker_domain::job::Failure::new(stoker_domain::job::FailureKind::User, "ends it") }, at(now_ms).wall).unwrap();
                        state.observe_job(&next.record, at(now_ms));
                        jobs.insert(record.id, next.record);
                    }
                }
                Fault::Takeover => state = State::default(),
            }
            for (record, live) in workers.values_mut() {
                record.beats += u64::from(*live);
            }
            for record in jobs.values().filter(|j| j.state.is_leased()) {
                let attempt = record.attempt.as_ref().unwrap();
                let (holder, live) = &workers[&attempt.worker];
                if *live && holder.incarnation == attempt.incarnation {
                    *renewals.entry((record.id, record.token)).or_default() += 1;
                }
            }
            let active: Vec<_> = jobs.values().filter(|j| !j.state.is_final()).cloned().collect();
            let leases: Vec<_> = renewals.iter().map(|(&(job, token), &renewals)| LeaseView { job, token, renewals, progress: Progress::default() }).collect();
            let records: Vec<_> = workers.values().map(|(record, _)| record.clone()).collect();
            state.reconcile(&active, &leases, &records, GAP_MS, at(now_ms));
            for action in decide(&state, &config, at(now_ms)) {
                match &action {
                    Action::LoseLease { job, .. } => {
                        let attempt = jobs[job].attempt.as_ref().unwrap();
                        let (holder, live) = &workers[&attempt.worker];
                        prop_assert!(!(*live && holder.incarnation == attempt.incarnation), "a healthy lease was lost");
                    }
                    Action::ForgetWorker { .. } | Action::Hold { .. } => continue,
                    Action::Dispatch { .. } | Action::Preempt { .. } => {}
                }
                let (Action::Dispatch { job, .. } | Action::LoseLease { job, .. } | Action::Preempt { job, .. }) = &action else { unreachable!() };
                let next = carry_out(&jobs[job], &action, at(now_ms));
                state.observe_job(&next, at(now_ms));
                jobs.insert(*job, next);
            }
            for (id, (record, _)) in &workers {
                let held = jobs.values().filter(|j| j.state.is_leased() && j.attempt.as_ref().unwrap().worker == *id).count();
                prop_assert!(held <= usize::try_from(record.slots).unwrap(), "{held} jobs on {} slots", record.slots);
            }
        }
        let left: Vec<_> = jobs.values().filter(|j| !j.state.is_final()).map(|j| j.state).collect();
        prop_assert!(left.is_empty() || jobs.len() > 60, "left over: {left:?}");
    }
}
