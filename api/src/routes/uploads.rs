//! Uploads in parts, which go on where they broke: the bytes of a data set to be.

use actix_web::{HttpResponse, HttpResponseBuilder, delete, get, head, patch, post, web};
use serde_json::{Value, json};
use stoker_domain::UploadId;
use stoker_domain::port::{CatalogKind, Expect};
use stoker_domain::upload::{RECORD_VERSION, UploadRecord};
use stoker_domain::view::{Problem, UploadList, UploadView};

use super::catalog::{Once, Submitted};
use super::create_dataset::too_many;
use super::upload_store::UploadStore;
use crate::extract::{
    Announced, Authorized, IdempotencyKey, LENGTH_HEADER, Look, Make, OFFSET_HEADER, Offset,
    Params, path_name, read_body,
};
use crate::problem::ApiError;

/// Starts an upload in parts. Nothing is sent with it.
#[utoipa::path(tag = "datasets", params(
    ("size_bytes" = u64, Query, description = "length of the whole"),
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
), responses(
    (status = 201, body = UploadView, headers(("Location" = String), ("Upload-Offset" = u64, description = "where the next part begins"))),
    (status = "default", body = Problem),
))]
#[post("/v1/uploads")]
pub(crate) async fn create_upload(
    authorized: Authorized<Make>,
    key: IdempotencyKey,
    params: Params,
) -> Result<HttpResponse, ApiError> {
    params.only(&["size_bytes"])?;
    params.required("size_bytes")?;
    let size_bytes: u64 = params.parse("size_bytes")?.unwrap_or_default();
    let max = authorized.config.dataset_max_bytes;
    if size_bytes > max {
        return Err(ApiError::too_large("data set", max));
    }
    if size_bytes == 0 {
        let message = format!("0 is not in 1 to {max}");
        return Err(ApiError::invalid_field("size_bytes", message));
    }
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let once = Once::new(key, &[b"upload", size_bytes.to_string().as_bytes()]);
    if let Some(view) = once.earlier::<UploadView>(app, tenant).await? {
        return Ok(answer(HttpResponse::Created(), &view));
    }
    let store = UploadStore::of(&authorized);
    store.make_room().await?;
    let now = authorized.ports.clock.now();
    let record = UploadRecord {
        record_version: RECORD_VERSION,
        id: UploadId::generate(),
        size_bytes,
        created_at: now,
        expires_at: now.plus_millis(authorized.config.uploads.life.0),
        made: None,
    };
    store.write(&record).await?;
    let view = store.view(&record, 0);
    let answered = (CatalogKind::Dataset, None);
    let target = format!("upload {}", record.id);
    let after = json!({ "size_bytes": size_bytes });
    let audit = authorized.audit("create_upload", target, Value::Null, after);
    match once.submit(app, tenant, answered, &view, &[audit]).await {
        Ok(Submitted::Written | Submitted::Taken) => Ok(answer(HttpResponse::Created(), &view)),
        // Somebody was faster with the same key.
        Ok(Submitted::Earlier(first)) => {
            store.remove(record.id).await?;
            Ok(answer(HttpResponse::Created(), &first))
        }
        Err(error) => {
            store.remove(record.id).await?;
            Err(error)
        }
    }
}

fn answer(mut response: HttpResponseBuilder, view: &UploadView) -> HttpResponse {
    response
        .insert_header((OFFSET_HEADER, view.offset.to_string()))
        .insert_header((LENGTH_HEADER, view.size_bytes.to_string()))
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("Location", format!("/v1/uploads/{}", view.id)))
        .json(view)
}

/// The tenant's uploads that nothing was made of yet, the one that ends first in front.
#[utoipa::path(tag = "datasets", responses((status = 200, body = UploadList), (status = "default", body = Problem)))]
#[get("/v1/uploads")]
pub(crate) async fn list_uploads(
    authorized: Authorized<Look>,
    params: Params,
) -> Result<web::Json<UploadList>, ApiError> {
    params.only(&[])?;
    let store = UploadStore::of(&authorized);
    let mut uploads = Vec::new();
    for record in store.open().await? {
        let offset = store.reach(&record).await?.offset;
        uploads.push(store.view(&record, offset));
    }
    Ok(web::Json(UploadList { uploads }))
}

