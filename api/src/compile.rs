//! The one call into the compiler: what a job's spec comes to on its data set.

use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::spec::JobSpec;
use stoker_model::Plan;

/// Compiles a job as the engine will: what fails here would fail there. A new job's plan is thrown
/// away, a quote is read off it.
///
/// # Errors
/// One error per field that is wrong.
pub(crate) fn plan(spec: &JobSpec, schema: &Schema) -> Result<Plan, Vec<FieldError>> {
    stoker_model::compile_job(spec, schema)
}
