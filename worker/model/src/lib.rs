//! Compiles a spec to a plan: model → layers → graph → gradients → fused kernels → arena.
//!
//! Everything here is a pure function of the spec and of a description of its input: no I/O, no
//! clock, no device. So the API can refuse or quote a job with the very code that runs it.

mod arena;
mod autodiff;
mod autoencoder;
mod columns;
mod concat;
mod describe;
mod duration;
mod ends;
mod enlarge;
mod epoch;
mod family;
mod fuse;
mod geometry;
mod graph;
mod image;
mod input;
mod lengths;
mod limits;
mod lower;
mod metric;
mod norm;
mod onnx;
mod op;
mod plan;
mod quote;
mod recommender;
mod recurrent;
mod sequence;
mod shape;
mod split;
mod steps;
#[cfg(test)]
mod tests;

pub use describe::describe_input;
pub use duration::{Work, WorkKind};
pub use ends::Ends;
pub use epoch::count_steps;
pub use geometry::{Attention, Conv, PATCH_FLOATS, Part, Pool, Span, Tile, Upsample};
pub use input::{InputColumn, InputDescription, Target};
pub use lengths::Padding;
pub use limits::{ARENA_MAX_BYTES, CLASSES_MAX, PARAMETERS_MAX};
pub use metric::{
    Average, BuiltinMetric, CURVES_MAX, Labels, MetricKind, check_metrics, fit_metric,
};
pub use onnx::{OnnxError, write_onnx};
pub use op::{Kernel, Op, ParameterId, ValueId};
pub use plan::{Init, K_BLOCK, Masking, Order, Parameter, Plan, Value};
pub use quote::Quote;
pub use recurrent::Recurrence;
pub use split::{GROUPS_MAX, NORM_CHUNK};
pub use steps::{Axis, Flip, Normalise, Of, Per, RandomCrop, Scale, check_preprocess};

use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::spec::{DataSpec, JobSpec, ModelSpec, TrainSpec};

use graph::Graph;

/// Compiles a model and its training to a plan.
///
/// # Errors
/// One error per field that is wrong, at paths such as `model.layers[3]` or `train.batch_size`.
pub fn compile(
    model: &ModelSpec,
    train: &TrainSpec,
    input: &InputDescription,
) -> Result<Plan, Vec<FieldError>> {
    compile_padded(model, train, input, &[], None)
}

/// The same for rows of sequences that `padding` fills after their end, where it is given, with a
/// body for each of `lengths` that is shorter than the rows: ascending, and the last one no
/// shorter.
///
/// # Errors
/// As [`compile`], and at `data.padding` or `data.lengths`, when the model's rows have no end or
/// it can't be cut to a length.
pub fn compile_padded(
    model: &ModelSpec,
    train: &TrainSpec,
    input: &InputDescription,
    lengths: &[u32],
    padding: Option<f32>,
) -> Result<Plan, Vec<FieldError>> {
    let invalid: Vec<FieldError> = (model.validate().into_iter().map(|e| e.under("model")))
        .chain(train.validate().into_iter().map(|e| e.under("train")))
        .collect();
    if !invalid.is_empty() {
        return Err(invalid);
    }
    if let Some(error) = describe::check_loss(&train.loss, input.target) {
        return Err(vec![error]);
    }
    let layers = family::expand(model, input).map_err(|error| vec![error.under("model")])?;
    let graph = graph::build(&layers, input).map_err(|error| vec![error.under("model")])?;
    let plan = match padding {
        Some(value) => lengths::compile(&layers, graph, (train, input), (lengths, value)),
        None => finish(graph, train, input),
    };
    let plan = plan.map_err(|error| vec![error])?;
    Ok(Plan {
        masking: family::masking(model, input),
        ..plan
    })
}

/// From the forward graph to the plan.
fn finish(graph: Graph, train: &TrainSpec, input: &InputDescription) -> Result<Plan, FieldError> {
    let graph = fuse::fuse_norms(graph);
    let graph = autodiff::differentiate(graph);
    let graph = fuse::fuse(graph);
    lower::lower(graph, train, input)
}

/// Describes a job's input by its data set's schema, checks the built-in steps and metrics, and
/// compiles the job: all that can be known of a job before it runs.
///
/// # Errors
/// As [`describe_input`] and [`compile`], with those of the steps and metrics.
pub fn compile_job(spec: &JobSpec, schema: &Schema) -> Result<Plan, Vec<FieldError>> {
    let mut errors = check_preprocess(spec);
    errors.extend(describe::check_own_target(spec, schema));
    let plan = describe_input(schema, &spec.data, &spec.train).and_then(|input| {
        errors.extend(check_metrics(&spec.metrics, &input, &spec.train.loss));
        let DataSpec {
            lengths, padding, ..
        } = &spec.data;
        compile_padded(&spec.model, &spec.train, &input, lengths, *padding)
    });
    if let Ok(plan) = &plan {
        errors.extend(steps::check_tokens(&spec.preprocess, plan));
        errors.extend(steps::check_pictures(&spec.preprocess, plan));
        if plan.padding.is_some() && spec.data.target.is_none() && !plan.input.target.per_position()
        {
            let message = "the model predicts its own features, and would learn the padding";
            errors.push(FieldError::new("data.padding", message));
        }
    }
    match plan {
        Ok(plan) if errors.is_empty() => Ok(plan),
        Ok(_) => Err(errors),
        Err(more) => Err([errors, more].concat()),
    }
}