/// How far an upload is: the next part begins at its offset.
#[utoipa::path(tag = "datasets", params(("id" = UploadId, Path)), responses(
    (status = 200, body = UploadView, headers(("Upload-Offset" = u64, description = "where the next part begins"))),
    (status = "default", body = Problem),
))]
#[get("/v1/uploads/{id}")]
pub(crate) async fn get_upload(
    authorized: Authorized<Look>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    look(&authorized, &id).await
}

/// The same in headers alone: `Upload-Offset` and `Upload-Length`.
#[utoipa::path(tag = "datasets", params(("id" = UploadId, Path)), responses(
    (status = 200, description = "its headers say how far the upload is", headers(("Upload-Offset" = u64, description = "where the next part begins"))),
    (status = "default", description = "there is no such upload, or it can't be told"),
))]
#[head("/v1/uploads/{id}")]
pub(crate) async fn head_upload(
    authorized: Authorized<Look>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    look(&authorized, &id).await
}

async fn look(authorized: &Authorized<Look>, id: &str) -> Result<HttpResponse, ApiError> {
    let store = UploadStore::of(authorized);
    let record = store.find(path_name("upload", id)?).await?;
    let offset = store.reach(&record).await?.offset;
    Ok(answer(HttpResponse::Ok(), &store.view(&record, offset)))
}

/// Appends a part to an upload. A part is kept whole or not at all.
#[utoipa::path(tag = "datasets", params(
    ("id" = UploadId, Path),
    ("Upload-Offset" = u64, Header, description = "where the part begins: the upload's offset"),
    ("Content-BLAKE3" = Option<String>, Header, description = "BLAKE3 of the part, in hexadecimal digits"),
), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 200, body = UploadView, headers(("Upload-Offset" = u64, description = "where the next part begins"))),
    (status = 409, body = Problem, description = "the upload is at another offset, which the answer names"),
    (status = "default", body = Problem),
))]
#[patch("/v1/uploads/{id}")]
pub(crate) async fn append_upload(
    authorized: Authorized<Make>,
    id: web::Path<String>,
    offset: Result<Offset, ApiError>,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let store = UploadStore::of(&authorized);
    let record = store.find(path_name("upload", &id)?).await?;
    let Offset(offset) = offset?;
    let _permit = authorized.uploads.try_acquire().map_err(|_| too_many())?;
    let reach = store.reach(&record).await?;
    store.check_offset(&record, &reach, offset)?;
    let max = authorized.config.uploads.part_max_bytes;
    let part = read_body(&announced, payload, "part", max).await?;
    let offset = store.append(&record, offset, part).await?;
    Ok(answer(HttpResponse::Ok(), &store.view(&record, offset)))
}

/// Removes an upload. A data set that was made of it stays.
#[utoipa::path(tag = "datasets", params(("id" = UploadId, Path)), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/uploads/{id}")]
pub(crate) async fn delete_upload(
    authorized: Authorized<Make>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let store = UploadStore::of(&authorized);
    let record = store.find(path_name("upload", &id)?).await?;
    store.remove(record.id).await?;
    let before = json!({ "size_bytes": record.size_bytes, "made": record.made });
    let target = format!("upload {}", record.id);
    let audit = authorized.audit("delete_upload", target, before, Value::Null);
    // An upload isn't in the store, so that this can't be one step with its end.
    let put = (authorized.ports.catalog).put(
        audit.kind,
        &audit.tenant,
        &audit.key,
        &audit.value,
        Expect::Absent,
        &[],
    );
    put.await?;
    Ok(HttpResponse::NoContent().finish())
}
