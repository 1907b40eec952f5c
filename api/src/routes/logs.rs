//! A job's log, read from the chunks that its workers wrote.

use actix_web::{get, web};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use stoker_domain::view::{LogLine, LogList, Problem};
use stoker_domain::{JobId, object};

use crate::app::App;
use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// Most chunks of one job.
const CHUNKS_MAX: usize = 100_000;
/// Lines of a page when the request doesn't say.
const LINES_DEFAULT: usize = 1_000;

/// A job's log, by attempt and time. `from` counts lines, over all attempts.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("from" = Option<u64>, Query, description = "first line; 0 when absent"),
    ("limit" = Option<u32>, Query, description = "most lines on the page"),
), responses((status = 200, body = LogList), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/logs")]
pub(crate) async fn list_logs(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
) -> Result<web::Json<LogList>, ApiError> {
    params.only(&["from", "limit"])?;
    let from: u64 = params.parse("from")?.unwrap_or(0);
    let max = authorized.config.points_max;
    let limit = match params.text("limit")? {
        Some(_) => params.limit(&authorized.config, max)?,
        None => LINES_DEFAULT.min(max),
    };
    let record = authorized.job(&id).await?;
    let mut lines = Vec::new();
    let mut skip = from;
    for chunk in chunks(&authorized, record.id).await? {
        if lines.len() >= limit {
            break;
        }
        let (name, size) = (chunk.location.as_ref(), chunk.size);
        if let Some(count) = authorized.log_lines.get(name, size).filter(|&n| n <= skip) {
            skip -= count;
            continue;
        }
        let content = read_chunk(authorized.app(), &chunk).await?;
        authorized.log_lines.put(name, size, content.len() as u64);
        let wanted = content
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX));
        lines.extend(wanted.take(limit - lines.len()).cloned());
        skip = skip.saturating_sub(content.len() as u64);
    }
    let next = from + lines.len() as u64;
    Ok(web::Json(LogList { lines, next }))
}

/// The job's log chunks, by token and number.
async fn chunks(
    authorized: &Authorized<Within<Look>>,
    id: JobId,
) -> Result<Vec<ObjectMeta>, ApiError> {
    let prefix = object_store::path::Path::from(object::job(id));
    let mut found: Vec<((u64, u64), ObjectMeta)> = Vec::new();
    let mut objects = authorized.ports.objects.list(Some(&prefix));
    while let Some(meta) = objects.try_next().await? {
        if let Some(place) = place_of(meta.location.as_ref()) {
            found.push((place, meta));
        }
        if found.len() >= CHUNKS_MAX {
            break;
        }
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, meta)| meta).collect())
}

/// Token and number of a log chunk; `None` for other objects. The inverse of
/// [`object::log_chunk`].
fn place_of(key: &str) -> Option<(u64, u64)> {
    let mut parts = key.split('/').skip(2);
    let token = parts.next()?.parse().ok()?;
    let number = match (parts.next()?, parts.next()?, parts.next()) {
        ("logs", file, None) => file.strip_suffix(".jsonl")?.parse().ok()?,
        _ => return None,
    };
    Some((token, number))
}

/// A chunk's lines. One that can't be read doesn't hide the others.
async fn read_chunk(app: &App, chunk: &ObjectMeta) -> Result<Vec<LogLine>, ApiError> {
    let bytes = app
        .ports
        .objects
        .get(&chunk.location)
        .await?
        .bytes()
        .await?;
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_chunk_is_known_by_its_key() {
        let id = JobId::generate();
        assert_eq!(place_of(&object::log_chunk(id, 12, 7)), Some((12, 7)));
        assert_eq!(place_of(&object::checkpoint(id, 12, 7)), None);
        assert_eq!(place_of(&object::artifact(id, 1, "logs")), None);
    }
}
