//! Creating and deleting jobs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use futures::future::join_all;

use crate::job::{Change, Transition};
use crate::port::{Creation, JobFilter, JobStore, LeaseAnswer};
use crate::testkit::fixture::{
    dispatched, job, job_with, pool, request, running, spec, step, submit, submitted, tenant,
};
use crate::worker::Progress;
use crate::{JobId, JobState};

/// Record and first event, as they were written.
pub async fn a_created_job_is_read_back(store: &dyn JobStore) {
    let change = job("digits");
    assert_eq!(store.job(change.record.id).await.unwrap(), None);
    let id = submit(store, &change).await;
    assert_eq!(store.job(id).await.unwrap().as_ref(), Some(&change.record));
    assert_eq!(store.events(id, 0, 10).await.unwrap(), change.events);
}

/// Nothing is written twice, and the answer is the same to the letter.
pub async fn a_repeated_submit_gets_the_first_answer(store: &dyn JobStore) {
    let (first, second) = (job("digits"), job("digits"));
    let (acme, key) = (tenant("acme"), "key \"1\": {ü}\n");
    assert_eq!(store.replayed(&acme, key, "body").await.unwrap(), None);
    let created = store
        .create_job(&first, &request(key, "body"))
        .await
        .unwrap();
    assert_eq!(created, Creation::Created);
    let replayed = Creation::Replayed {
        answer: request(key, "body").answer,
    };
    for change in [&second, &first] {
        let mut again = request(key, "body");
        again.answer = "another answer".to_owned();
        assert_eq!(store.create_job(change, &again).await.unwrap(), replayed);
    }
    assert_eq!(
        store.replayed(&acme, key, "body").await.unwrap(),
        Some(replayed)
    );
    assert_eq!(store.job(second.record.id).await.unwrap(), None);
    assert_eq!(store.events(first.record.id, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.outbox(10).await.unwrap().len(), 1);
}

/// A key stands for one body.
pub async fn a_key_with_another_body_is_refused(store: &dyn JobStore) {
    store
        .create_job(&job("one"), &request("key", "body"))
        .await
        .unwrap();
    let other = job("other");
    let refused = store
        .create_job(&other, &request("key", "other body"))
        .await
        .unwrap();
    assert_eq!(refused, Creation::Mismatch);
    assert_eq!(store.job(other.record.id).await.unwrap(), None);
    let asked = store
        .replayed(&tenant("acme"), "key", "other body")
        .await
        .unwrap();
    assert_eq!(asked, Some(Creation::Mismatch));
}

/// Tenants don't share keys.
pub async fn keys_of_tenants_are_apart(store: &dyn JobStore) {
    for owner in ["acme", "other"] {
        let created = store
            .create_job(&job_with(owner, spec("digits")), &request("key", owner))
            .await;
        assert_eq!(created.unwrap(), Creation::Created, "{owner}");
    }
}

/// Of submits at the same time one is the first, and the others get its answer.
pub async fn concurrent_submits_with_one_key_make_one_job(store: &dyn JobStore) {
    let changes: Vec<Change> = (0..8).map(|_| job("digits")).collect();
    let submits = changes.iter().map(|change| async {
        let mut request = request("key", "body");
        request.answer = change.record.id.to_string();
        store.create_job(change, &request).await.unwrap()
    });
    let outcomes = join_all(submits).await;
    let created = outcomes
        .iter()
        .position(|outcome| *outcome == Creation::Created);
    let winner = changes[created.expect("nobody created the job")].record.id;
    let replayed = Creation::Replayed {
        answer: winner.to_string(),
    };
    let replays = outcomes.iter().filter(|outcome| **outcome == replayed);
    assert_eq!(replays.count(), 7, "{outcomes:?}");
    let page = store
        .list_jobs(&tenant("acme"), &JobFilter::default(), None, 100)
        .await
        .unwrap();
    let listed: Vec<JobId> = page.jobs.iter().map(|record| record.id).collect();
    assert_eq!(listed, [winner]);
}

/// Record, events, lease, outbox entries, lists; but the answer to its submit stays.
pub async fn a_deleted_job_leaves_nothing(store: &dyn JobStore) {
    let change = job("digits");
    let id = submit(store, &change).await;
    let kept = submitted(store, "kept").await;
    let token = running(store, id).await;
    dispatched(store, kept).await;
    store
        .renew_lease(id, token, &Progress::default())
        .await
        .unwrap();
    step(store, id, Transition::Pause).await;
    assert!(store.delete_job(id, &[]).await.unwrap());
    assert!(!store.delete_job(id, &[]).await.unwrap());
    assert_eq!(store.job(id).await.unwrap(), None);
    assert!(store.events(id, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.progress(id).await.unwrap(), None);
    assert!(store.leases(&pool("default")).await.unwrap().is_empty());
    let answer = store
        .renew_lease(id, token, &Progress::default())
        .await
        .unwrap();
    assert_eq!(answer, LeaseAnswer::Stale);
    let left = store.outbox(100).await.unwrap();
    assert!(left.iter().all(|entry| entry.message.job == kept) && !left.is_empty());
    let active = store.active_jobs(&pool("default")).await.unwrap();
    assert_eq!(active.len(), 1);
    assert_eq!(active[0].state, JobState::Dispatched);
    let page = store
        .list_jobs(&tenant("acme"), &JobFilter::default(), None, 100)
        .await
        .unwrap();
    assert_eq!(page.jobs.len(), 1);
    let again = store
        .create_job(&change, &request(&id.to_string(), "body"))
        .await
        .unwrap();
    assert!(matches!(again, Creation::Replayed { .. }));
}
