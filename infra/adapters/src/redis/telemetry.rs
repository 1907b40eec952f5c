//! [`Telemetry`] over Redis.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::Cmd;
use stoker_domain::JobId;
use stoker_domain::port::{Point, StoreError, Telemetry};

use super::{RedisStore, script};

/// Points written by one script: it blocks the server meanwhile.
const POINTS_PER_SCRIPT: usize = 500;
/// Points read by one command.
const POINTS_PER_READ: usize = 10_000;

#[async_trait]
impl Telemetry for RedisStore {
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
                    .arg(metric)
                    .arg(token);
                for point in chunk {
                    call.arg(point.step).arg(point.value.to_string());
                }
                self.script::<u64>(&call).await?;
            }
        }
        Ok(())
    }

    async fn points(
        &self,
        job: JobId,
        metric: Option<&str>,
        from_step: u64,
        limit: usize,
    ) -> Result<Vec<Point>, StoreError> {
        let metrics = match metric {
            Some(metric) => vec![metric.to_owned()],
            None => self.metrics(job).await?,
        };
        let mut points = Vec::new();
        for metric in metrics {
            self.read_points(job, &metric, from_step, limit, &mut points)
                .await?;
        }
        Ok(points)
    }

    async fn delete_points(&self, job: JobId) -> Result<(), StoreError> {
        let metrics = self.metrics(job).await?;
        let mut delete = redis::cmd("UNLINK");
        delete.arg(self.keys.metrics(job));
        for metric in metrics {
            delete.arg(self.keys.points(job, &metric));
        }
        self.command::<u64>(&delete).await.map(|_| ())
    }
}

impl RedisStore {
    async fn metrics(&self, job: JobId) -> Result<Vec<String>, StoreError> {
        let mut metrics: Vec<String> = self.command(&Cmd::smembers(self.keys.metrics(job))).await?;
        metrics.sort_unstable();
        Ok(metrics)
    }

    /// Adds a metric's points, until there are `limit`.
    async fn read_points(
        &self,
        job: JobId,
        metric: &str,
        mut from_step: u64,
        limit: usize,
        points: &mut Vec<Point>,
    ) -> Result<(), StoreError> {
        while points.len() < limit {
            let count = (limit - points.len()).min(POINTS_PER_READ);
            let key = self.keys.points(job, metric);
            let count = isize::try_from(count).unwrap_or(isize::MAX);
            let asked = Cmd::zrangebyscore_limit(key, from_step, "+inf", 0, count);
            let members: Vec<String> = self.command(&asked).await?;
            for member in &members {
                points.push(point(metric, member)?);
            }
            match points.last() {
                Some(last) if members.len() == count.unsigned_abs() => from_step = last.step + 1,
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

/// A point written as `step:token:value`.
fn point(metric: &str, member: &str) -> Result<Point, StoreError> {
    let mut parts = member.splitn(3, ':');
    let mut part = || parts.next().unwrap_or_default();
    let (step, _token, value) = (part().parse(), part(), part().parse());
    match (step, value) {
        (Ok(step), Ok(value)) => Ok(Point {
            metric: metric.to_owned(),
            step,
            value,
        }),
        _ => Err(StoreError::Corrupt(format!("{member:?} is not a point"))),
    }
}
