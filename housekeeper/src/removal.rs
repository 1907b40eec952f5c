//! The end of a job, with all it left.

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use stoker_domain::port::{Document, JobStore, Telemetry};
use stoker_domain::{JobId, object};

use crate::HousekeepingError;

/// Removes a job and all it left behind, and writes `also` with that. The record goes last, so that a
/// removal that was cut off can be repeated.
///
/// # Errors
/// When the store or object storage can't be reached.
pub async fn delete_job(
    (jobs, telemetry, objects): (&dyn JobStore, &dyn Telemetry, &dyn ObjectStore),
    id: JobId,
    also: &[Document],
) -> Result<(), HousekeepingError> {
    delete_under(objects, object::job(id)).await?;
    telemetry.delete_points(id).await?;
    jobs.delete_job(id, also).await?;
    Ok(())
}

/// Removes all objects whose key begins with these parts; how many there were.
pub(crate) async fn delete_under(
    objects: &dyn ObjectStore,
    prefix: String,
) -> Result<u64, HousekeepingError> {
    let prefix = Path::from(prefix);
    let locations = objects.list(Some(&prefix)).map_ok(|found| found.location);
    let mut deleted = objects.delete_stream(locations.boxed());
    let mut count = 0;
    while let Some(gone) = deleted.next().await {
        match gone {
            Ok(_) => count += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

/// Removes an object, if it is there.
pub(crate) async fn delete_object(
    objects: &dyn ObjectStore,
    key: &Path,
) -> Result<(), HousekeepingError> {
    match objects.delete(key).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
