//! Tests of the whole engine: against a reference in double precision, and against itself.

mod autoencoder;
mod clip;
mod columns;
mod determinism;
mod disk;
mod gradients;
mod guard;
mod images;
mod lengths;
mod losses;
mod metrics;
mod norms;
mod pictures;
mod predict;
mod properties;
mod ranks;
mod recommender;
mod recorded;
mod recurrent;
mod reference;
mod resnet;
mod resume;
mod selection;
mod sequence;
mod sequence_families;
mod trajectory;
mod unet;
mod windows;

use std::num::NonZeroUsize;
use std::sync::Arc;

use stoker_domain::spec::{MetricSpec, ModelSpec, SplitSpec, TrainSpec};
use stoker_model::{InputDescription, Plan, Target, compile, fit_metric};

use crate::cpu::simd::Level;
use crate::philox::{Purpose, Stream};
use crate::table::Row;
use crate::{
    Control, Cpu, EngineError, Finished, MetricSource, Observer, Outcome, Run, RunInput,
    StepReport, Table, TableBuilder, TargetKind, TargetRows, Targets,
};

/// Numbers in -1 to 1.
fn numbers(count: usize, site: u16) -> Vec<f32> {
    let stream = Stream::new(77, Purpose::Init, site, 0);
    (0..count as u64)
        .map(|index| (stream.word64(index) as f64 / 2_f64.powi(63) - 1.0) as f32)
        .collect()
}

/// Targets for `rows` rows.
fn targets(rows: usize, target: Target) -> Targets {
    match target {
        Target::Classes(count) => {
            let stream = Stream::new(78, Purpose::Init, 0, 0);
            let classes = (0..rows as u64).map(|row| stream.below(row, count as u64) as u32);
            Targets::Classes(classes.collect())
        }
        Target::Sequence { classes, positions } => {
            self::targets(rows * positions, Target::Classes(classes))
        }
        Target::Masked { .. } => Targets::Features,
        Target::Values(width) | Target::Quantiles { values: width, .. } => Targets::Values {
            values: numbers(rows * width, 9),
            width,
        },
    }
}

/// A built-in metric of a plan's target.
fn measure(name: &str, plan: &Plan) -> MetricSource {
    let spec: MetricSpec = serde_json::from_str(&format!("{{\"builtin\": \"{name}\"}}")).unwrap();
    MetricSource::builtin(fit_metric(&spec, &plan.input, &plan.train.loss).unwrap())
}

fn as_rows(targets: &Targets) -> TargetRows<'_> {
    match targets {
        Targets::Classes(classes) => TargetRows::Classes(classes),
        Targets::Values { values, .. } => TargetRows::Values(values),
        Targets::Features => unreachable!("the features are at hand"),
    }
}

/// The same table in a file, which is gone with it.
fn on_disk(table: &Table) -> Table {
    let mut builder = TableBuilder::new(table.kind(), 0, tempfile::tempfile);
    let width = table.width();
    let look = &mut |_, row: Row<'_>| {
        let targets: Vec<f32> = match (table.kind(), row.targets) {
            (TargetKind::Features, _) => Vec::new(),
            (_, TargetRows::Classes(classes)) => classes.iter().map(|&x| x as f32).collect(),
            (_, TargetRows::Values(values)) => values.to_vec(),
        };
        builder.push((row.features, width), (&targets, targets.len()))
    };
    table.visit(0..table.rows() as u64, look).unwrap();
    let table = (builder.finish().unwrap()).with_window_bytes(table.window_bytes());
    assert!(table.is_on_disk());
    table
}

fn plan(model: &str, train: &str, width: usize, target: Target) -> Arc<Plan> {
    let model: ModelSpec = serde_json::from_str(model).unwrap();
    let train: TrainSpec = serde_json::from_str(train).unwrap();
    let input = InputDescription {
        width,
        shape: vec![width],
        vocabulary: None,
        columns: Vec::new(),
        target,
    };
    Arc::new(compile(&model, &train, &input).unwrap())
}

pub(crate) fn cpu(threads: usize, level: Level) -> Cpu {
    Cpu::with_level(NonZeroUsize::new(threads).unwrap(), level).unwrap()
}

/// Keeps what a run tells, and pauses it after `pause_at`.
#[derive(Default)]
struct Watch {
    losses: Vec<u64>,
    rates: Vec<f64>,
    evaluations: Vec<(u64, Vec<(String, f64)>)>,
    checkpoints: Vec<(u64, Vec<u8>)>,
    pause_at: Option<u64>,
}

impl Observer for Watch {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss.to_bits());
        self.rates.push(report.learning_rate);
    }
    fn evaluated(&mut self, step: u64, _epoch: u64, metrics: &[(String, f64)]) {
        self.evaluations.push((step, metrics.to_vec()));
    }
    fn checkpoint(&mut self, step: u64, bytes: Vec<u8>) -> Result<(), EngineError> {
        self.checkpoints.push((step, bytes));
        Ok(())
    }
    fn control(&mut self) -> Control {
        match self.pause_at {
            Some(step) if self.losses.len() as u64 == step => Control::Pause,
            _ => Control::Continue,
        }
    }
}

const SPLIT: SplitSpec = SplitSpec {
    test: 0.2,
    shuffle: true,
    seed: 3,
    stratify: false,
};

fn input<'a>(plan: &Arc<Plan>, table: &Arc<Table>, resume: Option<&'a [u8]>) -> RunInput<'a> {
    RunInput {
        plan: Arc::clone(plan),
        table: Arc::clone(table),
        split: &SPLIT,
        preprocess: Vec::new(),
        metrics: Vec::new(),
        resume,
    }
}

fn finished(outcome: Outcome) -> Finished {
    match outcome {
        Outcome::Finished(finished) => finished,
        other => panic!("not finished: {other:?}"),
    }
}

/// A run from start to end.
fn run(cpu: &Cpu, input: RunInput<'_>) -> (Finished, Watch) {
    let mut watch = Watch::default();
    let outcome = Run::new(cpu, input).unwrap().run(&mut watch).unwrap();
    (finished(outcome), watch)
}
