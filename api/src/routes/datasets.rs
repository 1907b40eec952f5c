//! Data sets: immutable versions, parsed once in full when they are created.

use actix_web::{HttpResponse, delete, get, web};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use stoker_domain::dataset::DatasetRecord;
use stoker_domain::port::CatalogKind;
use stoker_domain::view::{DatasetList, Problem};
use stoker_domain::{Ref, TenantId, object};

use super::catalog;
use crate::app::App;
use crate::extract::{Authorized, Look, Make, Params, path_name};
use crate::problem::ApiError;

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
