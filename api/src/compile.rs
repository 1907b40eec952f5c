//! The one call into the compiler: what a job's spec comes to on its data set.

use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::spec::JobSpec;
use stoker_model::Quote;

/// Compiles a job as the engine will, and throws the plan away: what fails here would fail there.
/// What is left of it is what it will take.
///
/// # Errors
/// One error per field that is wrong.
pub(crate) fn quote(spec: &JobSpec, schema: &Schema) -> Result<Quote, Vec<FieldError>> {
    stoker_model::compile_job(spec, schema).map(|plan| plan.quote())
}
