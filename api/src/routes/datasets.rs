//! Data sets: uploaded, parsed once in full, and kept as immutable versions.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, post, web};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use stoker_data::{DataError, Header, Limits};
use stoker_domain::dataset::{DataFormat, DatasetRecord, RECORD_VERSION};
use stoker_domain::port::CatalogKind;
use stoker_domain::view::{DatasetList, Problem};
use stoker_domain::{ErrorCode, FieldError, Ref, TenantId, object};
use tokio::io::AsyncReadExt;

use super::catalog::{self, Once, Submitted};
use crate::app::App;
use crate::extract::{
    Announced, Authorized, IdempotencyKey, Look, Make, Params, Upload, path_name,
};
use crate::problem::ApiError;

/// Versions tried against other uploads of the same name before giving up.
const TRIES: usize = 16;
/// Bytes sent to object storage at a time.
const PART_BYTES: usize = 8 << 20;
/// Parts in flight.
const PARTS_MAX: usize = 4;

const HEADERS: [(&str, Header); 3] = [
    ("auto", Header::Auto),
    ("yes", Header::Yes),
    ("no", Header::No),
];

/// Creates a version of a data set. The bytes of the newest version give that version again.
#[utoipa::path(tag = "datasets", params(
    ("name" = String, Query, description = "the data set's name"),
    ("format" = DataFormat, Query, description = "how the bytes are written"),
    ("header" = Option<String>, Query, description = "whether a CSV's first row names the columns: `auto` (default), `yes` or `no`"),
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
    ("Content-BLAKE3" = Option<String>, Header, description = "BLAKE3 of the body, in hexadecimal digits"),
), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 201, body = DatasetRecord),
    (status = 200, body = DatasetRecord, description = "the newest version has these bytes"),
    (status = "default", body = Problem),
))]
#[post("/v1/datasets")]
pub(crate) async fn create_dataset(
    authorized: Authorized<Make>,
    key: IdempotencyKey,
    params: Params,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    params.only(&["name", "format", "header"])?;
    let name = params.name("name")?;
    params.required("format")?;
    let format = params
        .one_of(
            "format",
            &DataFormat::ALL.map(|format| (format.as_str(), format)),
        )?
        .unwrap_or(DataFormat::Csv);
    let header = params.one_of("header", &HEADERS)?.unwrap_or_default();
    let _permit = authorized.uploads.try_acquire().map_err(|_| too_many())?;
    let config = &authorized.config;
    let (dir, max) = (config.spool_dir.as_deref(), config.dataset_max_bytes);
    let upload = Upload::receive(&announced, payload, dir, "data set", max).await?;
    let kind = format!("{format:?} {header:?}");
    let parts = ["dataset", &name, &kind, &upload.blake3].map(str::as_bytes);
    let once = Once::new(key, &parts);
    let tenant = &authorized.caller.tenant;
    if let Some(record) = once
        .earlier::<DatasetRecord>(authorized.app(), tenant)
        .await?
    {
        return Ok(HttpResponse::Created().json(record));
    }
    let draft = describe(&authorized, name, format, header, &upload).await?;
    let (record, is_new) = store(&authorized, once, draft, &upload).await?;
    Ok(if is_new {
        HttpResponse::Created().json(record)
    } else {
        HttpResponse::Ok().json(record)
    })
}

pub(super) fn too_many() -> ApiError {
    let detail = "too many uploads are in progress; try again";
    ApiError::new(ErrorCode::RateLimited, detail)
}

/// Parses the whole file. The record's version isn't known yet.
async fn describe(
    authorized: &Authorized<Make>,
    name: String,
    format: DataFormat,
    header: Header,
    upload: &Upload,
) -> Result<DatasetRecord, ApiError> {
    let file = upload.file.reopen().map_err(ApiError::unavailable)?;
    let limits = Limits {
        size_bytes: authorized.config.dataset_max_bytes,
        ..Limits::default()
    };
    let parsing = tokio::task::spawn_blocking(move || {
        stoker_data::describe(Box::new(file), format, header, &limits)
    });
    let described = parsing
        .await
        .map_err(ApiError::internal)?
        .map_err(refused)?;
    Ok(DatasetRecord {
        record_version: RECORD_VERSION,
        name,
        version: 0,
        format,
        header: described.header,
        delimiter: described.delimiter,
        blake3: upload.blake3.clone(),
        size_bytes: upload.size_bytes,
        schema: described.schema,
        created_at: authorized.ports.clock.now(),
    })
}

fn refused(error: DataError) -> ApiError {
    match error.code() {
        ErrorCode::InvalidInput => {
            ApiError::invalid(vec![FieldError::new("body", error.to_string())])
        }
        ErrorCode::Internal => ApiError::internal(error),
        code => ApiError::new(code, error.to_string()),
    }
}

