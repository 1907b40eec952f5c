//! [`Telemetry`] over SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, params};
use stoker_domain::JobId;
use stoker_domain::port::{Point, StoreError, Telemetry};

use super::change::{integer, run};
use super::database::failed;
use super::jobs::rows_max;
use super::store::EmbeddedStore;

#[async_trait]
impl Telemetry for EmbeddedStore {
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

    async fn points(
        &self,
        job: JobId,
        metric: Option<&str>,
        from_step: u64,
        limit: usize,
    ) -> Result<Vec<Point>, StoreError> {
        let (metric, from_step) = (metric.map(str::to_owned), integer(from_step)?);
        let read = move |db: &Connection| {
            let sql = "SELECT metric, step, value FROM series JOIN point ON series = id
                       WHERE job = ?1 AND (?2 IS NULL OR metric = ?2) AND step >= ?3
                       ORDER BY metric, step LIMIT ?4";
            let mut statement = db.prepare_cached(sql).map_err(failed)?;
            let values = params![job.to_string(), metric, from_step, rows_max(limit)];
            let rows = statement.query_map(values, point).map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)
        };
        self.points.readers.read(read).await
    }

    async fn delete_points(&self, job: JobId) -> Result<(), StoreError> {
        let write = move |db: &Connection| {
            let points = "DELETE FROM point WHERE series IN (SELECT id FROM series WHERE job = ?1)";
            run(db, points, params![job.to_string()])?;
            run(
                db,
                "DELETE FROM series WHERE job = ?1",
                params![job.to_string()],
            )
        };
        self.points.writer.write(write).await
    }
}

/// SQLite stores what isn't a number as `NULL`.
fn point(row: &rusqlite::Row<'_>) -> rusqlite::Result<Point> {
    Ok(Point {
        metric: row.get(0)?,
        step: row.get::<_, i64>(1)?.unsigned_abs(),
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
            _ => series(connection, job, &point.metric)?,
        };
        known = Some((&point.metric, series));
        insert
            .execute(params![series, integer(point.step)?, token, point.value])
            .map_err(failed)?;
    }
    Ok(())
}

fn series(connection: &Connection, job: &str, metric: &str) -> Result<i64, StoreError> {
    run(
        connection,
        "INSERT INTO series (job, metric) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![job, metric],
    )?;
    connection
        .prepare_cached("SELECT id FROM series WHERE job = ?1 AND metric = ?2")
        .and_then(|mut statement| statement.query_row(params![job, metric], |row| row.get(0)))
        .map_err(failed)
}
