//! Writing changes: order by revision, fencing by epoch, events.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is a failed test"
)]

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::job::{EventBody, Transition};
use crate::port::{
    Catalog, CatalogKind, Document, JobStore, TransitionFailed, Update, transition, transition_with,
};
use crate::testkit::fixture::{
    at, dispatched, failure, guard, holder, job, outcome, pool, request, running, step, submit,
    submitted, tenant,
};
use crate::{JobRecord, JobState};

/// Longest wait for a leadership to expire.
const PATIENCE: Duration = Duration::from_secs(20);

/// Record and events, as they were written.
pub async fn an_update_is_read_back(store: &dyn JobStore) {
    let change = job("digits");
    let id = submit(store, &change).await;
    let next = change
        .record
        .apply(Transition::Dispatch(holder()), at(1))
        .unwrap();
    assert_eq!(
        store.update_job(&next, None).await.unwrap(),
        Update::Written
    );
    assert_eq!(store.job(id).await.unwrap(), Some(next.record));
    assert_eq!(store.events(id, 1, 10).await.unwrap(), next.events);
}

/// What attempts used, and who did it, is there exactly when the change is. For a store that is both.
pub async fn a_changes_documents_are_written_with_it(store: &dyn JobStore, catalog: &dyn Catalog) {
    let (acme, kind) = (tenant("acme"), CatalogKind::Audit);
    let told = |key: &str| Document {
        kind,
        tenant: acme.clone(),
        key: key.to_owned(),
        value: json!(key),
    };
    let keys = async |kind| {
        let list = catalog.list(kind, &acme, "", None, 99).await.unwrap();
        list.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    let mut change = job("digits");
    change.documents.push(told("1 made"));
    let id = submit(store, &change).await;
    let same = request(&id.to_string(), "body");
    store.create_job(&change, &same).await.unwrap();
    let token = running(store, id).await;
    assert!(keys(CatalogKind::Attempt).await.is_empty(), "it runs still");
    let failed = Transition::Fail {
        token,
        failure: failure(),
    };
    let also = |_: &JobRecord, _: &JobRecord| Some(told("2 failed"));
    transition_with(store, id, &failed, None, at(1), also)
        .await
        .unwrap();
    let stale = change.record.apply(Transition::Cancel, at(2)).unwrap();
    let mut stale = stale;
    stale.documents.push(told("3 stale"));
    let update = store.update_job(&stale, None).await.unwrap();
    assert_eq!(update, Update::Conflict);
    assert!(store.delete_job(id, &[told("4 deleted")]).await.unwrap());
    assert!(!store.delete_job(id, &[told("5 gone")]).await.unwrap());
    assert_eq!(keys(kind).await, ["1 made", "2 failed", "4 deleted"]);
    // Use outlives its job.
    let used = keys(CatalogKind::Attempt).await;
    assert_eq!(used.len(), 1);
    assert!(used[0].ends_with(&format!("{id}-{token}")), "{used:?}");
}

/// The same revision isn't written twice, not by a repeat either; nor a job that isn't there.
pub async fn a_write_over_another_is_a_conflict(store: &dyn JobStore) {
    let change = job("digits");
    let cancel = change.record.apply(Transition::Cancel, at(1)).unwrap();
    assert_eq!(
        store.update_job(&cancel, None).await.unwrap(),
        Update::Conflict
    );
    let id = submit(store, &change).await;
    let dispatch = change
        .record
        .apply(Transition::Dispatch(holder()), at(1))
        .unwrap();
    assert_eq!(
        store.update_job(&dispatch, None).await.unwrap(),
        Update::Written
    );
    for repeated in [&dispatch, &cancel] {
        assert_eq!(
            store.update_job(repeated, None).await.unwrap(),
            Update::Conflict
        );
    }
    assert_eq!(store.job(id).await.unwrap(), Some(dispatch.record));
    assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 2);
    assert_eq!(store.outbox(10).await.unwrap().len(), 2);
}

/// Writers that saw the same can't both write.
pub async fn of_many_updates_one_wins(store: &dyn JobStore) {
    let change = job("digits");
    let id = submit(store, &change).await;
    let changes: Vec<_> = (1..9)
        .map(|ms| change.record.apply(Transition::Cancel, at(ms)).unwrap())
        .collect();
    let updates = join_all(changes.iter().map(|change| store.update_job(change, None))).await;
    let written = updates
        .iter()
        .filter(|update| **update == Ok(Update::Written))
        .count();
    let conflicts = updates
        .iter()
        .filter(|update| **update == Ok(Update::Conflict))
        .count();
    assert_eq!((written, conflicts), (1, 7));
    assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 2);
}