/// Stores bytes, then record; `false` when the newest version is this one.
async fn store(
    authorized: &Authorized<Make>,
    once: Once,
    mut record: DatasetRecord,
    upload: &Upload,
) -> Result<(DatasetRecord, bool), ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let app = authorized.app();
    let location = Path::from(object::dataset(tenant, &record.blake3));
    for _ in 0..TRIES {
        let newest = newest_dataset(authorized.app(), tenant, &record.name).await?;
        let same = newest.as_ref().filter(|newest| {
            newest.blake3 == record.blake3
                && newest.format == record.format
                && newest.header == record.header
        });
        if let Some(newest) = same {
            put_bytes(&ports.objects, &location, upload).await?;
            let there = (CatalogKind::Dataset, None);
            return match once.submit(app, tenant, there, newest).await? {
                Submitted::Earlier(record) => Ok((record, true)),
                Submitted::Written | Submitted::Taken => Ok((newest.clone(), false)),
            };
        }
        record.version = newest.map_or(1, |newest| newest.version + 1);
        put_bytes(&ports.objects, &location, upload).await?;
        let key = format!("{}@{}", record.name, record.version);
        let new = (CatalogKind::Dataset, Some(key.as_str()));
        match once.clone().submit(app, tenant, new, &record).await? {
            Submitted::Written => {
                // The last other version with these bytes may have been deleted in between.
                put_bytes(&ports.objects, &location, upload).await?;
                return Ok((record, true));
            }
            Submitted::Earlier(record) => return Ok((record, true)),
            Submitted::Taken => {}
        }
    }
    let cause = format!("{TRIES} versions of {} were taken by others", record.name);
    Err(ApiError::unavailable(cause))
}

/// Puts the bytes where their hash says, unless they are there.
async fn put_bytes(
    objects: &Arc<dyn ObjectStore>,
    location: &Path,
    upload: &Upload,
) -> Result<(), ApiError> {
    match objects.head(location).await {
        Ok(meta) if meta.size == upload.size_bytes => return Ok(()),
        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let file = upload.file.reopen().map_err(ApiError::unavailable)?;
    let mut file = tokio::fs::File::from_std(file);
    if upload.size_bytes <= PART_BYTES as u64 {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .await
            .map_err(ApiError::unavailable)?;
        objects.put(location, PutPayload::from(bytes)).await?;
        return Ok(());
    }
    let upload = objects.put_multipart(location).await?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file
            .read(&mut buffer)
            .await
            .map_err(ApiError::unavailable)?;
        if count == 0 {
            break;
        }
        parts.wait_for_capacity(PARTS_MAX).await?;
        parts.write(&buffer[..count]);
    }
    parts.finish().await?;
    Ok(())
}

/// The newest version of that name.
pub(super) async fn newest_dataset(
    app: &App,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<DatasetRecord>, ApiError> {
    let prefix = format!("{name}@");
    let all: Vec<DatasetRecord> = catalog::all(app, CatalogKind::Dataset, tenant, &prefix).await?;
    Ok(all.into_iter().max_by_key(|record| record.version))
}

/// The tenant's data sets, all versions, by name.
#[utoipa::path(tag = "datasets", params(
    ("after" = Option<String>, Query, description = "`next` of the page before"),
    ("limit" = Option<u32>, Query, description = "most data sets on the page"),
), responses((status = 200, body = DatasetList), (status = "default", body = Problem)))]
#[get("/v1/datasets")]
pub(crate) async fn list_datasets(
    authorized: Authorized<Look>,
    params: Params,
) -> Result<web::Json<DatasetList>, ApiError> {
    params.only(&["after", "limit"])?;
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let after = params.text("after")?;
    let (datasets, next) = catalog::page(app, CatalogKind::Dataset, tenant, after, limit).await?;
    Ok(web::Json(DatasetList { datasets, next }))
}

/// One version of a data set; the newest when none is named.
#[utoipa::path(tag = "datasets", params(("reference" = Ref, Path, description = "`name@version` or `name`")), responses((status = 200, body = DatasetRecord), (status = "default", body = Problem)))]
#[get("/v1/datasets/{reference}")]
pub(crate) async fn get_dataset(
    authorized: Authorized<Look>,
    reference: web::Path<String>,
) -> Result<web::Json<DatasetRecord>, ApiError> {
    find(&authorized, &reference).await.map(web::Json)
}

pub(super) async fn find<P>(
    authorized: &Authorized<P>,
    reference: &str,
) -> Result<DatasetRecord, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let reference: Ref = path_name("data set", reference)?;
    let found = match reference.version {
        None => newest_dataset(app, tenant, &reference.name).await?,
        Some(_) => catalog::get(app, CatalogKind::Dataset, tenant, &reference.to_string()).await?,
    };
    found.ok_or_else(|| ApiError::not_found(format_args!("data set `{reference}`")))
}

/// Removes one version of a data set that no unfinished job uses.
#[utoipa::path(tag = "datasets", params(("reference" = Ref, Path, description = "`name@version`")), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/datasets/{reference}")]
pub(crate) async fn delete_dataset(
    authorized: Authorized<Make>,
    reference: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let reference: Ref = path_name("data set", &reference)?;
    if reference.version.is_none() {
        let message = "name the version to delete, as `name@version`";
        return Err(ApiError::invalid_field("reference", message));
    }
    let record = find(&authorized, &reference.to_string()).await?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    catalog::refuse_while_used(app, tenant, &format!("`{reference}`"), |job| {
        let name = reference.to_string();
        job.spec.data.dataset == reference || job.inputs.tokenizers.contains_key(&name)
    })
    .await?;
    let (ports, key) = (&authorized.ports, reference.to_string());
    ports
        .catalog
        .delete(CatalogKind::Dataset, tenant, &key)
        .await?;
    let others: Vec<DatasetRecord> = catalog::all(app, CatalogKind::Dataset, tenant, "").await?;
    if others.iter().all(|other| other.blake3 != record.blake3) {
        let location = Path::from(object::dataset(tenant, &record.blake3));
        match ports.objects.delete(&location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
