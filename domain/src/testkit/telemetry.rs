//! The contracts of [`Telemetry`] and [`PointStore`].
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::JobId;
use crate::port::{Point, PointStore, StoredPoint, Telemetry};

/// Every step.
const ANY: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

/// Makes one test of each contract of the telemetry.
#[macro_export]
macro_rules! telemetry_suite {
    ($open:expr) => {
        $crate::contract_tests!(
            telemetry,
            $open,
            [
                points_come_by_metric_and_step,
                points_are_filtered_and_limited,
                the_highest_token_wins,
                values_are_read_back_exactly,
                many_points_at_once_are_kept,
                jobs_are_apart_and_points_removed,
                compaction_changes_nothing_that_is_read,
                samples_keep_the_ends_and_the_extremes,
            ]
        );
    };
}

/// Makes one test of each contract of the store of points.
#[macro_export]
macro_rules! point_store_suite {
    ($open:expr) => {
        $crate::contract_tests!(
            telemetry,
            $open,
            [
                stored_points_tell_their_token,
                what_was_written_anew_is_not_removed,
                jobs_with_points_are_listed,
            ]
        );
    };
}

fn point(metric: &str, step: u64, value: f64) -> Point {
    Point {
        metric: metric.to_owned(),
        step,
        value,
    }
}

async fn all(telemetry: &dyn Telemetry, job: JobId) -> Vec<Point> {
    telemetry.points(job, None, ANY, 100_000).await.unwrap()
}

/// Whatever order they were written in.
pub async fn points_come_by_metric_and_step(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    assert!(all(telemetry, job).await.is_empty());
    let written = [
        point("b", 2, 0.5),
        point("a", 10, 0.1),
        point("b", 1, 0.4),
        point("a", 9, 0.2),
    ];
    telemetry.append_points(job, 1, &written).await.unwrap();
    telemetry.append_points(job, 1, &[]).await.unwrap();
    let sorted = [
        point("a", 9, 0.2),
        point("a", 10, 0.1),
        point("b", 1, 0.4),
        point("b", 2, 0.5),
    ];
    assert_eq!(all(telemetry, job).await, sorted);
}

/// By metric, by step, by count.
pub async fn points_are_filtered_and_limited(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    let written: Vec<_> = ["a", "b"]
        .into_iter()
        .flat_map(|metric| [1, 2, 3].map(|step| point(metric, step, 1.0)))
        .collect();
    telemetry.append_points(job, 1, &written).await.unwrap();
    let steps = |points: Vec<Point>| -> Vec<(String, u64)> {
        points
            .into_iter()
            .map(|point| (point.metric, point.step))
            .collect()
    };
    let named = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
        pairs
            .iter()
            .map(|(metric, step)| ((*metric).to_owned(), *step))
            .collect()
    };
    for _ in 0..2 {
        let points =
            async |metric, steps, limit| telemetry.points(job, metric, steps, limit).await.unwrap();
        let of_b = points(Some("b"), 2..=u64::MAX, 10).await;
        assert_eq!(steps(of_b), named(&[("b", 2), ("b", 3)]));
        let first = points(None, 2..=u64::MAX, 3).await;
        assert_eq!(steps(first), named(&[("a", 2), ("a", 3), ("b", 2)]));
        let middle = points(None, 2..=2, 10).await;
        assert_eq!(steps(middle), named(&[("a", 2), ("b", 2)]));
        assert!(points(Some("c"), ANY, 10).await.is_empty());
        assert!(points(None, 4..=9, 10).await.is_empty());
        telemetry.compact(job).await.unwrap();
    }
}

/// A resumed attempt overwrites; what an earlier one writes late changes nothing.
pub async fn the_highest_token_wins(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    telemetry
        .append_points(job, 9, &[point("a", 1, 9.0), point("a", 2, 9.0)])
        .await
        .unwrap();
    telemetry
        .append_points(job, 10, &[point("a", 2, 10.0)])
        .await
        .unwrap();
    telemetry
        .append_points(job, 9, &[point("a", 2, -1.0), point("a", 3, 9.0)])
        .await
        .unwrap();
    telemetry
        .append_points(job, 10, &[point("a", 2, 10.5)])
        .await
        .unwrap();
    let kept = [point("a", 1, 9.0), point("a", 2, 10.5), point("a", 3, 9.0)];
    assert_eq!(all(telemetry, job).await, kept);
}

