//! Losses of twenty optimiser steps, and of the evaluations between them, beside those that PyTorch
//! made in double precision from the same weights and batches. PyTorch's are in `recorded`; `make
//! trajectories` makes them anew.

mod cases;
mod task;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stoker_engine::Cpu;

use task::{Fallible, Task, Trace};

/// Largest share by which a loss may differ.
const TOLERANCE: f64 = 5e-5;

/// What PyTorch made of a task.
#[derive(Deserialize)]
struct Recorded {
    /// Hash of what it started from.
    start: String,
    losses: Vec<f64>,
    tests: Vec<f64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trajectories/recorded")
}

/// The largest share by which a loss differs.
fn compare(task: &Task, cpu: &Cpu) -> Fallible<f64> {
    let path = folder().join(format!("{}.json", task.name));
    let text = std::fs::read_to_string(&path).map_err(|_| "nothing recorded")?;
    let recorded: Recorded = serde_json::from_str(&text)?;
    let (before, trace) = Trace::of(task, cpu)?;
    if recorded.start != task.hash(&before)? {
        return Err("recorded from another spec, other rows or other weights".into());
    }
    let tests: Vec<f64> = trace.tests.iter().map(|(_, loss)| *loss).collect();
    if (trace.losses.len(), tests.len()) != (recorded.losses.len(), recorded.tests.len()) {
        return Err("another number of losses was recorded".into());
    }
    let ours = trace.losses.iter().chain(&tests);
    let theirs = recorded.losses.iter().chain(&recorded.tests);
    let errors = ours.zip(theirs).map(|(a, b)| (a - b).abs() / b.abs());
    // max() takes a number over NaN.
    let errors = errors.map(|error| if error.is_nan() { f64::INFINITY } else { error });
    Ok(errors.fold(0.0, f64::max))
}

#[test]
fn losses_are_those_of_pytorch() {
    let cpu = Cpu::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for task in cases::cases() {
        match compare(&task, &cpu) {
            Ok(error) if error < TOLERANCE => {}
            Ok(error) => wrong.push(format!("{}: off by {error:.1e}", task.name)),
            Err(error) => wrong.push(format!("{}: {error}", task.name)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n`make trajectories` records them anew",
        wrong.join("\n")
    );
}

#[test]
fn every_recording_has_its_case() {
    let cases = cases::cases();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let known = cases.iter().any(|task| Some(task.name) == name);
        assert!(known, "{} belongs to no case", path.display());
    }
}
