//! Leases and workers.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::JobId;
use crate::job::Transition;
use crate::port::{JobStore, LeaseAnswer, LeaseView};
use crate::testkit::fixture::{
    at, dispatched, engine, failure, job_with, pool, running, spec, step, submit, submitted,
};
use crate::worker::{Progress, WorkerRecord};
use crate::{JobState, Timestamp};

fn progress(step: u64) -> Progress {
    Progress {
        step,
        steps: 90,
        epoch: 1,
        loss: Some(0.25),
        samples_per_s: 1000.5,
        eta_ms: Some(1_500),
    }
}

async fn leases(store: &dyn JobStore) -> Vec<LeaseView> {
    store.leases(&pool("default")).await.unwrap()
}

/// Each renewal is counted and tells the job's state.
pub async fn a_lease_is_renewed_by_its_holder(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    let token = dispatched(store, id).await;
    assert!(leases(store).await.is_empty(), "not renewed yet");
    assert_eq!(store.progress(id).await.unwrap(), None);
    let held = |state| Ok(LeaseAnswer::Held(state));
    assert_eq!(
        store.renew_lease(id, token, &progress(0)).await,
        held(JobState::Dispatched)
    );
    step(store, id, Transition::Start { token }).await;
    assert_eq!(
        store.renew_lease(id, token, &progress(1)).await,
        held(JobState::Running)
    );
    step(store, id, Transition::Pause).await;
    assert_eq!(
        store.renew_lease(id, token, &progress(2)).await,
        held(JobState::Pausing)
    );
    let view = LeaseView {
        job: id,
        token,
        renewals: 3,
        progress: progress(2),
    };
    assert_eq!(leases(store).await, [view]);
    assert_eq!(store.progress(id).await.unwrap(), Some(progress(2)));
}

/// Of another token, of a job without a lease, of no job.
pub async fn a_renewal_of_others_is_stale(store: &dyn JobStore) {
    let queued = submitted(store, "queued").await;
    let given = submitted(store, "dispatched").await;
    let token = dispatched(store, given).await;
    let stale = [
        (queued, 0),
        (queued, 1),
        (given, token + 1),
        (given, token - 1),
        (JobId::generate(), 1),
    ];
    for (id, token) in stale {
        let answer = store.renew_lease(id, token, &progress(1)).await;
        assert_eq!(answer, Ok(LeaseAnswer::Stale), "{id} {token}");
        assert_eq!(store.progress(id).await.unwrap(), None);
    }
    assert!(leases(store).await.is_empty());
}

/// However the attempt ends, its lease ends in the same step.
pub async fn a_lease_ends_with_its_state(store: &dyn JobStore) {
    let ends = |token| {
        [
            Transition::Cancel,
            Transition::Fail {
                token,
                failure: failure(),
            },
            Transition::Release { token },
            Transition::LoseLease {
                token,
                reason: "it was silent".to_owned(),
            },
        ]
    };
    for end in ends(1) {
        let id = submitted(store, "digits").await;
        let token = running(store, id).await;
        store.renew_lease(id, token, &progress(1)).await.unwrap();
        step(store, id, end.clone()).await;
        assert!(leases(store).await.is_empty(), "{end:?}");
        assert_eq!(store.progress(id).await.unwrap(), None, "{end:?}");
        let answer = store.renew_lease(id, token, &progress(2)).await;
        assert_eq!(answer, Ok(LeaseAnswer::Stale), "{end:?}");
    }
}

/// Its renewals count from 1, and the old holder is out.
pub async fn a_new_attempt_begins_a_new_lease(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    let old = running(store, id).await;
    for _ in 0..3 {
        store.renew_lease(id, old, &progress(50)).await.unwrap();
    }
    step(store, id, Transition::Release { token: old }).await;
    let new = dispatched(store, id).await;
    assert!(new > old);
    assert_eq!(store.progress(id).await.unwrap(), None);
    let answer = store.renew_lease(id, old, &progress(51)).await;
    assert_eq!(answer, Ok(LeaseAnswer::Stale));
    store.renew_lease(id, new, &progress(7)).await.unwrap();
    let views = leases(store).await;
    assert_eq!((views[0].token, views[0].renewals), (new, 1));
    assert_eq!(views[0].progress, progress(7));
}

/// A pool sees its own.
pub async fn leases_are_the_pools(store: &dyn JobStore) {
    let mut elsewhere = spec("elsewhere");
    elsewhere.resources.pool = pool("other");
    let elsewhere = submit(store, &job_with("acme", elsewhere)).await;
    let here = submitted(store, "here").await;
    for id in [elsewhere, here] {
        let token = dispatched(store, id).await;
        store.renew_lease(id, token, &progress(1)).await.unwrap();
    }
    let jobs =
        |views: Vec<LeaseView>| -> Vec<JobId> { views.iter().map(|view| view.job).collect() };
    assert_eq!(jobs(leases(store).await), [here]);
    assert_eq!(
        jobs(store.leases(&pool("other")).await.unwrap()),
        [elsewhere]
    );
}

/// How far a run is never stops it.
pub async fn a_progress_that_json_cannot_hold_is_kept_out(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    let token = running(store, id).await;
    let strange = Progress {
        loss: Some(f64::NAN),
        samples_per_s: f64::INFINITY,
        ..progress(3)
    };
    store.renew_lease(id, token, &strange).await.unwrap();
    let read = store.progress(id).await.unwrap().unwrap();
    assert_eq!((read.step, read.loss, read.samples_per_s), (3, None, 0.0));
}

fn worker(id: &str, incarnation: &str, beats: u64) -> WorkerRecord {
    WorkerRecord {
        version: 1,
        id: id.parse().unwrap(),
        pool: pool("default"),
        incarnation: incarnation.to_owned(),
        engine: engine(),
        slots: 2,
        memory_bytes: 0,
        place: Vec::new(),
        draining: false,
        beats,
        registered_at: at(0),
        profile: None,
    }
}

/// A heartbeat replaces the last; a life removes itself, not its successor.
pub async fn workers_are_kept_by_their_life(store: &dyn JobStore) {
    let default = pool("default");
    let (one, two) = (
        worker("worker-1", "first", 7),
        worker("worker-2", "first", 1),
    );
    store.put_worker(&two).await.unwrap();
    store
        .put_worker(&worker("worker-1", "first", 6))
        .await
        .unwrap();
    store.put_worker(&one).await.unwrap();
    assert_eq!(
        store.workers(&default).await.unwrap(),
        [one.clone(), two.clone()]
    );
    assert!(store.workers(&pool("other")).await.unwrap().is_empty());
    let reborn = WorkerRecord {
        registered_at: Timestamp::from_millis(5),
        ..worker("worker-1", "second", 1)
    };
    store.put_worker(&reborn).await.unwrap();
    store
        .remove_worker(&default, &one.id, "first")
        .await
        .unwrap();
    assert_eq!(
        store.workers(&default).await.unwrap(),
        [reborn.clone(), two.clone()]
    );
    for _ in 0..2 {
        store
            .remove_worker(&default, &one.id, "second")
            .await
            .unwrap();
        assert_eq!(
            store.workers(&default).await.unwrap(),
            std::slice::from_ref(&two)
        );
    }
}
