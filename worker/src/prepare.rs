//! From a data set's bytes to what the engine is fed with, by the steps of a job that make columns.

use std::collections::BTreeMap;

use stoker_data::{Chunks, DataError, Layout, Limits, Pipeline, Sides, is_by_batch};
use stoker_domain::dataset::{Column, DatasetRecord, Schema};
use stoker_domain::job::{Failure, FailureKind, Inputs};
use stoker_domain::spec::{JobSpec, PreprocessSpec};
use stoker_engine::{Table, TableBuilder, TargetKind, hold_out};

use crate::disk::{Disk, Scratch};

/// The rows of a data set after a job's steps.
pub(crate) struct Fed {
    /// Features and targets.
    pub(crate) table: std::sync::Arc<Table>,
    /// The columns that they came out of.
    pub(crate) schema: Schema,
    /// The columns of the data set that were read.
    pub(crate) read: Vec<Column>,
    /// What the steps took from the training rows.
    pub(crate) fitted: serde_json::Value,
    /// The names of the classes, where the target is text.
    pub(crate) labels: Option<Vec<String>>,
}

/// What a job's rows are made of.
pub(crate) struct Files {
    pub(crate) dataset: std::sync::Arc<Scratch>,
    /// By `name@version`.
    pub(crate) tokenizers: BTreeMap<String, Vec<u8>>,
    /// Whoever waits for the rows; without them reading ends.
    pub(crate) wanted: std::sync::Weak<()>,
}

/// What the rows that a job is fed with follow from: the data set's content, and what the job says
/// of columns, steps and target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableKey(String);

impl TableKey {
    pub(crate) fn of(spec: &JobSpec, inputs: &Inputs, dataset: &DatasetRecord) -> Self {
        let steps: Vec<&PreprocessSpec> = column_steps(spec).collect();
        let data = (&spec.data.features, &spec.data.target);
        // Where steps see the training rows, it matters which these are.
        let split = (!steps.is_empty()).then_some(&spec.data.split);
        let read = (dataset.format, dataset.header, dataset.delimiter);
        let takes_classes = spec.train.loss.takes_classes();
        let tokenizers = &inputs.tokenizers;
        let key = (
            &dataset.blake3,
            read,
            data,
            steps,
            tokenizers,
            split,
            takes_classes,
        );
        Self(serde_json::to_string(&key).unwrap_or_default())
    }
}

/// The steps that make columns.
fn column_steps(spec: &JobSpec) -> impl Iterator<Item = &PreprocessSpec> {
    spec.preprocess.iter().filter(|step| !is_by_batch(step))
}

/// Reads a data set and puts it through a job's steps.
///
/// # Errors
/// `user` when the steps don't fit, `data` when a row doesn't, `capacity` when there is no room for
/// the rows.
pub(crate) fn feed(
    (spec, inputs): (&JobSpec, &Inputs),
    dataset: &DatasetRecord,
    files: &Files,
    disk: &Disk,
) -> Result<Fed, Failure> {
    let mut pipeline = Pipeline::new(spec, &dataset.schema, inputs).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(FailureKind::User, lines.join("; "))
    })?;
    for (name, file) in &files.tokenizers {
        pipeline.give_tokenizer(name, file).map_err(wrong)?;
    }
    let (layout, limits) = (Layout::from(dataset), Limits::default());
    let columns = pipeline.columns().to_vec();
    let mut open = || -> Result<Chunks<'_>, DataError> {
        stoker_data::read(
            Box::new(files.dataset.reader(&files.wanted)),
            &layout,
            &columns,
            &limits,
        )
    };
    let mut sides = Sides::default();
    if pipeline.is_fitted() || !pipeline.keeps_rows() {
        let classes = match spec.data.split.stratify {
            true => Some(classes(&pipeline, open().map_err(wrong)?)?),
            false => None,
        };
        let rows = usize::try_from(dataset.schema.rows).unwrap_or(usize::MAX);
        sides = Sides::new(hold_out(&spec.data.split, rows, classes.as_deref())?);
    }
    pipeline.fit(&mut open, &sides).map_err(wrong)?;
    let rows = open().map_err(wrong)?;
    let table = assemble(spec, &mut pipeline, rows, &sides, disk)?;
    Ok(Fed {
        table: std::sync::Arc::new(table),
        schema: pipeline.schema().clone(),
        read: (dataset.schema.columns.iter())
            .filter(|column| columns.contains(&column.name))
            .cloned()
            .collect(),
        fitted: pipeline.save(),
        labels: pipeline.labels().map(<[String]>::to_vec),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "an error is given up")]
fn wrong(error: DataError) -> Failure {
    Failure::new(FailureKind::Data, error.to_string())
}

/// The class of each row of the data set, to be held out class by class.
fn classes(pipeline: &Pipeline, chunks: Chunks<'_>) -> Result<Vec<u32>, Failure> {
    let mut classes = Vec::new();
    for chunk in chunks {
        let chunk = chunk.map_err(wrong)?;
        classes.extend(pipeline.classes(&chunk).map_err(wrong)?);
    }
    Ok(classes)
}

/// The table of a job.
fn assemble(
    spec: &JobSpec,
    pipeline: &mut Pipeline,
    rows: Chunks<'_>,
    sides: &Sides,
    disk: &Disk,
) -> Result<Table, Failure> {
    let kind = match (&spec.data.target, spec.train.loss.takes_classes()) {
        (None, _) => TargetKind::Features,
        (Some(_), true) => TargetKind::Classes,
        (Some(_), false) => TargetKind::Values,
    };
    let keeps_rows = pipeline.keeps_rows();
    let mut builder = TableBuilder::new(kind, disk.memory_bytes, || disk.make_file());
    let mut held_out = Vec::new();
    let taken = pipeline.prepare(rows, sides, &mut |part| {
        let features = (part.features.as_slice(), part.width);
        let targets = (part.targets.as_slice(), part.target_width);
        builder.push(features, targets).map_err(Failure::from)?;
        if !keeps_rows {
            held_out.extend(part.held_out);
        }
        if builder.size_bytes() > disk.most_bytes {
            let message = format!(
                "the rows need more than {} bytes after all steps, which is all that this worker's disk_cache_bytes allows",
                disk.most_bytes
            );
            return Err(Failure::new(FailureKind::Capacity, message).into());
        }
        Ok::<(), Stopped>(())
    });
    taken.map_err(|Stopped(failure)| failure)?;
    let table = builder.finish()?;
    Ok(match keeps_rows {
        true => table,
        false => table.with_held_out(held_out)?,
    })
}

/// Why rows weren't taken to their end.
struct Stopped(Failure);

impl From<DataError> for Stopped {
    fn from(error: DataError) -> Self {
        Self(wrong(error))
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}
