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
mod enlarge;
mod epoch;
mod family;
mod fuse;
mod geometry;
mod graph;
mod image;
mod input;
mod limits;
mod lower;
mod norm;
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
pub use epoch::{count_held_out, count_steps};
pub use geometry::{Attention, Conv, PATCH_FLOATS, Part, Pool, Span, Tile, Upsample};
pub use input::{InputColumn, InputDescription, Target};
pub use limits::{ARENA_MAX_BYTES, CLASSES_MAX, PARAMETERS_MAX};
pub use op::{Kernel, Op, ParameterId, ValueId};
pub use plan::{Init, K_BLOCK, Masking, Order, Parameter, Plan, Value};
pub use quote::Quote;
pub use recurrent::Recurrence;
pub use split::{GROUPS_MAX, NORM_CHUNK};
pub use steps::{Normalise, Per, Scale, check_metrics, check_preprocess};

use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::spec::{JobSpec, ModelSpec, TrainSpec};

/// Compiles a model and its training to a plan.
///
/// # Errors
/// One error per field that is wrong, at paths such as `model.layers[3]` or `train.batch_size`.
pub fn compile(
    model: &ModelSpec,
    train: &TrainSpec,
    input: &InputDescription,
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
    let graph = fuse::fuse_norms(graph);
    let graph = autodiff::differentiate(graph);
    let graph = fuse::fuse(graph);
    let plan = lower::lower(graph, train, input).map_err(|error| vec![error])?;
    Ok(Plan {
        masking: family::masking(model, input),
        ..plan
    })
}

/// Describes a job's input by its data set's schema, checks the built-in steps and metrics, and
/// compiles the job: all that can be known of a job before it runs.
///
/// # Errors
/// As [`describe_input`] and [`compile`], with those of the steps and metrics.
pub fn compile_job(spec: &JobSpec, schema: &Schema) -> Result<Plan, Vec<FieldError>> {
    let mut errors = check_preprocess(&spec.preprocess);
    errors.extend(describe::check_own_target(spec, schema));
    let plan = describe_input(schema, &spec.data, &spec.train).and_then(|input| {
        errors.extend(check_metrics(&spec.metrics, input.target));
        compile(&spec.model, &spec.train, &input)
    });
    if let Ok(plan) = &plan {
        errors.extend(steps::check_tokens(&spec.preprocess, plan));
    }
    match plan {
        Ok(plan) if errors.is_empty() => Ok(plan),
        Ok(_) => Err(errors),
        Err(more) => Err([errors, more].concat()),
    }
}
