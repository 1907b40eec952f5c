//! The outbox: what is to be published.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::job::Transition;
use crate::port::{JobStore, OutboxEntry, QueueName};
use crate::testkit::fixture::{at, holder, job, pool, submit, submitted};

fn names(entries: &[OutboxEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

/// They are those of the changes, and removing them twice does no harm.
pub async fn the_outbox_holds_entries_until_they_are_done(store: &dyn JobStore) {
    assert!(store.outbox(10).await.unwrap().is_empty());
    let created = job("digits");
    submit(store, &created).await;
    let dispatch = created
        .record
        .apply(Transition::Dispatch(holder()), at(1))
        .unwrap();
    store.update_job(&dispatch, None).await.unwrap();
    let written = [created.outbox(), dispatch.outbox()].concat();
    assert_eq!(store.outbox(10).await.unwrap(), written);
    assert_eq!(written[0].queue, QueueName::Pool(pool("default")));
    assert_eq!(written[1].queue, QueueName::Worker(holder().worker));
    let first = [written[0].id.clone()];
    for _ in 0..2 {
        store.outbox_done(&first).await.unwrap();
        assert_eq!(store.outbox(10).await.unwrap(), written[1..]);
    }
    store.outbox_done(&[]).await.unwrap();
    store
        .outbox_done(&[written[1].id.clone(), "nothing:1:0".to_owned()])
        .await
        .unwrap();
    assert!(store.outbox(10).await.unwrap().is_empty());
}

/// The oldest come first, also after some in between are done.
pub async fn the_outbox_is_limited_and_in_order(store: &dyn JobStore) {
    let mut written = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let id = submitted(store, name).await;
        written.push(format!("{id}:1:0"));
    }
    let oldest = store.outbox(2).await.unwrap();
    assert_eq!(names(&oldest), written[..2]);
    assert!(store.outbox(0).await.unwrap().is_empty());
    store.outbox_done(&written[1..3]).await.unwrap();
    let left = store.outbox(10).await.unwrap();
    assert_eq!(names(&left), [written[0].as_str(), written[3].as_str()]);
}
