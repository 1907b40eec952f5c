use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::JobId;
use crate::job::{Demand, Inputs, Limit, NewJob};
use crate::port::CatalogKind;
use crate::spec::{EVENTS, Format, JobSpec, RetryRule, WebhookSpec};
use crate::time::Millis;

fn new_job() -> JobRecord {
    let text = "name = \"j\"\ndata = { dataset = \"d\", target = \"y\" }\nmodel = { family = \"mlp\" }\n\
                train = { epochs = 1, batch_size = 8, loss = \"mse\" }\nretry = { attempts = 2, backoff = \"10s\" }";
    let spec = JobSpec::parse(text, Format::Toml).unwrap();
    let tenant = "acme".parse().unwrap();
    let created_at = Timestamp::from_millis(1_000);
    JobRecord::create(NewJob {
        id: JobId::generate(),
        tenant,
        spec,
        inputs: Inputs::default(),
        demand: Demand::default(),
        replay_of: None,
        created_at,
    })
    .record
}

fn holder(n: u8) -> Holder {
    Holder {
        worker: format!("w{n}").parse().unwrap(),
        incarnation: "1".to_owned(),
        engine: EngineIdentity {
            build: format!("b{}", n / 2),
            device_class: "cpu".to_owned(),
        },
        price_per_device_hour: 0.0,
    }
}

fn checkpoint(token: u64, step: u64) -> Checkpoint {
    Checkpoint {
        token,
        step,
        blake3: "00".to_owned(),
        size_bytes: 1,
    }
}

fn outcome(token: u64) -> Outcome {
    Outcome {
        token,
        manifest_blake3: "00".to_owned(),
        artifacts: Vec::new(),
        metrics: BTreeMap::new(),
        steps: 1,
        samples_per_s: 1.0,
        first_step_at: None,
        submit_to_first_step_ms: None,
    }
}

fn after(record: &JobRecord, transitions: impl IntoIterator<Item = Transition>) -> JobRecord {
    transitions
        .into_iter()
        .fold(record.clone(), |record, transition| {
            record
                .apply(transition, Timestamp::from_millis(2_000))
                .unwrap()
                .record
        })
}

fn running() -> JobRecord {
    after(
        &new_job(),
        [
            Transition::Dispatch(holder(0)),
            Transition::Start { token: 1 },
        ],
    )
}

#[test]
fn a_dispatch_tells_the_worker_and_an_end_tells_the_pool() {
    let dispatched = new_job()
        .apply(Transition::Dispatch(holder(0)), Timestamp::default())
        .unwrap();
    assert_eq!(dispatched.outbox().len(), 1);
    assert_eq!(
        dispatched.outbox()[0].queue,
        QueueName::Worker(holder(0).worker)
    );
    let ended = running()
        .apply(
            Transition::Succeed {
                token: 1,
                outcome: outcome(1),
            },
            Timestamp::default(),
        )
        .unwrap();
    assert!(matches!(ended.messages[..], [(QueueName::Pool(_), _)]));
    let cancelled = running()
        .apply(Transition::Cancel, Timestamp::default())
        .unwrap();
    assert_eq!(
        cancelled.messages.len(),
        2,
        "the worker is to stop, the scheduler has a free slot"
    );
}

#[test]
fn a_stale_token_changes_nothing() {
    let lost = Transition::LoseLease {
        token: 1,
        reason: "x".to_owned(),
    };
    let again = after(&running(), [lost, Transition::Dispatch(holder(1))]);
    for transition in [
        Transition::Start { token: 1 },
        Transition::Checkpoint {
            token: 1,
            checkpoint: checkpoint(1, 5),
        },
        Transition::Succeed {
            token: 1,
            outcome: outcome(1),
        },
        Transition::Fail {
            token: 1,
            failure: Failure::new(FailureKind::Data, "x"),
        },
        Transition::Release { token: 1 },
        Transition::LoseLease {
            token: 1,
            reason: "x".to_owned(),
        },
    ] {
        let refused = again.apply(transition, Timestamp::default()).unwrap_err();
        assert_eq!(
            refused,
            TransitionError::Stale {
                given: 1,
                current: 2
            }
        );
    }
}

