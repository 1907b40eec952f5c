//! [`PointStore`] over SQLite.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use stoker_domain::JobId;
use stoker_domain::port::{Point, PointStore, StoreError, StoredPoint};

use super::change::{integer, run};
use super::database::failed;
use super::jobs::rows_max;
use super::store::EmbeddedStore;

#[async_trait]
impl PointStore for EmbeddedStore {
    async fn append_points(
        &self,
        job: JobId,
        token: u64,
        points: &[Point],
    ) -> Result<(), StoreError> {
        if points.is_empty() {
            return Ok(());
        }
        let (job, token, points) = (job.to_string(), integer(token)?, points.to_vec());
        self.points
            .writer
            .write(move |db| append(db, &job, token, &points))
            .await
    }

    async fn metrics(&self, job: JobId) -> Result<Vec<String>, StoreError> {
        let read = move |db: &Connection| {
            let sql = "SELECT metric FROM series WHERE job = ?1 ORDER BY metric";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let rows = statement.query_map([job.to_string()], |row| row.get(0));
            rows.map_err(failed)?
                .collect::<Result<_, _>>()
                .map_err(failed)
        };
        self.points.readers.read(read).await
    }

    async fn stored_points(
        &self,
        job: JobId,
        metric: &str,
        steps: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        let metric = metric.to_owned();
        // SQLite's integers are signed.
        let [from, to] =
            [*steps.start(), *steps.end()].map(|step| i64::try_from(step).unwrap_or(i64::MAX));
        let read = move |db: &Connection| {
            let sql = "SELECT step, token, value FROM series JOIN point ON series = id
                       WHERE job = ?1 AND metric = ?2 AND step BETWEEN ?3 AND ?4
                       ORDER BY step LIMIT ?5";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let values = params![job.to_string(), metric, from, to, rows_max(limit)];
            let rows = statement.query_map(values, stored).map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)
        };
        self.points.readers.read(read).await
    }

    async fn remove_points(
        &self,
        job: JobId,
        metric: &str,
        points: &[StoredPoint],
    ) -> Result<(), StoreError> {
        let (job, metric, points) = (job.to_string(), metric.to_owned(), points.to_vec());
        let write = move |db: &Connection| match series(db, &job, &metric)? {
            Some(series) => remove(db, series, &points),
            None => Ok(()),
        };
        self.points.writer.write(write).await
    }

    async fn delete_points(&self, job: JobId) -> Result<(), StoreError> {
        let job = job.to_string();
        let write = move |db: &Connection| {
            let points = "DELETE FROM point WHERE series IN (SELECT id FROM series WHERE job = ?1)";
            run(db, points, params![job])?;
            run(db, "DELETE FROM series WHERE job = ?1", params![job])
        };
        self.points.writer.write(write).await
    }

    async fn jobs_with_points(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let read = move |db: &Connection| {
            let sql = "SELECT DISTINCT job FROM series WHERE job > ?1 ORDER BY job LIMIT ?2";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let rows = statement.query_map(params![after, rows_max(limit)], |row| row.get(0));
            let ids = rows.map_err(failed)?.collect::<Result<Vec<String>, _>>();
            ids.map_err(failed)?
                .iter()
                .map(|id| id.parse::<JobId>())
                .collect::<Result<_, _>>()
                .map_err(|error| StoreError::Corrupt(error.to_string()))
        };
        self.points.readers.read(read).await
    }
}

/// SQLite stores what isn't a number as `NULL`.
fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredPoint> {
    Ok(StoredPoint {
        step: row.get::<_, i64>(0)?.unsigned_abs(),
        token: row.get::<_, i64>(1)?.unsigned_abs(),
        value: row.get::<_, Option<f64>>(2)?.unwrap_or(f64::NAN),
    })
}

fn append(
    connection: &Connection,
    job: &str,
    token: i64,
    points: &[Point],
) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached(
            "INSERT INTO point (series, step, token, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET token = ?3, value = ?4 WHERE token <= ?3",
        )
        .map_err(failed)?;
    // Points of one metric mostly come together.
    let mut known: Option<(&str, i64)> = None;
    for point in points {
        let series = match known {
            Some((metric, series)) if metric == point.metric => series,
            _ => series_made(connection, job, &point.metric)?,
        };
        known = Some((&point.metric, series));
        insert
            .execute(params![series, integer(point.step)?, token, point.value])
            .map_err(failed)?;
    }
    Ok(())
}

fn remove(connection: &Connection, series: i64, points: &[StoredPoint]) -> Result<(), StoreError> {
    let mut delete = connection
        .prepare_cached(
            "DELETE FROM point WHERE series = ?1 AND step = ?2 AND token = ?3 AND value IS ?4",
        )
        .map_err(failed)?;
    for StoredPoint { step, token, value } in points {
        delete
            .execute(params![series, integer(*step)?, integer(*token)?, value])
            .map_err(failed)?;
    }
    run(
        connection,
        "DELETE FROM series
         WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM point WHERE series = ?1)",
        params![series],
    )
}

fn series(connection: &Connection, job: &str, metric: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM series WHERE job = ?1 AND metric = ?2")
        .and_then(|mut statement| {
            let found = statement.query_row(params![job, metric], |row| row.get(0));
            found.optional()
        })
        .map_err(failed)
}

fn series_made(connection: &Connection, job: &str, metric: &str) -> Result<i64, StoreError> {
    if let Some(series) = series(connection, job, metric)? {
        return Ok(series);
    }
    connection
        .prepare_cached("INSERT INTO series (job, metric) VALUES (?1, ?2) RETURNING id")
        .and_then(|mut statement| statement.query_row(params![job, metric], |row| row.get(0)))
        .map_err(failed)
}
