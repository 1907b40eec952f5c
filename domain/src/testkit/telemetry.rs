//! The contract of [`Telemetry`].
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: a panic is a failed test"
)]

use crate::JobId;
use crate::port::{Point, Telemetry};

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
    telemetry.points(job, None, 0, 100_000).await.unwrap()
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
    let of_b = telemetry.points(job, Some("b"), 2, 10).await.unwrap();
    assert_eq!(steps(of_b), named(&[("b", 2), ("b", 3)]));
    let first = telemetry.points(job, None, 2, 3).await.unwrap();
    assert_eq!(steps(first), named(&[("a", 2), ("a", 3), ("b", 2)]));
    assert!(
        telemetry
            .points(job, Some("c"), 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
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
