//! The one call into the compiler: what a job's spec comes to on its data set.

use stoker_data::Pipeline;
use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::job::Inputs;
use stoker_domain::spec::JobSpec;
use stoker_model::Plan;

/// A compiled job, and how many rows it trains on and holds out, where that is known before any is
/// read.
pub(crate) struct Compiled {
    pub(crate) plan: Plan,
    pub(crate) rows: Option<[u64; 2]>,
}

/// Compiles a job as the engine will: what fails here would fail there. A new job's plan is thrown
/// away, a quote is read off it.
///
/// # Errors
/// One error per field that is wrong.
pub(crate) fn compile(
    spec: &JobSpec,
    schema: &Schema,
    inputs: &Inputs,
) -> Result<Compiled, Vec<FieldError>> {
    let pipeline = Pipeline::new(spec, schema, inputs)?;
    let plan = stoker_model::compile_job(spec, pipeline.schema())?;
    Ok(Compiled {
        plan,
        rows: pipeline.counts(),
    })
}
