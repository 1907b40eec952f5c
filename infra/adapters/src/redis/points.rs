//! [`PointStore`] over Redis.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use redis::Cmd;
use stoker_domain::JobId;
use stoker_domain::port::{Point, PointStore, StoreError, StoredPoint};

use super::jobs::job_ids;
use super::{RedisStore, script};

/// Points written or removed by one script: it blocks the server meanwhile.
const POINTS_PER_SCRIPT: usize = 500;
/// Points read by one command.
const POINTS_PER_READ: usize = 10_000;

#[async_trait]
impl PointStore for RedisStore {
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError> {
        let mut by_metric: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
        for point in points {
            by_metric.entry(&point.metric).or_default().push(point);
        }
        for (metric, points) in by_metric {
            for chunk in points.chunks(POINTS_PER_SCRIPT) {
                let mut call = script::APPEND_POINTS.prepare_invoke();
                call.key(self.keys.points(job, metric))
                    .key(self.keys.metrics(job))
                    .key(self.keys.jobs_with_points())
                    .arg(metric)
                    .arg(job.to_string())
                    .arg(token);
                for point in chunk {
                    call.arg(point.step).arg(point.value.to_string());
                }
                self.script::<u64>(&call).await?;
            }
        }
        Ok(())
    }

    async fn metrics(&self, job: JobId) -> Result<Vec<String>, StoreError> {
        let mut metrics: Vec<String> = self.command(&Cmd::smembers(self.keys.metrics(job))).await?;
        metrics.sort_unstable();
        Ok(metrics)
    }

    async fn stored_points(
        &self,
        job: JobId,
        metric: &str,
        steps: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        let (mut from, to) = steps.into_inner();
        let mut points: Vec<StoredPoint> = Vec::new();
        while points.len() < limit {
            let count = (limit - points.len()).min(POINTS_PER_READ);
            let key = self.keys.points(job, metric);
            let count = isize::try_from(count).unwrap_or(isize::MAX);
            let asked = Cmd::zrangebyscore_limit(key, from, to, 0, count);
            let members: Vec<String> = self.command(&asked).await?;
            for member in &members {
                points.push(parse(member)?);
            }
            match points.last() {
                Some(last) if members.len() == count.unsigned_abs() => from = last.step + 1,
                _ => break,
            }
        }
        Ok(points)
    }

    async fn remove_points(
        &self,
        job: JobId,
        metric: &str,
        points: &[StoredPoint],
    ) -> Result<(), StoreError> {
        for chunk in points.chunks(POINTS_PER_SCRIPT) {
            let mut call = script::REMOVE_POINTS.prepare_invoke();
            call.key(self.keys.points(job, metric))
                .key(self.keys.metrics(job))
                .key(self.keys.jobs_with_points())
                .arg(metric)
                .arg(job.to_string());
            for StoredPoint { step, token, value } in chunk {
                call.arg(format!("{step}:{token}:{value}"));
            }
            self.script::<u64>(&call).await?;
        }
        Ok(())
    }

    async fn delete_points(&self, job: JobId) -> Result<(), StoreError> {
        let metrics = self.metrics(job).await?;
        let mut delete = redis::cmd("UNLINK");
        delete.arg(self.keys.metrics(job));
        for metric in metrics {
            delete.arg(self.keys.points(job, &metric));
        }
        let forget = Cmd::zrem(self.keys.jobs_with_points(), job.to_string());
        let mut both = redis::pipe();
        both.atomic().add_command(delete).ignore();
        both.add_command(forget).ignore();
        self.pipeline(&both).await
    }

    async fn jobs_with_points(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let limit = isize::try_from(limit).unwrap_or(isize::MAX);
        let asked = Cmd::zrangebylex_limit(self.keys.jobs_with_points(), from, "+", 0, limit);
        let ids: Vec<String> = self.command(&asked).await?;
        job_ids(&ids)
    }
}

/// A point written as `step:token:value`.
fn parse(member: &str) -> Result<StoredPoint, StoreError> {
    let mut parts = member.splitn(3, ':');
    let mut part = || parts.next().unwrap_or_default();
    match (part().parse(), part().parse(), part().parse()) {
        (Ok(step), Ok(token), Ok(value)) => Ok(StoredPoint { step, token, value }),
        _ => Err(StoreError::Corrupt(format!("{member:?} is not a point"))),
    }
}