/// One leads at a time; epochs grow by each change of leader; pools are apart.
pub async fn leadership_is_kept_and_given_up(store: &dyn JobStore) {
    let (default, other) = (pool("default"), pool("other"));
    let ttl_ms = 60_000;
    assert_eq!(store.lead(&default, "a", ttl_ms).await.unwrap(), Some(1));
    assert_eq!(
        store.lead(&default, "a", ttl_ms).await.unwrap(),
        Some(1),
        "kept"
    );
    assert_eq!(store.lead(&default, "b", ttl_ms).await.unwrap(), None);
    assert_eq!(store.lead(&other, "b", ttl_ms).await.unwrap(), Some(1));
    store.resign(&default, "b").await.unwrap();
    assert_eq!(
        store.lead(&default, "b", ttl_ms).await.unwrap(),
        None,
        "it wasn't b's"
    );
    store.resign(&default, "a").await.unwrap();
    assert_eq!(store.lead(&default, "b", ttl_ms).await.unwrap(), Some(2));
    assert_eq!(store.lead(&default, "a", ttl_ms).await.unwrap(), None);
}

/// Whoever asks next after the TTL gets it, under a new epoch.
pub async fn leadership_passes_on_when_it_expires(store: &dyn JobStore) {
    let default = pool("default");
    store.lead(&default, "a", 60_000).await.unwrap();
    assert_eq!(store.lead(&default, "b", 60_000).await.unwrap(), None);
    store.lead(&default, "a", 50).await.unwrap();
    let taken = timeout(PATIENCE, async {
        loop {
            if let Some(epoch) = store.lead(&default, "b", 60_000).await.unwrap() {
                return epoch;
            }
        }
    });
    assert_eq!(taken.await.expect("the leadership doesn't expire"), 2);
    assert_eq!(store.lead(&default, "a", 60_000).await.unwrap(), None);
}

/// Its writes don't happen; those of the new leader do.
pub async fn an_old_leader_is_fenced(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    let default = pool("default");
    let dispatch = Transition::Dispatch(holder());
    let never = guard("default", 1);
    let refused = transition(store, id, &dispatch, Some(&never), at(1)).await;
    assert_eq!(
        refused.unwrap_err(),
        TransitionFailed::Fenced,
        "nobody leads yet"
    );
    let old = store.lead(&default, "a", 60_000).await.unwrap().unwrap();
    store.resign(&default, "a").await.unwrap();
    let new = store.lead(&default, "b", 60_000).await.unwrap().unwrap();
    let refused = transition(store, id, &dispatch, Some(&guard("default", old)), at(1)).await;
    assert_eq!(refused.unwrap_err(), TransitionFailed::Fenced);
    assert_eq!(
        store.job(id).await.unwrap().unwrap().state,
        JobState::Queued
    );
    assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 1);
    transition(store, id, &dispatch, Some(&guard("default", new)), at(1))
        .await
        .unwrap();
    assert_eq!(
        store.job(id).await.unwrap().unwrap().state,
        JobState::Dispatched
    );
}

/// Positions are 0, 1, 2, …, and pages are cut by them.
pub async fn events_are_dense(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    for _ in 0..2 {
        let token = running(store, id).await;
        let failure = failure();
        step(store, id, Transition::Fail { token, failure }).await;
    }
    let token = running(store, id).await;
    let outcome = outcome(token);
    step(store, id, Transition::Succeed { token, outcome }).await;
    let events = store.events(id, 0, 100).await.unwrap();
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (0..10).collect::<Vec<_>>());
    assert!(matches!(events[9].body, EventBody::Succeeded { .. }));
    assert_eq!(store.events(id, 3, 4).await.unwrap(), events[3..7]);
    assert_eq!(store.events(id, 8, 100).await.unwrap(), events[8..]);
    assert!(store.events(id, 10, 100).await.unwrap().is_empty());
    assert!(store.events(id, 0, 0).await.unwrap().is_empty());
}

/// What it produced is read back as it was written.
pub async fn a_job_lives_to_its_end(store: &dyn JobStore) {
    let id = submitted(store, "digits").await;
    dispatched(store, id).await;
    step(store, id, Transition::Start { token: 1 }).await;
    let outcome = outcome(1);
    let succeed = Transition::Succeed { token: 1, outcome };
    let written = step(store, id, succeed).await;
    assert_eq!(store.job(id).await.unwrap(), Some(written.clone()));
    assert_eq!((written.state, written.token), (JobState::Succeeded, 1));
}
