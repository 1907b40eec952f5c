//! Metric points. They may be late and must never stop a run.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StoreError;
use crate::id::JobId;

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

/// Metric points by job.
#[async_trait]
pub trait Telemetry: Send + Sync {
    /// Stores points under `token`; those that a higher token wrote stay.
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError>;

    /// A job's points of one metric, or all, by metric and step, from `from_step` on; at most
    /// `limit`.
    async fn points(
        &self,
        job: JobId,
        metric: Option<&str>,
        from_step: u64,
        limit: usize,
    ) -> Result<Vec<Point>, StoreError>;

    /// Removes a job's points.
    async fn delete_points(&self, job: JobId) -> Result<(), StoreError>;
}
