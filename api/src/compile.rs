//! The one call into the compiler: what a job's spec comes to on its data set.

use stoker_domain::FieldError;
use stoker_domain::dataset::Schema;
use stoker_domain::spec::JobSpec;

/// Compiles a job as the engine will, and throws the plan away: what fails here would fail there.
///
/// # Errors
/// One error per field that is wrong.
pub(crate) fn check(spec: &JobSpec, schema: &Schema) -> Result<(), Vec<FieldError>> {
    stoker_model::compile_job(spec, schema).map(drop)
}