/// Whenever it comes: points that were compacted are overwritten, and win, as the others.
pub async fn compaction_changes_nothing_that_is_read(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    telemetry.compact(job).await.unwrap();
    let writes = [
        (5, vec![point("a", 1, 5.0), point("b.b/c", 7, 5.0)]),
        (7, vec![point("a", 1, 7.0), point("a", 2, 7.0)]),
        (6, vec![point("a", 2, 6.0), point("a", 3, 6.0)]),
        (7, vec![point("a", 2, 7.5)]),
    ];
    for (token, points) in writes {
        telemetry.append_points(job, token, &points).await.unwrap();
        let before = all(telemetry, job).await;
        telemetry.compact(job).await.unwrap();
        assert_eq!(all(telemetry, job).await, before);
        let listed = telemetry.jobs_to_compact(None, 10).await.unwrap();
        assert!(listed.is_empty(), "the store holds none of them any more");
    }
    let kept = [
        point("a", 1, 7.0),
        point("a", 2, 7.5),
        point("a", 3, 6.0),
        point("b.b/c", 7, 5.0),
    ];
    assert_eq!(all(telemetry, job).await, kept);
    telemetry.delete_points(job).await.unwrap();
    assert!(all(telemetry, job).await.is_empty());
}

/// Of a curve that is too long: first, last, and what stands out.
pub async fn samples_keep_the_ends_and_the_extremes(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    let written: Vec<_> = (1..=5_000_u32)
        .map(|step| {
            let value = match step {
                777 => 1e9,
                4_002 => -1e9,
                _ => f64::from(step).sin(),
            };
            point("loss", step.into(), value)
        })
        .chain([point("test.loss", 9, 1.0)])
        .collect();
    let (early, late) = written.split_at(3_000);
    telemetry.append_points(job, 1, early).await.unwrap();
    telemetry.compact(job).await.unwrap();
    telemetry.append_points(job, 1, late).await.unwrap();
    let sample = telemetry.sample(job, None, ANY, 100).await.unwrap();
    let totals: Vec<_> = sample.totals.into_iter().collect();
    assert_eq!(
        totals,
        [("loss".to_owned(), 5_000), ("test.loss".to_owned(), 1)]
    );
    let (loss, other): (Vec<_>, Vec<_>) =
        sample.points.into_iter().partition(|p| p.metric == "loss");
    assert_eq!(other, [point("test.loss", 9, 1.0)]);
    assert!((50..=100).contains(&loss.len()), "{} points", loss.len());
    assert!(loss.is_sorted_by(|a, b| a.step < b.step));
    assert!(
        loss.iter().all(|point| written.contains(point)),
        "none is made up"
    );
    for step in [1, 777, 4_002, 5_000] {
        assert!(loss.iter().any(|point| point.step == step), "step {step}");
    }
    let within = telemetry
        .sample(job, Some("loss"), 10..=19, 100)
        .await
        .unwrap();
    assert_eq!(within.points, written[9..19]);
    assert_eq!(within.totals.into_values().collect::<Vec<_>>(), [10]);
}

async fn stored(store: &dyn PointStore, job: JobId, metric: &str) -> Vec<StoredPoint> {
    store
        .stored_points(job, metric, ANY, 100_000)
        .await
        .unwrap()
}

/// With value and step; metrics are those that have points.
pub async fn stored_points_tell_their_token(store: &dyn PointStore) {
    let job = JobId::generate();
    assert!(store.metrics(job).await.unwrap().is_empty());
    let written = [
        point("b", 2, 0.5),
        point("a", 7, f64::NAN),
        point("b", 3, -0.0),
    ];
    store.append_points(job, 4, &written).await.unwrap();
    store.append_points(job, 5, &written[2..]).await.unwrap();
    assert_eq!(store.metrics(job).await.unwrap(), ["a", "b"]);
    let told = |step, token, value| StoredPoint { step, token, value };
    assert_eq!(
        stored(store, job, "b").await,
        [told(2, 4, 0.5), told(3, 5, -0.0)]
    );
    assert!(stored(store, job, "a").await[0].value.is_nan());
    let within = store.stored_points(job, "b", 3..=9, 10).await.unwrap();
    assert_eq!(within, [told(3, 5, -0.0)]);
    assert_eq!(
        store.stored_points(job, "b", ANY, 1).await.unwrap(),
        [told(2, 4, 0.5)]
    );
}

