//! Metric points in two places: the newest in the store, the others as Parquet files in object
//! storage.
//!
//! A point may be in several places at a time. Whatever holds it, the highest token wins, and of
//! one token what was written last; so merging the same points twice changes nothing, and no record
//! needs to tell which files count: all under a job's prefix do. Points are removed from a place
//! only once another has them, and a reader asks the store before it lists the files, so that none
//! is missed on its way.

mod file;
mod merge;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use stoker_domain::port::{
    Point, PointStore, SAMPLE_MIN, Sample, StoreError, StoredPoint, Telemetry,
};
use stoker_domain::{JobId, object};

use file::Name;
use merge::{merge, thin};

/// Points that a process adds to the store for one job before it moves them to a file.
const SPILL_POINTS: usize = 50_000;
/// Files of one metric that a running job may have before they are made one.
const FILES_MAX: usize = 16;
/// Jobs whose points are counted. Past that, counts begin anew.
const COUNTED_MAX: usize = 4_096;
/// Metrics read at a time.
const METRICS_AT_ONCE: usize = 8;
/// Tries to read files while others replace them.
const TRIES: usize = 5;

/// The [`Telemetry`] over a [`PointStore`] and object storage.
pub struct TieredPoints {
    store: Arc<dyn PointStore>,
    objects: Arc<dyn ObjectStore>,
    spill: usize,
    /// Points added since the last spill, by job.
    added: Mutex<HashMap<JobId, usize>>,
}

/// Every step.
const ALL: RangeInclusive<u64> = 0..=u64::MAX;

