//! What a job has produced.

use actix_web::body::SizedStream;
use actix_web::http::header::{self, ETag, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, get, web};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use object_store::signer::Method;
use stoker_domain::job::Artifact;
use stoker_domain::view::Problem;
use stoker_domain::{JobId, object};

use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// The files that a job has produced; none before it has succeeded.
#[utoipa::path(tag = "jobs", params(("id" = JobId, Path)), responses((status = 200, body = Vec<Artifact>), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/artifacts")]
pub(crate) async fn list_artifacts(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
) -> Result<web::Json<Vec<Artifact>>, ApiError> {
    let record = authorized.job(&id).await?;
    let artifacts = record.result.map(|outcome| outcome.artifacts);
    Ok(web::Json(artifacts.unwrap_or_default()))
}

/// One file that a job has produced.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("name" = String, Path, description = "the artifact's name"),
    ("redirect" = Option<bool>, Query, description = "answer with a presigned URL where the object storage can make one"),
), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream", headers(("ETag" = String, description = "BLAKE3 of the bytes"))),
    (status = 304, description = "the caller has it already"),
    (status = 307, description = "a presigned URL", headers(("Location" = String))),
    (status = "default", body = Problem),
))]
#[get("/v1/jobs/{id}/artifacts/{name}")]
pub(crate) async fn get_artifact(
    authorized: Authorized<Within<Look>>,
    path: web::Path<(String, String)>,
    params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    params.only(&["redirect"])?;
    let redirect = params.parse("redirect")?.unwrap_or(false);
    let (id, name) = path.into_inner();
    let record = authorized.job(&id).await?;
    let outcome = record.result.as_ref();
    let (token, artifact) = outcome
        .and_then(|outcome| {
            let mut artifacts = outcome.artifacts.iter();
            Some((outcome.token, artifacts.find(|found| found.name == name)?))
        })
        .ok_or_else(|| ApiError::not_found(format_args!("artifact {name:?} of {id}")))?;
    let etag = EntityTag::new_strong(artifact.blake3.clone());
    if has_already(&request, &etag) {
        return Ok(HttpResponse::NotModified()
            .insert_header(ETag(etag))
            .finish());
    }
    let location = Path::from(object::artifact(record.id, token, &artifact.name));
    let ports = &authorized.ports;
    if let (true, Some(signer)) = (redirect, &ports.signer) {
        let life = authorized.config.presigned_life.into();
        let url = signer.signed_url(Method::GET, &location, life).await?;
        return Ok(HttpResponse::TemporaryRedirect()
            .insert_header((header::LOCATION, url.to_string()))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish());
    }
    let found = ports.objects.get(&location).await?;
    if found.meta.size != artifact.size_bytes {
        let (size, expected) = (found.meta.size, artifact.size_bytes);
        let cause = format!("{location} has {size} bytes, {expected} were committed");
        return Err(ApiError::internal(cause));
    }
    let bytes = found.into_stream().map_err(std::io::Error::other);
    Ok(HttpResponse::Ok()
        .insert_header(ETag(etag))
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_DISPOSITION, "attachment"))
        .body(SizedStream::new(artifact.size_bytes, bytes)))
}

fn has_already(request: &HttpRequest, etag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(items)) => items.iter().any(|item| item.weak_eq(etag)),
        _ => false,
    }
}