#[test]
fn three_deaths_without_a_checkpoint_fail_the_job_and_a_checkpoint_starts_the_count_anew() {
    let die = |token| Transition::LoseLease {
        token,
        reason: "gone".to_owned(),
    };
    let start = |token| [Transition::Dispatch(holder(0)), Transition::Start { token }];
    let mut record = after(&running(), [die(1)]);
    record = after(&record, start(2));
    record = after(
        &record,
        [
            Transition::Checkpoint {
                token: 2,
                checkpoint: checkpoint(2, 5),
            },
            die(2),
        ],
    );
    record = after(&record, start(3));
    record = after(&record, [die(3)]);
    assert_eq!(record.state, JobState::Queued);
    record = after(&record, start(4));
    record = after(&record, [die(4)]);
    assert_eq!(record.state, JobState::Failed);
    assert_eq!(record.failure.unwrap().kind, FailureKind::Hardware);
}

/// A broker that is away for long must not fail a job that no worker has heard of.
#[test]
fn a_dispatch_that_nobody_hears_of_is_no_death() {
    let mut record = after(&running(), []);
    for token in 2..50 {
        let lost = Transition::LoseLease {
            token: token - 1,
            reason: "its worker stopped renewing the lease".to_owned(),
        };
        record = after(&record, [lost, Transition::Dispatch(holder(0))]);
    }
    assert_eq!((record.state, record.deaths), (JobState::Dispatched, 1));
}

#[test]
fn only_what_may_pass_is_retried() {
    let fail = |kind, token| Transition::Fail {
        token,
        failure: Failure::new(kind, "x"),
    };
    let cases = [
        (FailureKind::User, JobState::Failed),
        (FailureKind::Data, JobState::Failed),
        (FailureKind::Plugin, JobState::Failed),
        (FailureKind::Numeric, JobState::Failed),
        (FailureKind::Timeout, JobState::Failed),
        (FailureKind::Capacity, JobState::Queued),
        (FailureKind::Hardware, JobState::Queued),
        (FailureKind::Platform, JobState::Queued),
    ];
    for (kind, state) in cases {
        assert_eq!(after(&running(), [fail(kind, 1)]).state, state, "{kind:?}");
    }
    let once = after(&running(), [fail(FailureKind::Capacity, 1)]);
    assert_eq!(once.not_before, Some(Timestamp::from_millis(12_000)));
    let twice = [
        Transition::Dispatch(holder(0)),
        Transition::Start { token: 2 },
        fail(FailureKind::Capacity, 2),
    ];
    assert_eq!(
        after(&once, twice).state,
        JobState::Failed,
        "retry.attempts = 2"
    );
}

#[test]
fn a_pause_survives_the_loss_of_its_worker() {
    let paused = after(
        &running(),
        [
            Transition::Pause,
            Transition::LoseLease {
                token: 1,
                reason: "x".to_owned(),
            },
        ],
    );
    assert_eq!(paused.state, JobState::Paused);
    assert_eq!(after(&paused, [Transition::Resume]).state, JobState::Queued);
}

#[test]
fn another_engine_build_ends_the_promise_of_exactness_and_says_so() {
    let lost = after(
        &running(),
        [Transition::LoseLease {
            token: 1,
            reason: "x".to_owned(),
        }],
    );
    let moved = lost
        .apply(Transition::Dispatch(holder(2)), Timestamp::default())
        .unwrap();
    assert!(!moved.record.exact);
    assert!(
        moved
            .events
            .iter()
            .any(|event| event.body == EventBody::Inexact {})
    );
    let same = lost
        .apply(Transition::Dispatch(holder(1)), Timestamp::default())
        .unwrap();
    assert!(same.record.exact);
}

