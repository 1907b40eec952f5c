use stoker_domain::job::{Checkpoint, FailureKind, Outcome};
use stoker_domain::worker::Progress;
use stoker_domain::{JobState, Timestamp};

use stoker_sdk::view::{DurationQuote, MemoryQuote};

use super::*;
use crate::cli::tests::job as example;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_767_323_045_678 + ms)
}

fn succeeded() -> JobView {
    let mut view = example(JobState::Succeeded);
    view.finished_at = Some(at(65_000));
    view.result = Some(Outcome {
        token: 1,
        manifest_blake3: "ab".repeat(32),
        artifacts: vec![Artifact {
            name: "weights.safetensors".to_owned(),
            size_bytes: 123_456,
            blake3: "cd".repeat(32),
        }],
        metrics: BTreeMap::from([("test.accuracy".to_owned(), 0.98765)]),
        steps: 630,
        samples_per_s: 51_234.5,
        first_step_at: None,
        submit_to_first_step_ms: Some(12.3),
    });
    view
}

fn quoted(duration: Option<DurationQuote>) -> JobQuote {
    JobQuote {
        dataset: "digits@1".parse().unwrap(),
        parameters: 53_002,
        flops_per_step: 65_519_616,
        training_rows: Some(1347),
        held_out_rows: Some(450),
        steps_per_epoch: Some(43),
        steps: Some(1290),
        peak_bytes: 10 << 20,
        memory: MemoryQuote {
            weight_bytes: 1 << 20,
            arena_bytes: 6 << 20,
            optimizer_bytes: 2 << 20,
            gradient_bytes: 1 << 20,
        },
        checkpoint_bytes: 3 << 20,
        dataset_bytes: 57_523,
        duration,
    }
}

