//! Training the MNIST CNN from rows in a file beside training it from rows in memory: `make
//! bench-data`. `bench-disk MNIST.npz [EPOCHS]`, two unless it is said. The ten thousand digits are there several times, so
//! that they fill several windows, and the file's pages are dropped from the system's cache before
//! each run. Prints a JSON line of medians; both sides must give the same weights.

#![expect(
    clippy::print_stdout,
    reason = "a bench reports on its standard output"
)]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::cell::RefCell;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Advice, fadvise};
use stoker_data::{DataError, Header, Layout, Limits, Pipeline, Sides};
use stoker_domain::JobSpec;
use stoker_domain::dataset::DataFormat;
use stoker_domain::job::Inputs;
use stoker_domain::spec::Format;
use stoker_engine::{
    Control, Cpu, EngineError, Finished, Observer, Outcome, Preprocess, Run, RunInput, StepReport,
    Table, TableBuilder, TargetKind,
};
use stoker_model::Plan;

/// How often each digit is there: 190 MB of rows, of which a window has 34.
const COPIES: usize = 6;
/// Runs of each side, in turns.
const ROUNDS: usize = 5;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("no file of MNIST")?;
    let mut spec = JobSpec::parse(include_str!("../examples/mnist/job.toml"), Format::Toml)
        .map_err(|errors| format!("{errors:?}"))?;
    spec.train.epochs = Some(arguments.next().map_or(Ok(2), |epochs| epochs.parse())?);
    let (tables, plan, file) = load(&path, &spec)?;
    let cpu = Cpu::new(NonZeroUsize::new(2).ok_or("no threads")?)?;
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let mut weights = Vec::new();
        for (table, seconds) in tables.iter().zip(&mut seconds) {
            fadvise(&file, 0, None, Advice::DontNeed)?;
            let step = &spec.preprocess[0];
            let step = Preprocess::builtin(step, &plan.input).map_err(|e| e.to_string())?;
            let input = RunInput {
                plan: Arc::clone(&plan),
                table: Arc::clone(table),
                split: &spec.data.split,
                preprocess: step.into_iter().collect(),
                metrics: Vec::new(),
                resume: None,
            };
            let begin = Instant::now();
            weights.push(train(&cpu, input)?.weights);
            if round > 0 {
                seconds.push(begin.elapsed().as_secs_f64());
            }
        }
        if weights[0] != weights[1] {
            return Err("the weights differ".into());
        }
    }
    report(&tables[1], &mut seconds);
    Ok(())
}

/// The rows in memory and in a file, what they are trained by, and the file.
fn load(path: &str, spec: &JobSpec) -> Fallible<([Arc<Table>; 2], Arc<Plan>, File)> {
    let source = Box::new(File::open(path)?);
    let limits = Limits::default();
    let mut found = stoker_data::describe(source, DataFormat::Npz, Header::Auto, &limits)?;
    let mut pipeline =
        Pipeline::new(spec, &found.schema, &Inputs::default()).map_err(|e| format!("{e:?}"))?;
    let layout = Layout {
        format: DataFormat::Npz,
        header: found.header,
        delimiter: None,
        schema: Some(found.schema.clone()),
    };
    let file = RefCell::new(None);
    let mut table = |memory_bytes| -> Fallible<Arc<Table>> {
        let make = || {
            let made = tempfile::tempfile()?;
            *file.borrow_mut() = Some(made.try_clone()?);
            Ok(made)
        };
        let mut builder = TableBuilder::new(TargetKind::Classes, memory_bytes, make);
        let columns = pipeline.columns().to_vec();
        for _ in 0..COPIES {
            let source = Box::new(File::open(path)?);
            let rows = stoker_data::read(source, &layout, &columns, &limits)?;
            pipeline.prepare(rows, &Sides::default(), &mut |part| {
                let features = (part.features.as_slice(), part.width);
                let pushed = builder.push(features, (&part.targets, part.target_width));
                pushed.map_err(|error| DataError::Malformed(error.to_string()))
            })?;
        }
        Ok(Arc::new(builder.finish()?))
    };
    let tables = [table(u64::MAX)?, table(0)?];
    let file = file.into_inner().ok_or("nothing was written")?;
    file.sync_all()?;
    found.schema.rows *= COPIES as u64;
    let plan = stoker_model::compile_job(spec, &found.schema).map_err(|e| format!("{e:?}"))?;
    Ok((tables, Arc::new(plan), file))
}

fn report(table: &Table, seconds: &mut [Vec<f64>; 2]) {
    seconds
        .iter_mut()
        .for_each(|all| all.sort_by(f64::total_cmp));
    let [memory, disk] = [&seconds[0], &seconds[1]].map(|all| all[all.len() / 2]);
    println!(
        "{{\"disk_over_memory\": {:.3}, \"memory_s\": {memory:.2}, \"disk_s\": {disk:.2}, \"file_mb\": {}}}",
        disk / memory,
        table.size_bytes() / 1_000_000
    );
}

fn train(cpu: &Cpu, input: RunInput<'_>) -> Fallible<Finished> {
    match Run::new(cpu, input)?.run(&mut Quiet)? {
        Outcome::Finished(finished) => Ok(finished),
        other => Err(format!("not finished: {other:?}").into()),
    }
}

struct Quiet;

impl Observer for Quiet {
    fn step(&mut self, _: &StepReport) {}
    fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        Control::Continue
    }
}