/// Neither under a higher token nor with another value.
pub async fn what_was_written_anew_is_not_removed(store: &dyn PointStore) {
    let job = JobId::generate();
    let written = [
        point("a", 1, 1.0),
        point("a", 2, 2.0),
        point("a", 3, f64::NAN),
        point("a", 4, 4.0),
        point("b", 1, 1.0),
    ];
    store.append_points(job, 1, &written).await.unwrap();
    let read = stored(store, job, "a").await;
    store
        .append_points(job, 2, &[point("a", 2, 2.0)])
        .await
        .unwrap();
    store
        .append_points(job, 1, &[point("a", 4, 4.5)])
        .await
        .unwrap();
    store.remove_points(job, "a", &read).await.unwrap();
    let told = |step, token, value| StoredPoint { step, token, value };
    let kept = stored(store, job, "a").await;
    assert_eq!(kept, [told(2, 2, 2.0), told(4, 1, 4.5)]);
    store.remove_points(job, "a", &kept).await.unwrap();
    store.remove_points(job, "a", &kept).await.unwrap();
    assert_eq!(store.metrics(job).await.unwrap(), ["b"]);
}

/// By id, in pages, for as long as they have points.
pub async fn jobs_with_points_are_listed(store: &dyn PointStore) {
    let jobs: Vec<JobId> = (0..5).map(|_| JobId::generate()).collect();
    for job in &jobs {
        store
            .append_points(*job, 1, &[point("a", 1, 1.0)])
            .await
            .unwrap();
    }
    let page = async |after| store.jobs_with_points(after, 2).await.unwrap();
    assert_eq!(page(None).await, jobs[..2]);
    assert_eq!(page(Some(jobs[1])).await, jobs[2..4]);
    assert_eq!(page(Some(jobs[3])).await, jobs[4..]);
    let read = stored(store, jobs[0], "a").await;
    store.remove_points(jobs[0], "a", &read).await.unwrap();
    store.delete_points(jobs[1]).await.unwrap();
    assert_eq!(page(None).await, jobs[2..4]);
}

/// Not rounded; what isn't a number stays so.
pub async fn values_are_read_back_exactly(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    let values = [
        0.1 + 0.2,
        -0.0,
        f64::MIN_POSITIVE / 4.0,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let written: Vec<_> = (1..)
        .zip(values)
        .map(|(step, value)| point("a", step, value))
        .collect();
    telemetry.append_points(job, 1, &written).await.unwrap();
    let read: Vec<f64> = all(telemetry, job)
        .await
        .into_iter()
        .map(|point| point.value)
        .collect();
    assert_eq!(read.len(), values.len());
    for (read, written) in read.into_iter().zip(values) {
        let same = read == written || (read.is_nan() && written.is_nan());
        assert!(same, "{written:?} was read back as {read:?}");
    }
}

/// More than any adapter moves at a time.
pub async fn many_points_at_once_are_kept(telemetry: &dyn Telemetry) {
    let job = JobId::generate();
    let written: Vec<_> = (0..12_345_u32)
        .map(|step| point("loss", step.into(), f64::from(step) / 7.0))
        .collect();
    telemetry.append_points(job, 1, &written).await.unwrap();
    assert_eq!(all(telemetry, job).await, written);
}

/// A job's points go with it, and with no other.
pub async fn jobs_are_apart_and_points_removed(telemetry: &dyn Telemetry) {
    let (one, other) = (JobId::generate(), JobId::generate());
    for job in [one, other] {
        telemetry
            .append_points(job, 1, &[point("a", 1, 1.0), point("b", 1, 1.0)])
            .await
            .unwrap();
    }
    telemetry.delete_points(one).await.unwrap();
    telemetry.delete_points(one).await.unwrap();
    assert!(all(telemetry, one).await.is_empty());
    assert_eq!(all(telemetry, other).await.len(), 2);
}
