//! How jobs and what belongs to them look to people. Pure: a view in, text out.

use std::collections::BTreeMap;

use stoker_domain::diff::TRACE;
use stoker_domain::job::{Artifact, Event, EventBody, Failure, LetGo, Used};
use stoker_domain::port::Point;
use stoker_sdk::view::{JobQuote, JobView, LogLine, MetricList};

use super::output::one_line;
use super::table::{Table, duration, size, time};

/// Digits of a BLAKE3 that are shown in tables.
const HASH_DIGITS: usize = 16;

/// The beginning of a hash.
pub(super) fn short(hash: &str) -> String {
    hash.chars().take(HASH_DIGITS).collect()
}

/// What a job would take.
pub(super) fn quote(quote: &JobQuote) -> String {
    let count = |count: Option<u64>| {
        count.map_or_else(
            || match quote.training_rows {
                Some(_) => "none: no batch is left to train on".to_owned(),
                None => "not known before the rows are read".to_owned(),
            },
            |count| count.to_string(),
        )
    };
    let mut table = Table::of_fields();
    table.field("data set", quote.dataset.to_string());
    table.field("data set size", size(quote.dataset_bytes));
    let rows = |rows: Option<u64>| rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
    table.field(
        "rows",
        format!(
            "{} to train on, {} held out",
            rows(quote.training_rows),
            rows(quote.held_out_rows)
        ),
    );
    table.field("parameters", quote.parameters.to_string());
    table.field("operations per step", quote.flops_per_step.to_string());
    table.field("steps per epoch", count(quote.steps_per_epoch));
    table.field("steps", count(quote.steps));
    match &quote.duration {
        Some(time) => {
            table.field(
                "time per step",
                format!("{:.3} ms", time.step_us as f64 * 1e-3),
            );
            let total = time.total_ms.map_or_else(|| count(None), duration);
            let device = format!("{}, {} threads", time.device_class, time.threads);
            table.field("time in all", format!("{total} on {device}"));
        }
        None => table.field("time", "unknown: no worker of the pool was calibrated"),
    }
    table.field("memory", size(quote.peak_bytes));
    table.field("  weights", size(quote.memory.weight_bytes));
    table.field("  arena", size(quote.memory.arena_bytes));
    table.field("  optimizer", size(quote.memory.optimizer_bytes));
    table.field("  gradients", size(quote.memory.gradient_bytes));
    table.field("checkpoint", size(quote.checkpoint_bytes));
    table.render()
}

/// One job.
pub(super) fn job(view: &JobView) -> String {
    let mut table = Table::of_fields();
    table.field("id", view.id.to_string());
    table.field("name", &view.spec.name);
    table.field("project", &view.spec.project);
    table.field("state", state(view));
    table.field("data set", view.spec.data.dataset.to_string());
    table.field("pool", view.spec.resources.pool.to_string());
    table.field("created", time(view.created_at));
    if let Some(attempt) = &view.attempt {
        table.field(
            "attempt",
            format!("{} on {}", attempt.number, attempt.worker),
        );
    }
    let progress = view.progress.as_ref().filter(|progress| progress.steps > 0);
    if let (Some(progress), None) = (progress, view.finished_at) {
        let loss = progress
            .loss
            .map_or_else(String::new, |loss| format!(", loss {}", number(loss)));
        let eta = progress
            .eta_ms
            .map_or_else(String::new, |ms| format!(", {} left", duration(ms)));
        let steps = format!("{} of {}", progress.step, progress.steps);
        table.field(
            "step",
            format!("{steps}, epoch {}{loss}{eta}", progress.epoch),
        );
    }
    if let Some(checkpoint) = &view.checkpoint {
        table.field("checkpoint", format!("step {}", checkpoint.step));
    }
    if let Some(failure) = &view.failure {
        let name = if view.finished_at.is_some() {
            "failure"
        } else {
            "last failure"
        };
        table.field(name, self::failure(failure));
    }
    if !view.exact {
        let told = "no: another engine build or device class took over";
        table.field("exact", told);
    }
    if let Some(finished) = view.finished_at {
        let took = duration(finished.millis_since(view.created_at));
        table.field("finished", format!("{}, after {took}", time(finished)));
    }
    if view.used.run_ms > 0 {
        table.field("used", used(&view.used));
    }
    if let Some(result) = &view.result {
        table.field("steps", result.steps.to_string());
        table.field("rows/s", format!("{:.0}", result.samples_per_s));
        if let Some(ms) = result.submit_to_first_step_ms {
            table.field("first step", format!("{ms:.0} ms after the job's creation"));
        }
        for (metric, value) in &result.metrics {
            table.field(metric, number(*value));
        }
        for artifact in &result.artifacts {
            let told = format!(
                "{}, blake3 {}",
                size(artifact.size_bytes),
                short(&artifact.blake3)
            );
            table.field(&artifact.name, told);
        }
    }
    table.render()
}

/// Jobs, a line each.
pub(super) fn jobs(views: &[JobView]) -> String {
    let mut table = Table::new(["ID", "NAME", "STATE", "STEP", "LOSS", "CREATED"]);
    for view in views {
        let progress = view.progress.as_ref().filter(|progress| progress.steps > 0);
        let step = match (&view.result, progress) {
            (Some(result), _) => result.steps.to_string(),
            (None, Some(progress)) => format!("{}/{}", progress.step, progress.steps),
            (None, None) => "-".to_owned(),
        };
        let loss = progress.and_then(|progress| progress.loss);
        table.row([
            view.id.to_string(),
            view.spec.name.clone(),
            view.state.as_str().to_owned(),
            step,
            loss.map_or_else(|| "-".to_owned(), number),
            time(view.created_at),
        ]);
    }
    table.render()
}