impl TieredPoints {
    /// Over these two.
    #[must_use]
    pub fn new(store: Arc<dyn PointStore>, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            objects,
            spill: SPILL_POINTS,
            added: Mutex::default(),
        }
    }

    /// Moves points to files after so many.
    #[must_use]
    pub fn spill_after(mut self, points: usize) -> Self {
        self.spill = points.max(1);
        self
    }

    /// Counts points; whether it is time to spill.
    fn count(&self, job: JobId, points: usize) -> bool {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        if added.len() >= COUNTED_MAX && !added.contains_key(&job) {
            added.clear();
        }
        let count = added.entry(job).or_default();
        *count += points;
        let full = *count >= self.spill;
        if full {
            added.remove(&job);
        }
        full
    }

    /// The metrics of which a job has points anywhere, by name. The store is asked first.
    async fn metrics(&self, job: JobId) -> Result<BTreeSet<String>, StoreError> {
        let mut metrics: BTreeSet<String> = self.store.metrics(job).await?.into_iter().collect();
        let prefix = Path::from(object::points(job));
        let listed = self.objects.list_with_delimiter(Some(&prefix)).await;
        for folder in listed.map_err(|error| away(&error))?.common_prefixes {
            metrics.extend(
                folder
                    .parts()
                    .next_back()
                    .and_then(|part| object::metric_of(part.as_ref())),
            );
        }
        Ok(metrics)
    }

    /// A metric's files, oldest first.
    async fn files(&self, job: JobId, metric: &str) -> Result<Vec<Name>, StoreError> {
        let prefix = Path::from(object::metric_points(job, metric));
        let listed = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location);
        let keys: Vec<Path> = listed.try_collect().await.map_err(|error| away(&error))?;
        let mut names: Vec<Name> = keys.into_iter().filter_map(Name::parse).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What files hold, each for itself; `None` when one is gone: others have taken its place.
    async fn read(&self, files: &[Name]) -> Result<Option<Vec<Vec<StoredPoint>>>, StoreError> {
        let mut lists = Vec::with_capacity(files.len());
        for file in files {
            let bytes = async { self.objects.get(file.key()).await?.bytes().await };
            let bytes = match bytes.await {
                Ok(bytes) => bytes,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(away(&error)),
            };
            let read = blocking(move || file::read(bytes)).await?;
            let corrupt = |why| StoreError::Corrupt(format!("{}: {why}", file.key()));
            lists.push(read.map_err(corrupt)?);
        }
        Ok(Some(lists))
    }

    /// A metric's points at `steps`, from wherever they lie, by step.
    async fn curve(
        &self,
        job: JobId,
        metric: &str,
        steps: &RangeInclusive<u64>,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        for _ in 0..TRIES {
            let newest = self
                .store
                .stored_points(job, metric, steps.clone(), usize::MAX)
                .await?;
            let mut files = self.files(job, metric).await?;
            files.retain(|file| file.may_hold(steps));
            if files.is_empty() {
                return Ok(newest);
            }
            if let Some(mut lists) = self.read(&files).await? {
                lists.push(newest);
                let steps = steps.clone();
                return blocking(move || {
                    let mut points = merge(lists);
                    points.retain(|point| steps.contains(&point.step));
                    points
                })
                .await;
            }
        }
        Err(StoreError::Unavailable(format!(
            "the files of {metric} were replaced {TRIES} times while they were read"
        )))
    }

    /// The curves of one metric, or all, by metric, a few read at a time.
    fn curves<'a>(
        &'a self,
        job: JobId,
        metrics: impl IntoIterator<Item = String> + 'a,
        steps: &'a RangeInclusive<u64>,
    ) -> impl futures::Stream<Item = Result<(String, Vec<StoredPoint>), StoreError>> + 'a {
        futures::stream::iter(metrics)
            .map(move |metric| async move {
                let points = self.curve(job, &metric, steps).await?;
                Ok((metric, points))
            })
            .buffered(METRICS_AT_ONCE)
    }

    async fn metrics_or(
        &self,
        job: JobId,
        metric: Option<&str>,
    ) -> Result<BTreeSet<String>, StoreError> {
        match metric {
            Some(metric) => Ok(BTreeSet::from([metric.to_owned()])),
            None => self.metrics(job).await,
        }
    }

    /// Moves what the store has of a metric to a file, and makes its files one when there are more
    /// than `files_max`.
    async fn move_out(&self, job: JobId, metric: &str, files_max: usize) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let newest = self
                .store
                .stored_points(job, metric, ALL, usize::MAX)
                .await?;
            let mut files = self.files(job, metric).await?;
            if files.len() + usize::from(!newest.is_empty()) <= files_max {
                files.clear();
            }
            if files.is_empty() && newest.is_empty() {
                return Ok(());
            }
            let Some(mut lists) = self.read(&files).await? else {
                continue;
            };
            lists.push(newest.clone());
            let written = blocking(move || file::write(merge(lists))).await?;
            let (range, bytes) = written.map_err(StoreError::Corrupt)?;
            let name = Name::new(&object::metric_points(job, metric), range);
            let put = self.objects.put(name.key(), PutPayload::from(bytes));
            put.await.map_err(|error| away(&error))?;
            for file in files {
                match self.objects.delete(file.key()).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(away(&error)),
                }
            }
            return self.store.remove_points(job, metric, &newest).await;
        }
        Ok(())
    }

    async fn move_all_out(&self, job: JobId, files_max: usize) -> Result<(), StoreError> {
        for metric in self.store.metrics(job).await? {
            self.move_out(job, &metric, files_max).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Telemetry for TieredPoints {
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError> {
        self.store.append_points(job, token, points).await?;
        if self.count(job, points.len())
            && let Err(error) = self.move_all_out(job, FILES_MAX).await
        {
            // They are safe where they are; the next time will take them.
            tracing::warn!(job.id = %job, %error, "metric points stay in the store");
        }
        Ok(())
    }

    async fn points(
        &self,
        job: JobId,
        metric: Option<&str>,
        steps: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Point>, StoreError> {
        let metrics = self.metrics_or(job, metric).await?;
        let mut curves = std::pin::pin!(self.curves(job, metrics, &steps));
        let mut points = Vec::new();
        while points.len() < limit
            && let Some((metric, curve)) = curves.try_next().await?
        {
            let left = limit - points.len();
            points.extend(curve.iter().take(left).map(|point| named(&metric, point)));
        }
        Ok(points)
    }

    async fn sample(
        &self,
        job: JobId,
        metric: Option<&str>,
        steps: RangeInclusive<u64>,
        most: usize,
    ) -> Result<Sample, StoreError> {
        let metrics = self.metrics_or(job, metric).await?;
        let mut curves = std::pin::pin!(self.curves(job, metrics, &steps));
        let mut sample = Sample::default();
        while let Some((metric, curve)) = curves.try_next().await? {
            if curve.is_empty() {
                continue;
            }
            let kept = thin(&curve, most.max(SAMPLE_MIN));
            sample
                .points
                .extend(kept.iter().map(|point| named(&metric, point)));
            sample.totals.insert(metric, curve.len() as u64);
        }
        Ok(sample)
    }

    async fn delete_points(&self, job: JobId) -> Result<(), StoreError> {
        self.store.delete_points(job).await?;
        let prefix = Path::from(object::points(job));
        let locations = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location);
        let deleted = self.objects.delete_stream(locations.boxed());
        let gone = deleted.try_for_each(|_| async { Ok(()) }).await;
        gone.map_err(|error| away(&error))
    }

    async fn jobs_to_compact(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        self.store.jobs_with_points(after, limit).await
    }

    async fn compact(&self, job: JobId) -> Result<(), StoreError> {
        self.move_all_out(job, 1).await
    }
}

fn named(metric: &str, point: &StoredPoint) -> Point {
    Point {
        metric: metric.to_owned(),
        step: point.step,
        value: point.value,
    }
}

fn away(error: &object_store::Error) -> StoreError {
    StoreError::Unavailable(format!("object storage: {error}"))
}

/// Work that would hold other requests up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Unavailable(error.to_string()))
}