#[test]
fn a_quote() {
    insta::assert_snapshot!(quote(&quoted(None)), @"
    data set             digits@1
    data set size        56.2 KiB
    rows                 1347 to train on, 450 held out
    parameters           53002
    operations per step  65519616
    steps per epoch      43
    steps                1290
    time                 unknown: no worker of the pool was calibrated
    memory               10.0 MiB
      weights            1.0 MiB
      arena              6.0 MiB
      optimizer          2.0 MiB
      gradients          1.0 MiB
    checkpoint           3.0 MiB
    ");
    let duration = DurationQuote {
        step_us: 810,
        total_ms: Some(1_100),
        device_class: "cpu-x86-64".to_owned(),
        threads: 2,
    };
    insta::assert_snapshot!(quote(&quoted(Some(duration))), @"
    data set             digits@1
    data set size        56.2 KiB
    rows                 1347 to train on, 450 held out
    parameters           53002
    operations per step  65519616
    steps per epoch      43
    steps                1290
    time per step        0.810 ms
    time in all          1.1 s on cpu-x86-64, 2 threads
    memory               10.0 MiB
      weights            1.0 MiB
      arena              6.0 MiB
      optimizer          2.0 MiB
      gradients          1.0 MiB
    checkpoint           3.0 MiB
    ");
}

#[test]
fn a_job_that_succeeded() {
    insta::assert_snapshot!(job(&succeeded()), @"
    id                   job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e
    name                 digits
    project              default
    state                succeeded
    data set             digits@1
    pool                 default
    created              2026-01-02T03:04:05Z
    finished             2026-01-02T03:05:10Z, after 1 min 5 s
    steps                630
    rows/s               51234
    first step           12 ms after the job's creation
    test.accuracy        0.98765
    weights.safetensors  120.6 KiB, blake3 cdcdcdcdcdcdcdcd
    ");
}

#[test]
fn a_job_that_runs_after_a_failed_attempt() {
    let mut view = example(JobState::Running);
    view.progress = Some(Progress {
        step: 12,
        steps: 50,
        epoch: 2,
        loss: Some(0.5),
        samples_per_s: 10.0,
        eta_ms: Some(90_000),
    });
    view.checkpoint = Some(Checkpoint {
        token: 1,
        step: 10,
        blake3: String::new(),
        size_bytes: 1,
    });
    view.failure = Some(Failure::new(
        FailureKind::Hardware,
        "the worker died\u{1b}[2J",
    ));
    view.exact = false;
    insta::assert_snapshot!(job(&view), @r"
    id            job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e
    name          digits
    project       default
    state         running
    data set      digits@1
    pool          default
    created       2026-01-02T03:04:05Z
    step          12 of 50, epoch 2, loss 0.5, 1 min 30 s left
    checkpoint    step 10
    last failure  the worker died\u{1b}[2J (hardware)
    exact         no: another engine build or device class took over
    ");
}

#[test]
fn a_list_of_jobs() {
    let mut running = example(JobState::Running);
    running.progress = Some(Progress {
        step: 12,
        steps: 50,
        loss: Some(0.123_456_789),
        ..Progress::default()
    });
    let views = [succeeded(), running, example(JobState::Queued)];
    insta::assert_snapshot!(jobs(&views), @"
    ID                                    NAME    STATE      STEP   LOSS      CREATED
    job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e  digits  succeeded  630    -         2026-01-02T03:04:05Z
    job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e  digits  running    12/50  0.123457  2026-01-02T03:04:05Z
    job-0190b8e2f5c87d4a9c3e5f6a7b8c9d0e  digits  queued     -      -         2026-01-02T03:04:05Z
    ");
}

#[test]
fn metrics_are_summed_up() {
    let point = |metric: &str, step, value| Point {
        metric: metric.to_owned(),
        step,
        value,
    };
    let points = [
        point("train.loss", 1, 2.5),
        point("train.loss", 2, 0.000_012),
        point("test.accuracy", 2, 0.5),
    ];
    let mut list = MetricList {
        points: points.to_vec(),
        totals: None,
    };
    insta::assert_snapshot!(metrics(&list), @"
    METRIC         POINTS  STEP  LAST    MIN     MAX
    test.accuracy  1       2     0.5     0.5     0.5
    train.loss     2       2     1.2e-5  1.2e-5  2.5
    ");
    // Of a sample, all points of the metric are counted.
    list.totals = Some([("train.loss".to_owned(), 3_000)].into());
    assert!(metrics(&list).contains("train.loss     3000"));
    insta::assert_snapshot!(self::points(&points[..2]), @"
    STEP  VALUE
    1     2.5
    2     1.2e-5
    ");
}

#[test]
fn events_and_log_lines() {
    let lines: Vec<String> = [
        EventBody::Queued {},
        EventBody::Dispatched {
            worker: "worker-1".parse().unwrap(),
            attempt: 1,
        },
        EventBody::Requeued {
            reason: "the worker died".to_owned(),
            not_before: Some(at(1000)),
        },
        EventBody::Failed {
            failure: Failure::new(FailureKind::User, "no such column\n\u{7}"),
        },
    ]
    .into_iter()
    .enumerate()
    .map(|(position, body)| {
        let position = position as u64;
        event(&Event {
            position,
            at: at(0),
            token: 1,
            body,
        })
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
       0  2026-01-02T03:04:05.678Z  queued
       1  2026-01-02T03:04:05.678Z  dispatched    to worker-1, attempt 1
       2  2026-01-02T03:04:05.678Z  requeued      the worker died, not before 2026-01-02T03:04:06.678Z
       3  2026-01-02T03:04:05.678Z  failed        no such column \u{7} (user)
    ");
    let line = LogLine {
        at: at(0),
        token: 2,
        level: "warn".to_owned(),
        message: "hello \u{1b}[31m".to_owned(),
    };
    insta::assert_snapshot!(log_line(&line), @r"2026-01-02T03:04:05.678Z [2] warn  hello \u{1b}[31m");
}

#[test]
fn numbers_have_six_significant_digits() {
    let cases = [
        (0.0, "0"),
        (0.5, "0.5"),
        (0.123_456_789, "0.123457"),
        (12.345_678, "12.3457"),
        (123_456.7, "123457"),
        (1e9, "1e9"),
        (0.000_012, "1.2e-5"),
        (-3.0, "-3"),
        (-0.0, "-0"),
        (f64::INFINITY, "inf"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        assert_eq!(number(value), text);
    }
}
