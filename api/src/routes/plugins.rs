//! Plugins: uploaded, screened and compiled, and kept as immutable versions.

use actix_web::{HttpResponse, delete, get, post, web};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};
use stoker_domain::plugin::{PluginRecord, PluginState, RECORD_VERSION};
use stoker_domain::port::{CatalogKind, CompileError, CompiledPlugin};
use stoker_domain::view::{PluginList, Problem};
use stoker_domain::{ErrorCode, JobRecord, Ref, object};

use super::catalog::{self, Once, Submitted};
use super::create_dataset::too_many;
use crate::extract::{
    Announced, Authorized, IdempotencyKey, Look, Make, Params, path_name, read_body,
};
use crate::problem::ApiError;

/// Creates a version of a plugin. The same bytes again give the same version.
#[utoipa::path(tag = "plugins", params(
    ("name" = String, Query, description = "the plugin's name"),
    ("version" = String, Query, description = "the version, of your choice"),
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
    ("Content-BLAKE3" = Option<String>, Header, description = "BLAKE3 of the body, in hexadecimal digits"),
), request_body(content = Vec<u8>, content_type = "application/wasm"), responses(
    (status = 201, body = PluginRecord),
    (status = 200, body = PluginRecord, description = "the version is there, with these bytes"),
    (status = "default", body = Problem),
))]
#[post("/v1/plugins")]
pub(crate) async fn create_plugin(
    authorized: Authorized<Make>,
    idempotency: IdempotencyKey,
    params: Params,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    params.only(&["name", "version"])?;
    let (name, version) = (params.name("name")?, params.name("version")?);
    let _permit = authorized.uploads.try_acquire().map_err(|_| too_many())?;
    let max = authorized.config.plugin_max_bytes;
    let module = read_body(&announced, payload, "plugin", max).await?;
    let blake3 = blake3::hash(&module).to_hex().to_string();
    let key = format!("{name}@{version}");
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let parts = ["plugin", &key, &blake3].map(str::as_bytes);
    let once = Once::new(idempotency, &parts);
    if let Some(record) = once.earlier::<PluginRecord>(app, tenant).await? {
        return Ok(HttpResponse::Created().json(record));
    }
    let there = (CatalogKind::Plugin, None);
    if let Some(existing) = existing(&authorized, &key, &blake3).await? {
        restore(&authorized, &existing, &module).await?;
        once.submit(app, tenant, there, &existing, &[]).await?;
        return Ok(HttpResponse::Ok().json(existing));
    }
    let compiled = compile(&authorized, &module).await?;
    put_objects(&authorized, &blake3, &module, &compiled).await?;
    let record = PluginRecord {
        record_version: RECORD_VERSION,
        name,
        version,
        role: compiled.role,
        state: PluginState::Ready {},
        blake3,
        size_bytes: module.len() as u64,
        config_schema: compiled.config_schema,
        created_at: authorized.ports.clock.now(),
    };
    let new = (CatalogKind::Plugin, Some(key.as_str()));
    let target = format!("plugin {key}");
    let audit = authorized.audit("create_plugin", target, Value::Null, told(&record));
    match once.submit(app, tenant, new, &record, &[audit]).await? {
        Submitted::Written => return Ok(HttpResponse::Created().json(record)),
        Submitted::Earlier(earlier) => return Ok(HttpResponse::Created().json(earlier)),
        Submitted::Taken => {}
    }
    match existing(&authorized, &key, &record.blake3).await? {
        Some(existing) => Ok(HttpResponse::Ok().json(existing)),
        None => Err(ApiError::unavailable(
            "a plugin was removed while it was made",
        )),
    }
}

/// What the audit log says of a plugin.
fn told(record: &PluginRecord) -> Value {
    json!({ "blake3": record.blake3, "size_bytes": record.size_bytes, "role": record.role })
}

/// The version that is there, if it has these bytes; 409 if it has others.
async fn existing(
    authorized: &Authorized<Make>,
    key: &str,
    blake3: &str,
) -> Result<Option<PluginRecord>, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let found: Option<PluginRecord> = catalog::get(app, CatalogKind::Plugin, tenant, key).await?;
    match found {
        Some(found) if found.blake3 != blake3 => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("`{key}` is there with other bytes, and versions never change: take a new one"),
        )),
        found => Ok(found),
    }
}