fn any_transition() -> impl Strategy<Value = Transition> {
    let token = 0_u64..6;
    prop_oneof![
        4 => (0_u8..4).prop_map(|n| Transition::Dispatch(holder(n))),
        4 => token.clone().prop_map(|token| Transition::Start { token }),
        2 => (token.clone(), 0_u64..9).prop_map(|(token, step)| Transition::Checkpoint { token, checkpoint: checkpoint(token, step) }),
        1 => token.clone().prop_map(|token| Transition::Succeed { token, outcome: outcome(token) }),
        2 => token.clone().prop_map(|token| Transition::Fail { token, failure: Failure::new(FailureKind::Platform, "x") }),
        2 => token.clone().prop_map(|token| Transition::Release { token }),
        3 => token.prop_map(|token| Transition::LoseLease { token, reason: "x".to_owned() }),
        1 => Just(Transition::Cancel),
        1 => Just(Transition::CancelGently),
        2 => (0_u64..6).prop_map(|token| Transition::Preempt { token, reason: "x".to_owned() }),
        2 => Just(Transition::Pause),
        2 => Just(Transition::Resume),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(transitions in prop::collection::vec(any_transition(), 0..60)) {
        let mut record = new_job();
        let mut next_position = 1;
        for (index, transition) in transitions.into_iter().enumerate() {
            let now = Timestamp::from_millis(2_000 + i64::try_from(index).unwrap());
            let Ok(change) = record.apply(transition.clone(), now) else { continue };
            prop_assert!(!record.state.is_final(), "{transition:?} changed an ended job");
            let next = change.record;
            prop_assert_eq!(next.revision, record.revision + 1);
            prop_assert!(next.token == record.token || matches!(transition, Transition::Dispatch(_)) && next.token == record.token + 1);
            for event in &change.events {
                prop_assert!(EVENTS.contains(&event.body.type_name()));
                prop_assert_eq!(event.position, next_position);
                prop_assert_eq!(event.token, next.token);
                next_position += 1;
            }
            prop_assert_eq!(next.next_event, next_position);
            prop_assert_eq!(next.letting_go.is_some(), next.state == JobState::Pausing);
            prop_assert_eq!(next.finished_at.is_some(), next.state.is_final());
            prop_assert_eq!(next.state.is_leased(), next.attempt.as_ref().is_some_and(|a| a.ended_at.is_none()));
            prop_assert_eq!(next.result.is_some(), next.state == JobState::Succeeded);
            prop_assert!(next.deaths < DEATHS_MAX || next.state == JobState::Failed);
            let json = serde_json::to_string(&next).unwrap();
            prop_assert_eq!(&serde_json::from_str::<JobRecord>(&json).unwrap(), &next);
            record = next;
        }
    }
}

/// What was asked for holds, whether the worker lets go, dies, or fails.
#[test]
fn what_lets_go_becomes_what_was_asked_for() {
    let preempt = Transition::Preempt {
        token: 1,
        reason: "a job of class high".to_owned(),
    };
    let asked = [
        (Transition::Pause, JobState::Paused),
        (preempt.clone(), JobState::Queued),
        (Transition::CancelGently, JobState::Cancelled),
    ];
    let ends = [
        Transition::Release { token: 1 },
        Transition::LoseLease {
            token: 1,
            reason: "gone".to_owned(),
        },
        Transition::Fail {
            token: 1,
            failure: Failure::new(FailureKind::Platform, "no room for the checkpoint"),
        },
    ];
    for (wanted, state) in asked {
        for end in &ends {
            let pausing = after(&running(), [wanted.clone()]);
            assert_eq!(pausing.state, JobState::Pausing);
            let ended = after(&pausing, [end.clone()]);
            assert_eq!(ended.state, state, "{wanted:?}, then {end:?}");
            assert_eq!(ended.letting_go, None);
        }
    }
    // The last word counts: a pause of what is preempted, a cancel of what is pausing.
    let paused = after(
        &running(),
        [preempt.clone(), Transition::Pause, ends[0].clone()],
    );
    assert_eq!(paused.state, JobState::Paused);
    let cancelled = [Transition::Pause, Transition::CancelGently, ends[0].clone()];
    assert_eq!(after(&running(), cancelled).state, JobState::Cancelled);
    let cancelling = after(&running(), [Transition::CancelGently]);
    for refused in [preempt, Transition::Pause, Transition::CancelGently] {
        let error = cancelling.apply(refused, Timestamp::default()).unwrap_err();
        assert_eq!(error, TransitionError::State(JobState::Pausing));
    }
    assert_eq!(
        after(&cancelling, [Transition::Cancel]).state,
        JobState::Cancelled
    );
    // What never ran has nothing to save.
    assert_eq!(
        after(&new_job(), [Transition::CancelGently]).state,
        JobState::Cancelled
    );
}

#[test]
fn a_queued_job_is_held_by_a_pause() {
    let held = after(&new_job(), [Transition::Pause]);
    assert_eq!(held.state, JobState::Paused);
    let going = after(&held, [Transition::Resume, Transition::Dispatch(holder(0))]);
    assert_eq!(going.state, JobState::Dispatched);
}

#[test]
fn kinds_of_failures_have_rules_of_their_own() {
    let fail = |kind, token| Transition::Fail {
        token,
        failure: Failure::new(kind, "x"),
    };
    let start = |token| [Transition::Dispatch(holder(0)), Transition::Start { token }];
    let mut job = new_job();
    job.spec.retry.on.insert(
        FailureKind::Hardware,
        RetryRule {
            attempts: 3,
            backoff: Millis(60_000),
        },
    );
    let mut record = after(&job, start(1));
    // Capacity counts against `retry.attempts` of 2, hardware against its own 3.
    for (token, kind, wait_ms) in [
        (1, FailureKind::Hardware, 60_000),
        (2, FailureKind::Capacity, 10_000),
        (3, FailureKind::Hardware, 120_000),
    ] {
        record = after(&record, [fail(kind, token)]);
        let not_before = Timestamp::from_millis(2_000 + wait_ms);
        assert_eq!(record.not_before, Some(not_before), "{kind:?}");
        record = after(&record, start(token + 1));
    }
    let third = after(&record, [fail(FailureKind::Hardware, 4)]);
    assert_eq!(third.state, JobState::Failed);
    assert_eq!(
        after(&record, [fail(FailureKind::Capacity, 4)]).state,
        JobState::Failed
    );
}

/// A fault that never passes doesn't go on for ever, unless checkpoints show that it gets on.
#[test]
fn failures_of_the_platform_end_a_job_that_does_not_get_on() {
    let run = |record: &JobRecord, saves: bool| {
        let token = record.token + 1;
        let mut record = after(
            record,
            [Transition::Dispatch(holder(0)), Transition::Start { token }],
        );
        if saves {
            let checkpoint = checkpoint(token, token);
            record = after(&record, [Transition::Checkpoint { token, checkpoint }]);
        }
        let failure = Failure::new(FailureKind::Platform, "the store's bytes are damaged");
        after(&record, [Transition::Fail { token, failure }])
    };
    let mut getting_on = new_job();
    let mut stuck = new_job();
    for _ in 1..PLATFORM_FAILURES_MAX {
        stuck = run(&stuck, false);
        getting_on = run(&getting_on, true);
        assert_eq!(stuck.state, JobState::Queued);
    }
    assert_eq!(run(&stuck, false).state, JobState::Failed);
    assert_eq!(run(&getting_on, true).state, JobState::Queued);
    assert_eq!(stuck.failed_attempts, 0);
}

#[test]
fn time_and_cost_count_over_all_attempts() {
    let mut job = new_job();
    job.spec.resources.max_time = Some(Millis(100_000));
    job.spec.resources.max_cost = Some(3.0);
    assert_eq!(job.limit(), Some((100_000, Limit::Time(Millis(100_000)))));
    let at = Timestamp::from_millis;
    let dear = Holder {
        price_per_device_hour: 100.0,
        ..holder(0)
    };
    let steps = [
        (Transition::Dispatch(holder(0)), 1_000),
        (Transition::Start { token: 1 }, 5_000),
        (Transition::Release { token: 1 }, 35_000),
        (Transition::Dispatch(dear), 50_000),
        (Transition::Start { token: 2 }, 60_000),
    ];
    for (transition, ms) in steps {
        job = job.apply(transition, at(ms)).unwrap().record;
    }
    assert_eq!((job.used.run_ms, job.used.device_ms), (30_000, 30_000));
    assert_eq!(job.used.cost, 0.0);
    assert_eq!(job.limit(), Some((70_000, Limit::Time(Millis(100_000)))));
    let released = job
        .apply(Transition::Release { token: 2 }, at(69_000))
        .unwrap();
    job = released.record;
    assert_eq!(job.used.run_ms, 39_000);
    assert!((job.used.cost - 0.25).abs() < 1e-12);
    // Ten times as dear, and the cost is the nearer limit: 2.75 of 1000 an hour.
    job.attempt.as_mut().unwrap().price_per_device_hour = 1_000.0;
    assert_eq!(job.limit(), Some((9_900, Limit::Cost(3.0))));
    job.used.cost = 4.0;
    assert_eq!(job.limit(), Some((0, Limit::Cost(3.0))));
}

/// What is to be told is written with the event, once for each webhook that wants it.
#[test]
fn webhooks_get_the_events_that_they_want() {
    let webhook = |url: &str, events: &[&str]| WebhookSpec {
        url: url.to_owned(),
        secret: "hook".to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    };
    let mut job = new_job();
    job.spec.notify.webhooks = vec![
        webhook("https://a.example", &["dispatched", "cancelled"]),
        webhook("https://b.example", &["cancelled"]),
    ];
    let told = |record: &JobRecord, transition: Transition| {
        let change = record
            .apply(transition, Timestamp::from_millis(2_000))
            .unwrap();
        let notices = change.documents.iter();
        let notices = notices.filter(|document| document.kind == CatalogKind::Notice);
        let notices = notices.map(|document| {
            assert!(
                document.key.starts_with("000000000002000-"),
                "{}",
                document.key
            );
            serde_json::from_value(document.value.clone()).unwrap()
        });
        (change.record.clone(), notices.collect::<Vec<Notice>>())
    };
    let (job, dispatched) = told(&job, Transition::Dispatch(holder(0)));
    assert_eq!(dispatched.len(), 1);
    assert_eq!(dispatched[0].body["event"]["type"], "dispatched");
    let (job, started) = told(&job, Transition::Start { token: 1 });
    assert!(started.is_empty());
    let (_, cancelled) = told(&job, Transition::Cancel);
    let urls: Vec<&str> = cancelled.iter().map(|notice| notice.url.as_str()).collect();
    assert_eq!(urls, ["https://a.example", "https://b.example"]);
    assert_ne!(cancelled[0].delivery, cancelled[1].delivery);
    assert_eq!(cancelled[0].body["job"]["state"], "cancelled");
}

/// A platform that is upgraded goes on with the jobs that it has.
#[test]
fn a_record_of_the_version_before_is_read_and_goes_on() {
    let pausing = after(&running(), [Transition::Pause]);
    let mut json = serde_json::to_value(&pausing).unwrap();
    let record = json.as_object_mut().unwrap();
    // What came later.
    for field in ["demand", "letting_go", "failures", "used"] {
        record.remove(field);
    }
    let attempt = record["attempt"].as_object_mut().unwrap();
    attempt.remove("price_per_device_hour").unwrap();
    let old: JobRecord = serde_json::from_value(json).unwrap();
    assert_eq!(old.demand, Demand::default());
    assert_eq!(old.spec.blake3(), pausing.spec.blake3());
    let released = after(&old, [Transition::Release { token: 1 }]);
    assert_eq!(released.state, JobState::Paused);
    let going = [
        Transition::Resume,
        Transition::Dispatch(holder(0)),
        Transition::Start { token: 2 },
        Transition::Succeed {
            token: 2,
            outcome: outcome(2),
        },
    ];
    assert_eq!(after(&released, going).state, JobState::Succeeded);
}
