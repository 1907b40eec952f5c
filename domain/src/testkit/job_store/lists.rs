//! Finding jobs.
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::job::{JobRecord, Transition};
use crate::port::{JobFilter, JobStore};
use crate::testkit::fixture::{
    dispatched, job_with, pool, running, spec, step, submit, submitted, tenant,
};
use crate::{JobId, JobState};

fn ids(jobs: &[JobRecord]) -> Vec<JobId> {
    jobs.iter().map(|record| record.id).collect()
}

async fn list(store: &dyn JobStore, filter: &JobFilter) -> Vec<JobId> {
    let page = store
        .list_jobs(&tenant("acme"), filter, None, 100)
        .await
        .unwrap();
    assert_eq!(page.next, None);
    ids(&page.jobs)
}

/// Every job comes once, whatever the size of the pages.
pub async fn lists_are_newest_first_and_paged(store: &dyn JobStore) {
    let mut newest_first = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        newest_first.insert(0, submitted(store, name).await);
    }
    for limit in [1, 2, 5, 6] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list_jobs(&tenant("acme"), &JobFilter::default(), after, limit)
                .await;
            let page = page.unwrap();
            assert!(page.jobs.len() <= limit);
            seen.extend(ids(&page.jobs));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, newest_first, "in pages of {limit}");
    }
}

/// By state, project, name and tags, and by all of them together.
pub async fn lists_are_filtered(store: &dyn JobStore) {
    let mut tagged = spec("tagged");
    tagged.project = "vision".to_owned();
    tagged.tags = [
        ("team".to_owned(), "a".to_owned()),
        ("run".to_owned(), "1".to_owned()),
    ]
    .into();
    let tagged = submit(store, &job_with("acme", tagged)).await;
    let plain = submitted(store, "plain").await;
    let ended = submitted(store, "plain").await;
    step(store, ended, Transition::Cancel).await;
    let tags = |pairs: &[(&str, &str)]| JobFilter {
        tags: pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..JobFilter::default()
    };
    let state = |state| JobFilter {
        state: Some(state),
        ..JobFilter::default()
    };
    let named = JobFilter {
        name: Some("plain".to_owned()),
        ..JobFilter::default()
    };
    let project = JobFilter {
        project: Some("vision".to_owned()),
        ..JobFilter::default()
    };
    let both = JobFilter {
        state: Some(JobState::Queued),
        ..named.clone()
    };
    let cases: [(JobFilter, &[JobId]); 8] = [
        (JobFilter::default(), &[ended, plain, tagged]),
        (state(JobState::Queued), &[plain, tagged]),
        (state(JobState::Cancelled), &[ended]),
        (named, &[ended, plain]),
        (project, &[tagged]),
        (tags(&[("team", "a")]), &[tagged]),
        (tags(&[("team", "a"), ("run", "2")]), &[]),
        (both, &[plain]),
    ];
    for (filter, expected) in cases {
        assert_eq!(list(store, &filter).await, expected, "{filter:?}");
    }
}

/// A page may be short; the cursor says whether there is more.
pub async fn a_filter_that_few_pass_is_followed_to_its_end(store: &dyn JobStore) {
    let oldest = submitted(store, "wanted").await;
    for _ in 0..40 {
        submitted(store, "unwanted").await;
    }
    let filter = JobFilter {
        name: Some("wanted".to_owned()),
        ..JobFilter::default()
    };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .list_jobs(&tenant("acme"), &filter, after, 1)
            .await
            .unwrap();
        seen.extend(ids(&page.jobs));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [oldest]);
}

/// Another tenant's jobs aren't listed.
pub async fn tenants_see_only_their_own(store: &dyn JobStore) {
    let own = submitted(store, "own").await;
    let others = submit(store, &job_with("other", spec("others"))).await;
    assert_eq!(list(store, &JobFilter::default()).await, [own]);
    let page = store
        .list_jobs(&tenant("other"), &JobFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(ids(&page.jobs), [others]);
    let page = store
        .list_jobs(&tenant("nobody"), &JobFilter::default(), None, 10)
        .await
        .unwrap();
    assert!(page.jobs.is_empty() && page.next.is_none());
    assert_eq!(
        store.tenants().await.unwrap(),
        [tenant("acme"), tenant("other")]
    );
}

/// Those that are queued or hold a lease, and no others.
pub async fn active_jobs_are_the_pools_oldest_first(store: &dyn JobStore) {
    let queued = submitted(store, "queued").await;
    let given = submitted(store, "dispatched").await;
    dispatched(store, given).await;
    let begun = submitted(store, "running").await;
    running(store, begun).await;
    let pausing = submitted(store, "pausing").await;
    running(store, pausing).await;
    step(store, pausing, Transition::Pause).await;
    let paused = submitted(store, "paused").await;
    let token = running(store, paused).await;
    step(store, paused, Transition::Pause).await;
    step(store, paused, Transition::Release { token }).await;
    let ended = submitted(store, "ended").await;
    step(store, ended, Transition::Cancel).await;
    let mut elsewhere = spec("elsewhere");
    elsewhere.resources.pool = pool("other");
    let elsewhere = submit(store, &job_with("acme", elsewhere)).await;
    let active = store.active_jobs(&pool("default")).await.unwrap();
    assert_eq!(ids(&active), [queued, given, begun, pausing]);
    assert_eq!(
        ids(&store.active_jobs(&pool("other")).await.unwrap()),
        [elsewhere]
    );
    step(store, paused, Transition::Resume).await;
    let active = store.active_jobs(&pool("default")).await.unwrap();
    assert_eq!(ids(&active), [queued, given, begun, pausing, paused]);
}