async fn compile(authorized: &Authorized<Make>, module: &[u8]) -> Result<CompiledPlugin, ApiError> {
    let compiled = authorized.ports.compiler.compile(module).await;
    compiled.map_err(|error| match error {
        CompileError::Rejected(reason) => ApiError::new(ErrorCode::PluginRejected, reason),
        CompileError::Internal(_) => ApiError::unavailable(error),
    })
}

/// Compiles a known plugin for this engine build, if that wasn't done before.
async fn restore(
    authorized: &Authorized<Make>,
    record: &PluginRecord,
    module: &[u8],
) -> Result<(), ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let engine_hash = ports.compiler.engine_hash();
    let artifact = object::plugin_artifact(tenant, &record.blake3, &engine_hash);
    match ports.objects.head(&Path::from(artifact)).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { .. }) => {
            let compiled = compile(authorized, module).await?;
            put_objects(authorized, &record.blake3, module, &compiled).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn put_objects(
    authorized: &Authorized<Make>,
    blake3: &str,
    module: &[u8],
    compiled: &CompiledPlugin,
) -> Result<(), ApiError> {
    let (objects, tenant) = (&authorized.ports.objects, &authorized.caller.tenant);
    let location = Path::from(object::plugin_module(tenant, blake3));
    objects
        .put(&location, PutPayload::from(module.to_vec()))
        .await?;
    let artifact = object::plugin_artifact(tenant, blake3, &compiled.engine_hash);
    let payload = PutPayload::from(compiled.artifact.clone());
    objects.put(&Path::from(artifact), payload).await?;
    Ok(())
}

/// The tenant's plugins, all versions, by name.
#[utoipa::path(tag = "plugins", params(
    ("after" = Option<String>, Query, description = "`next` of the page before"),
    ("limit" = Option<u32>, Query, description = "most plugins on the page"),
), responses((status = 200, body = PluginList), (status = "default", body = Problem)))]
#[get("/v1/plugins")]
pub(crate) async fn list_plugins(
    authorized: Authorized<Look>,
    params: Params,
) -> Result<web::Json<PluginList>, ApiError> {
    params.only(&["after", "limit"])?;
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let after = params.text("after")?;
    let (plugins, next) = catalog::page(app, CatalogKind::Plugin, tenant, after, limit).await?;
    Ok(web::Json(PluginList { plugins, next }))
}

/// One version of a plugin.
#[utoipa::path(tag = "plugins", params(("reference" = Ref, Path, description = "`name@version`")), responses((status = 200, body = PluginRecord), (status = "default", body = Problem)))]
#[get("/v1/plugins/{reference}")]
pub(crate) async fn get_plugin(
    authorized: Authorized<Look>,
    reference: web::Path<String>,
) -> Result<web::Json<PluginRecord>, ApiError> {
    find(&authorized, &reference).await.map(web::Json)
}

async fn find<P>(authorized: &Authorized<P>, reference: &str) -> Result<PluginRecord, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let reference: Ref = path_name("plugin", reference)?;
    let found = catalog::get(app, CatalogKind::Plugin, tenant, &reference.to_string()).await?;
    found.ok_or_else(|| ApiError::not_found(format_args!("plugin `{reference}`")))
}

/// Removes one version of a plugin that no unfinished job uses.
#[utoipa::path(tag = "plugins", params(("reference" = Ref, Path, description = "`name@version`")), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/plugins/{reference}")]
pub(crate) async fn delete_plugin(
    authorized: Authorized<Make>,
    reference: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let record = find(&authorized, &reference).await?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let key = format!("{}@{}", record.name, record.version);
    let uses = |job: &JobRecord| job.inputs.plugins.contains_key(&key);
    catalog::refuse_while_used(app, tenant, &format!("`{key}`"), uses).await?;
    let ports = &authorized.ports;
    let target = format!("plugin {key}");
    let audit = authorized.audit("delete_plugin", target, told(&record), Value::Null);
    ports
        .catalog
        .delete(CatalogKind::Plugin, tenant, &key, &[audit])
        .await?;
    let others: Vec<PluginRecord> = catalog::all(app, CatalogKind::Plugin, tenant, "").await?;
    if others.iter().all(|other| other.blake3 != record.blake3) {
        let engine_hash = ports.compiler.engine_hash();
        for location in [
            object::plugin_module(tenant, &record.blake3),
            object::plugin_artifact(tenant, &record.blake3, &engine_hash),
        ] {
            match ports.objects.delete(&Path::from(location)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
