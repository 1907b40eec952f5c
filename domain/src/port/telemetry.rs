//! Metric points. They may be late and must never stop a run.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StoreError;
use crate::id::JobId;

/// Fewest points that a curve can be thinned to.
pub const SAMPLE_MIN: usize = 4;

/// One value of one metric. Its identity is (job, metric, step): the highest token wins, so that a
/// resumed attempt overwrites and never doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// The metric, such as `train.loss` or `test.accuracy`.
    pub metric: String,
    /// Optimiser steps done.
    pub step: u64,
    /// The value.
    pub value: f64,
}

/// Curves thinned to what a picture of them needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The points that were kept, by metric and step.
    pub points: Vec<Point>,
    /// How many points each metric has.
    pub totals: BTreeMap<String, u64>,
}

/// Metric points by job, wherever they lie.
#[async_trait]
pub trait Telemetry: Send + Sync {
    /// Stores points under `token`; those that a higher token wrote stay.
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError>;

    /// A job's points of one metric, or all, at `steps`, by metric and step; at most `limit`.
    async fn points(
        &self,
        job: JobId,
        metric: Option<&str>,
        steps: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Point>, StoreError>;

    /// The same, but at most `most` of each metric (at least [`SAMPLE_MIN`]): its first and last,
    /// and of each stretch of steps between them the least and the greatest.
    async fn sample(
        &self,
        job: JobId,
        metric: Option<&str>,
        steps: RangeInclusive<u64>,
        most: usize,
    ) -> Result<Sample, StoreError>;

    /// Removes a job's points.
    async fn delete_points(&self, job: JobId) -> Result<(), StoreError>;

    /// Jobs that have points in the store, from after `after`; at most `limit`.
    async fn jobs_to_compact(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError>;

    /// Moves what the store has of a job's points to where they may stay. Whatever is interrupted
    /// loses nothing.
    async fn compact(&self, job: JobId) -> Result<(), StoreError>;
}

/// A point of one metric with the token that wrote it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredPoint {
    /// Optimiser steps done.
    pub step: u64,
    /// Fencing token of the attempt.
    pub token: u64,
    /// The value.
    pub value: f64,
}

/// The newest metric points, by job and metric.
#[async_trait]
pub trait PointStore: Send + Sync {
    /// Stores points under `token`; those that a higher token wrote stay.
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError>;

    /// The metrics of which a job has points here, by name.
    async fn metrics(&self, job: JobId) -> Result<Vec<String>, StoreError>;

    /// A metric's points at `steps`, by step; at most `limit`.
    async fn stored_points(
        &self,
        job: JobId,
        metric: &str,
        steps: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError>;

    /// Removes exactly these points: one that was written anew since it was read stays.
    async fn remove_points(
        &self,
        job: JobId,
        metric: &str,
        points: &[StoredPoint],
    ) -> Result<(), StoreError>;

    /// Removes all points of a job.
    async fn delete_points(&self, job: JobId) -> Result<(), StoreError>;

    /// Jobs that have points here, by id, from after `after`; at most `limit`.
    async fn jobs_with_points(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError>;
}
