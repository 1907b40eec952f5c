//! Trains a recommender on MovieLens 100k, as a user's job would. `make data NAMES=ml-100k` fetches
//! the ratings; where they aren't, there is nothing to show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use stoker_domain::dataset::{Column, ColumnKind, Schema, Statistics};
use stoker_domain::spec::{Format, JobSpec, Measure};
use stoker_engine::{
    Control, Cpu, EngineError, MetricSource, Observer, Outcome, Run, RunInput, StepReport, Table,
    Targets,
};
use stoker_model::compile_job;

const JOB: &str = include_str!("../../../examples/ratings/job.toml");

/// User, item and rating, the oldest first.
fn ratings() -> Option<Vec<[f32; 3]>> {
    let cache = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(cache.or_else(home)?.join("stoker/data"))
    };
    let folder = std::env::var_os("STOKER_SAMPLES_DIR").map(PathBuf::from);
    let path = folder.or_else(cache)?.join("ml-100k/ratings.csv");
    let text = std::fs::read_to_string(path).ok()?;
    let row = |line: &str| {
        let mut fields = line.split(',').map(|field| field.parse().unwrap());
        [(); 3].map(|()| fields.next().unwrap())
    };
    Some(text.lines().skip(1).map(row).collect())
}

fn column(name: &str, rows: &[[f32; 3]], index: usize) -> Column {
    let values = rows.iter().map(|row| f64::from(row[index]));
    Column {
        name: name.to_owned(),
        kind: if index < 2 {
            ColumnKind::Integer
        } else {
            ColumnKind::Float
        },
        shape: Vec::new(),
        statistics: Some(Statistics {
            min: values.clone().fold(f64::INFINITY, f64::min),
            max: values.fold(0.0, f64::max),
            mean: 0.0,
            deviation: 1.0,
            distinct: None,
        }),
    }
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &StepReport) {}
    fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}

#[test]
fn later_ratings_are_foretold_better_than_by_biases_alone() {
    let Some(rows) = ratings() else {
        eprintln!("no ratings: `make data NAMES=ml-100k` fetches them");
        return;
    };
    let schema = Schema {
        rows: rows.len() as u64,
        columns: (["user", "item", "rating"].into_iter().enumerate())
            .map(|(index, name)| column(name, &rows, index))
            .collect(),
    };
    let spec = JobSpec::parse(JOB, Format::Toml).unwrap();
    let plan = compile_job(&spec, &schema).unwrap();
    let features = rows.iter().flat_map(|row| [row[0], row[1]]).collect();
    let values = rows.iter().map(|row| row[2]).collect();
    let table = Table::new(features, 2, Targets::Values { values, width: 1 }).unwrap();
    let input = RunInput {
        plan: Arc::new(plan),
        table: Arc::new(table),
        split: &spec.data.split,
        preprocess: Vec::new(),
        metrics: vec![MetricSource::builtin(Measure::Rmse)],
        resume: None,
    };
    let cpu = Cpu::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let outcome = Run::new(&cpu, input).unwrap().run(&mut Silent).unwrap();
    let Outcome::Finished(finished) = outcome else {
        panic!("not finished: {outcome:?}")
    };
    let error = finished.metrics["test.rmse"];
    eprintln!("RMSE {error:.4}");
    assert!(
        error <= 1.03,
        "{error} on the last fifth; biases reach 1.0335"
    );
}