/// Why an attempt failed: the sentence, then what is known beside it.
pub(super) fn failure(failure: &Failure) -> String {
    let kind = serde_json::to_value(failure.kind).unwrap_or_default();
    let mut known = vec![kind.as_str().unwrap_or_default().to_owned()];
    known.extend(failure.step.map(|step| format!("step {step}")));
    known.extend(failure.layer.as_ref().map(|layer| format!("layer {layer}")));
    if !failure.samples.is_empty() {
        let rows: Vec<String> = failure.samples.iter().map(ToString::to_string).collect();
        known.push(format!("rows {}", rows.join(", ")));
    }
    format!("{} ({})", failure.message, known.join(", "))
}

/// Artifacts, a line each.
pub(super) fn artifacts(artifacts: &[Artifact]) -> String {
    let mut table = Table::new(["NAME", "SIZE", "BLAKE3"]);
    for artifact in artifacts {
        let (name, bytes) = (artifact.name.clone(), size(artifact.size_bytes));
        table.row([name, bytes, artifact.blake3.clone()]);
    }
    table.render()
}

/// Metrics, a line each: how many points, the last, the smallest and the largest.
pub(super) fn metrics(list: &MetricList) -> String {
    let mut by_metric: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    // The trace is for `stoker job diff`.
    for point in list.points.iter().filter(|point| point.metric != TRACE) {
        by_metric.entry(&point.metric).or_default().push(point);
    }
    let mut table = Table::new(["METRIC", "POINTS", "STEP", "LAST", "MIN", "MAX"]);
    for (metric, points) in by_metric {
        let values = || points.iter().map(|point| point.value);
        let last = points.iter().max_by_key(|point| point.step);
        let total = list.totals.as_ref().and_then(|totals| totals.get(metric));
        table.row([
            metric.to_owned(),
            total.map_or_else(|| points.len().to_string(), u64::to_string),
            last.map_or_else(String::new, |point| point.step.to_string()),
            last.map_or_else(String::new, |point| number(point.value)),
            number(values().fold(f64::NAN, f64::min)),
            number(values().fold(f64::NAN, f64::max)),
        ]);
    }
    table.render()
}

const fn state(view: &JobView) -> &'static str {
    match view.letting_go {
        None => view.state.as_str(),
        Some(LetGo::Pause) => "pausing",
        Some(LetGo::Preempt) => "pausing: its place is needed, it will be queued again",
        Some(LetGo::Cancel) => "pausing: it is cancelled after a checkpoint",
    }
}

fn used(used: &Used) -> String {
    let time = duration(used.run_ms);
    match used.cost > 0.0 {
        true => format!("{time}, cost {}", number(used.cost)),
        false => time,
    }
}

/// A metric's points, a line each.
pub(super) fn points(points: &[Point]) -> String {
    let mut table = Table::new(["STEP", "VALUE"]);
    for point in points {
        table.row([point.step.to_string(), number(point.value)]);
    }
    table.render()
}

/// A line of a log, with the fencing token of the attempt that wrote it.
pub(super) fn log_line(line: &LogLine) -> String {
    one_line(&format!(
        "{} [{}] {:<5} {}",
        line.at, line.token, line.level, line.message
    ))
}

/// An event, in one line.
pub(super) fn event(event: &Event) -> String {
    let told = match &event.body {
        EventBody::Dispatched { worker, attempt } => format!("to {worker}, attempt {attempt}"),
        EventBody::Started { from_step } => format!("from step {from_step}"),
        EventBody::Checkpointed { step, blake3 } => {
            format!("step {step}, blake3 {}", short(blake3))
        }
        EventBody::Requeued { reason, not_before } => {
            let wait = not_before.map_or_else(String::new, |at| format!(", not before {at}"));
            format!("{reason}{wait}")
        }
        EventBody::Preempting { reason } => reason.clone(),
        EventBody::Inexact {} => {
            "another engine build or device class: the last bits may differ".to_owned()
        }
        EventBody::Succeeded { manifest_blake3 } => format!("manifest {}", short(manifest_blake3)),
        EventBody::Failed { failure } => self::failure(failure),
        EventBody::Queued {}
        | EventBody::Pausing {}
        | EventBody::Cancelling {}
        | EventBody::Paused {}
        | EventBody::Cancelled {} => String::new(),
    };
    let line = format!(
        "{:>4}  {}  {:<12}  {told}",
        event.position,
        event.at,
        event.body.type_name()
    );
    one_line(line.trim_end())
}

/// A number with at most six significant digits.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let (text, exponent) = if value == 0.0 || !value.is_finite() {
        (value.to_string(), String::new())
    } else if (1e-3..1e6).contains(&magnitude) {
        let digits = if magnitude >= 1.0 {
            5 - (magnitude.log10() as usize).min(5)
        } else {
            6
        };
        (format!("{value:.digits$}"), String::new())
    } else {
        let text = format!("{value:.5e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        (digits.to_owned(), format!("e{exponent}"))
    };
    let digits = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{digits}{exponent}")
}

#[cfg(test)]
mod tests;
