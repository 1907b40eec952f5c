//! Data sets: immutable versions, parsed once in full when they are created.

use actix_web::{HttpResponse, delete, get, web};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};
use stoker_domain::dataset::DatasetRecord;
use stoker_domain::port::{CatalogKind, Expect, Put};
use stoker_domain::view::{DatasetList, Problem};
use stoker_domain::{Ref, TenantId, object};

use super::catalog;
use crate::app::App;
use crate::extract::{Authorized, Look, Make, Params, path_name};
use crate::problem::ApiError;

/// Times a write is tried against those of others before giving up.
pub(super) const TRIES: usize = 16;

/// What the audit log says of a data set.
pub(super) fn told(record: &DatasetRecord) -> Value {
    json!({
        "blake3": record.blake3,
        "size_bytes": record.size_bytes,
        "format": record.format,
        "rows": record.schema.rows,
        "source": record.source,
    })
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

/// The version that comes after `newest` of a data set. What was deleted counts: its number isn't
/// given to other bytes. Look for `newest` first, see [`mark_deleted`].
pub(super) async fn next_version(
    app: &App,
    tenant: &TenantId,
    name: &str,
    newest: Option<&DatasetRecord>,
) -> Result<u64, ApiError> {
    let deleted: u64 = catalog::get(app, CatalogKind::DatasetMark, tenant, name)
        .await?
        .unwrap_or(0);
    Ok(newest.map_or(0, |newest| newest.version).max(deleted) + 1)
}

/// Keeps in mind that a version was there.
async fn mark_deleted(
    app: &App,
    tenant: &TenantId,
    record: &DatasetRecord,
) -> Result<(), ApiError> {
    let (kind, catalog) = (CatalogKind::DatasetMark, &app.ports.catalog);
    for _ in 0..TRIES {
        let found = catalog.get(kind, tenant, &record.name).await?;
        let marked = found.as_ref().and_then(|entry| entry.value.as_u64());
        if marked.is_some_and(|version| version >= record.version) {
            return Ok(());
        }
        let expect = found.map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
        let value = record.version.into();
        if catalog
            .put(kind, tenant, &record.name, &value, expect, &[])
            .await?
            == Put::Written
        {
            return Ok(());
        }
    }
    let cause = format!("others delete versions of {} at the same time", record.name);
    Err(ApiError::unavailable(cause))
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
    // First the mark: whoever finds the version gone then finds that it was there.
    mark_deleted(app, tenant, &record).await?;
    let audit = authorized.audit(
        "delete_dataset",
        format!("data set {reference}"),
        told(&record),
        Value::Null,
    );
    ports
        .catalog
        .delete(CatalogKind::Dataset, tenant, &key, &[audit])
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
