//! What differs between two jobs, and from where on their weights do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::id::JobId;
use crate::job::{JobRecord, JobState};
use crate::model::WEIGHTS_FILE;
use crate::port::Point;

/// The metric whose points are the first 52 bits of a hash of the weights, as a whole number.
pub const TRACE: &str = "trace.weights";
/// Most fields of the spec that are listed.
const FIELDS_MAX: usize = 100;

/// Two values that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Differing {
    /// What differs, as in `train.seed`, `augment@1` or `test.accuracy`.
    pub name: String,
    /// What the first job has; null for nothing.
    pub a: Value,
    /// What the second has.
    pub b: Value,
}

/// Optimiser steps between two hashes of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// After this step the weights were still equal; 0 when they never were.
    pub equal_after: u64,
    /// After this one they weren't.
    pub different_after: u64,
}

/// What differs between two jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDiff {
    /// The first job.
    pub a: JobId,
    /// The second.
    pub b: JobId,
    /// Whether the finished weights are equal to the bit; null while one of the jobs has none.
    pub equal: Option<bool>,
    /// Fields of the spec.
    pub spec: Vec<Differing>,
    /// The data sets' content, by BLAKE3.
    pub data: Option<Differing>,
    /// The plugins' content, by BLAKE3.
    pub plugins: Vec<Differing>,
    /// The tokenizers' content, by BLAKE3.
    #[serde(default)]
    pub tokenizers: Vec<Differing>,
    /// The engines' builds.
    pub build: Option<Differing>,
    /// The classes of the devices.
    pub device_class: Option<Differing>,
    /// Where the weights first differ, where that was seen.
    pub diverged: Option<Interval>,
    /// The last values of metrics.
    pub metrics: Vec<Differing>,
}

impl JobDiff {
    /// Compares two jobs, with their points of [`TRACE`] by step.
    #[must_use]
    pub fn of(a: &JobRecord, b: &JobRecord, traces: [&[Point]; 2]) -> Self {
        let engine = |of: fn(&crate::job::EngineIdentity) -> &String| {
            let of = |job: &JobRecord| {
                job.engine
                    .as_ref()
                    .map_or(Value::Null, |e| Value::from(of(e).as_str()))
            };
            let known = a.engine.is_some() && b.engine.is_some();
            differing("", of(a), of(b)).filter(|_| known)
        };
        let named = |name: &str, found: Option<Differing>| {
            found.map(|found| Differing {
                name: name.to_owned(),
                ..found
            })
        };
        Self {
            a: a.id,
            b: b.id,
            equal: weights(a).zip(weights(b)).map(|(a, b)| a == b),
            spec: fields(a, b),
            data: differing(
                "data",
                a.inputs.dataset_blake3.as_str().into(),
                b.inputs.dataset_blake3.as_str().into(),
            ),
            plugins: maps(&a.inputs.plugins, &b.inputs.plugins),
            tokenizers: maps(&tokenizers(a), &tokenizers(b)),
            build: named("build", engine(|engine| &engine.build)),
            device_class: named("device_class", engine(|engine| &engine.device_class)),
            diverged: diverged(traces),
            metrics: maps(&metrics(a), &metrics(b)),
        }
    }
}

fn differing(name: &str, a: Value, b: Value) -> Option<Differing> {
    (a != b).then(|| Differing {
        name: name.to_owned(),
        a,
        b,
    })
}

/// The hash of a job's finished weights.
fn weights(job: &JobRecord) -> Option<&str> {
    let outcome = job
        .result
        .as_ref()
        .filter(|_| job.state == JobState::Succeeded)?;
    let weights = outcome
        .artifacts
        .iter()
        .find(|file| file.name == WEIGHTS_FILE)?;
    Some(&weights.blake3)
}

fn tokenizers(job: &JobRecord) -> BTreeMap<String, String> {
    let all = job.inputs.tokenizers.iter();
    all.map(|(name, tokenizer)| (name.clone(), tokenizer.blake3.clone()))
        .collect()
}

fn metrics(job: &JobRecord) -> BTreeMap<String, f64> {
    job.result
        .as_ref()
        .map_or_else(BTreeMap::new, |outcome| outcome.metrics.clone())
}

fn maps<V: Clone + Into<Value>>(
    a: &BTreeMap<String, V>,
    b: &BTreeMap<String, V>,
) -> Vec<Differing> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |of: &BTreeMap<String, V>, name: &str| {
        of.get(name)
            .map_or(Value::Null, |value| value.clone().into())
    };
    let all = names.into_iter();
    all.filter_map(|name| differing(name, value(a, name), value(b, name)))
        .collect()
}

/// The leaves of two specs that differ.
fn fields(a: &JobRecord, b: &JobRecord) -> Vec<Differing> {
    let leaves = |job: &JobRecord| {
        let mut leaves = BTreeMap::new();
        let spec = serde_json::to_value(&job.spec).unwrap_or_default();
        flatten(String::new(), spec, &mut leaves);
        leaves
    };
    let mut all = maps(&leaves(a), &leaves(b));
    all.truncate(FIELDS_MAX);
    all
}

fn flatten(path: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path.as_str() {
                    "" => name,
                    path => format!("{path}.{name}"),
                };
                flatten(path, value, into);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.into_iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, into);
            }
        }
        leaf => {
            into.insert(path, leaf);
        }
    }
}

/// The first step that both have a hash of, and not the same one.
fn diverged([a, b]: [&[Point]; 2]) -> Option<Interval> {
    let b: BTreeMap<u64, f64> = b.iter().map(|point| (point.step, point.value)).collect();
    let mut equal_after = 0;
    for point in a {
        match b.get(&point.step) {
            Some(value) if *value == point.value => equal_after = point.step,
            Some(_) => {
                return Some(Interval {
                    equal_after,
                    different_after: point.step,
                });
            }
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(values: &[(u64, f64)]) -> Vec<Point> {
        let point = |&(step, value)| Point {
            metric: TRACE.to_owned(),
            step,
            value,
        };
        values.iter().map(point).collect()
    }

    #[test]
    fn the_first_interval_that_differs_is_named() {
        let a = trace(&[(5, 1.0), (10, 2.0), (15, 3.0)]);
        // A hash that was lost widens the interval.
        let b = trace(&[(5, 1.0), (15, 4.0), (20, 5.0)]);
        let interval = Interval {
            equal_after: 5,
            different_after: 15,
        };
        assert_eq!(diverged([&a, &b]), Some(interval));
        assert_eq!(diverged([&a, &a]), None);
        assert_eq!(diverged([&a, &[]]), None);
    }

    #[test]
    fn leaves_have_paths() {
        let mut leaves = BTreeMap::new();
        let value = serde_json::json!({"a": {"b": [1, {"c": null}]}, "d": "x"});
        flatten(String::new(), value, &mut leaves);
        let names: Vec<&str> = leaves.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.b[0]", "a.b[1].c", "d"]);
    }
}
