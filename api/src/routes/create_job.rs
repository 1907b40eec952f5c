//! Submitting a job: everything that can be known to be wrong is refused here, and exactly one job
//! is written for each idempotency key.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde_json::{Value, json};
use stoker_domain::dataset::{DataFormat, DatasetRecord};
use stoker_domain::error::nearest;
use stoker_domain::job::{Demand, Inputs, NewJob, TokenizerInput};
use stoker_domain::plugin::{PluginRecord, PluginRole, PluginState};
use stoker_domain::port::{CatalogKind, Creation, Idempotency};
use stoker_domain::spec::{Format, JobSpec, ResourceSpec};
use stoker_domain::view::{JobView, Problem};
use stoker_domain::worker::WorkerRecord;
use stoker_domain::{ErrorCode, FieldError, JobId, JobRecord, PoolName, Ref};

use super::datasets::newest_dataset;
use super::{catalog, pools, quote_job};
use crate::compile::{Compiled, compile};
use crate::extract::{Announced, Authorized, IdempotencyKey, Make, Within, read_body};
use crate::problem::ApiError;

/// Creates a job. The same key with the same body gives the same answer, and one job.
#[utoipa::path(tag = "jobs",
    params(("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters")),
    request_body(content(
        (JobSpec = "application/json"),
        (String = "application/toml", example = "name = \"digits\""),
    ), description = "the spec, as JSON or TOML"),
    responses(
        (status = 202, body = JobView, headers(("Location" = String, description = "the job"))),
        (status = "default", body = Problem),
    ))]
#[post("/v1/jobs")]
pub(crate) async fn create_job(
    authorized: Authorized<Within<Make>>,
    key: Result<IdempotencyKey, ApiError>,
    announced: Announced,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    // Whether the caller may do it comes before what is wrong with the request.
    let key = key?;
    let format = spec_format(&request)?;
    let max = authorized.config.spec_max_bytes as u64;
    let body = read_body(&announced, payload, "spec", max).await?;
    let body_blake3 = body_hash(format, &body);
    let tenant = &authorized.caller.tenant;
    // Keys of a key for one project are apart from the tenant's: no header holds a line end.
    let key = match &authorized.caller.project {
        Some(project) => IdempotencyKey(format!("{project}\n{}", key.0)),
        None => key,
    };
    // Before validation: a repeat gets the first answer, whatever has changed since.
    let replayed = authorized.ports.jobs.replayed(tenant, &key.0, &body_blake3);
    if let Some(creation) = replayed.await? {
        if let Creation::Replayed { answer } = &creation {
            let view: JobView = serde_json::from_str(answer).map_err(ApiError::internal)?;
            authorized.check_project(&view.spec.project).await?;
        }
        return answer(creation, String::new());
    }
    let spec = parse(&body, format)?;
    let (project, pool) = (spec.project.clone(), spec.resources.pool.clone());
    // Side by side: each asks the store. What is told first doesn't depend on who is answered first.
    let (allowed, resolved, workers) = tokio::join!(
        authorized.check_project(&project),
        resolve(&authorized, spec),
        workers_of(&authorized, &pool)
    );
    allowed?;
    let (resolved, workers) = (resolved?, workers?);
    let demand = demand(&resolved, &workers);
    let Resolved { spec, inputs, .. } = resolved;
    let new = NewJob {
        id: JobId::generate(),
        tenant: tenant.clone(),
        spec,
        inputs,
        demand,
        replay_of: None,
        created_at: authorized.ports.clock.now(),
    };
    submit(&authorized, "create_job", new, key, body_blake3).await
}

/// The pool's workers. A pool that nobody has heard of is a slip of the pen: a job for it would wait
/// for ever.
pub(super) async fn workers_of(
    authorized: &Authorized<Within<Make>>,
    pool: &PoolName,
) -> Result<Vec<WorkerRecord>, ApiError> {
    let workers = authorized.ports.jobs.workers(pool).await?;
    if !workers.is_empty() || *pool == ResourceSpec::default().pool {
        return Ok(workers);
    }
    let known = pools::names(authorized).await?;
    if known.contains(pool) {
        return Ok(workers);
    }
    let hint = nearest(pool.as_str(), known.iter().map(PoolName::as_str))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let message = format!(
        "there is no pool `{pool}`: no worker has ever served it, and no operator has set it up{hint}"
    );
    Err(ApiError::invalid_field("resources.pool", message))
}

/// What the job needs of a pool that has these workers.
fn demand(resolved: &Resolved, workers: &[WorkerRecord]) -> Demand {
    let quote = quote_job::view(resolved, workers);
    Demand {
        memory_bytes: quote.peak_bytes,
        expected_ms: quote.duration.and_then(|duration| duration.total_ms),
        ..Demand::default()
    }
}

/// Writes a new job, once for each key.
pub(super) async fn submit(
    authorized: &Authorized<Within<Make>>,
    action: &str,
    new: NewJob,
    key: IdempotencyKey,
    body_blake3: String,
) -> Result<HttpResponse, ApiError> {
    let mut change = JobRecord::create(new);
    let after = json!({
        "state": change.record.state,
        "name": change.record.spec.name,
        "spec_blake3": change.record.spec.blake3(),
        "replay_of": change.record.replay_of,
    });
    let target = format!("job {}", change.record.id);
    (change.documents).push(authorized.audit(action, target, Value::Null, after));
    let view = JobView::new(change.record.clone(), None);
    let first_answer = serde_json::to_string(&view).map_err(ApiError::internal)?;
    let idempotency = Idempotency {
        key: key.0,
        body_blake3,
        answer: first_answer.clone(),
    };
    let creation = authorized
        .ports
        .jobs
        .create_job(&change, &idempotency)
        .await?;
    if creation == Creation::Created {
        authorized.ports.relay.notify(change.outbox());
    }
    answer(creation, first_answer)
}

/// The format of a spec, as its `Content-Type` says.
pub(super) fn spec_format(request: &HttpRequest) -> Result<Format, ApiError> {
    let given = (request.headers().get(header::CONTENT_TYPE))
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    match given.map(str::to_ascii_lowercase).as_deref() {
        Some("application/json") => Ok(Format::Json),
        Some("application/toml") => Ok(Format::Toml),
        _ => {
            let given = given.unwrap_or("nothing");
            let message = format!("{given:?} given; application/json or application/toml allowed");
            let error = ApiError::syntax_field("Content-Type", message);
            Err(error.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
        }
    }
}

/// The same bytes in another format are another request.
fn body_hash(format: Format, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(match format {
        Format::Json => b"json\n",
        Format::Toml => b"toml\n",
    });
    hasher.update(body);
    hasher.finalize().to_hex().to_string()
}

/// The spec that a body holds.
pub(super) fn parse(body: &[u8], format: Format) -> Result<JobSpec, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::syntax_field("", "the spec is not UTF-8 text"))?;
    JobSpec::parse(text, format).map_err(|errors| {
        // Only text that isn't JSON or TOML at all has an error without a field.
        if errors.iter().any(|error| error.field.is_empty()) {
            ApiError::syntax(errors)
        } else {
            ApiError::invalid(errors)
        }
    })
}

/// A spec whose references are pinned, and what it comes to.
pub(super) struct Resolved {
    pub(super) spec: JobSpec,
    pub(super) inputs: Inputs,
    pub(super) dataset: DatasetRecord,
    pub(super) compiled: Compiled,
}

/// Pins the spec's references to versions, and compiles it on its data set.
pub(super) async fn resolve(
    authorized: &Authorized<Within<Make>>,
    mut spec: JobSpec,
) -> Result<Resolved, ApiError> {
    check_secrets(authorized, &spec).await?;
    let dataset = find_dataset(authorized, "data.dataset", &spec.data.dataset).await?;
    if dataset.format == DataFormat::Tokenizer {
        let message = format!(
            "`{}` is a tokenizer; a data set of rows is needed",
            spec.data.dataset
        );
        return Err(ApiError::invalid_field("data.dataset", message));
    }
    spec.data.dataset.version = Some(dataset.version.to_string());
    let mut inputs = Inputs {
        dataset_blake3: dataset.blake3.clone(),
        ..Inputs::default()
    };
    let preprocess = spec.preprocess.iter_mut().enumerate().map(|(index, step)| {
        let field = format!("preprocess[{index}].plugin");
        (field, &mut step.plugin, PluginRole::Preprocess)
    });
    let metrics = spec.metrics.iter_mut().enumerate().map(|(index, metric)| {
        let field = format!("metrics[{index}].plugin");
        (field, &mut metric.plugin, PluginRole::Metric)
    });
    for (field, plugin, role) in preprocess.chain(metrics) {
        let Some(reference) = plugin else { continue };
        let record = find_plugin(authorized, &field, reference, role).await?;
        reference.version = Some(record.version);
        inputs.plugins.insert(reference.to_string(), record.blake3);
    }
    for (index, step) in spec.preprocess.iter_mut().enumerate() {
        let under = |error: FieldError| error.under(&format!("preprocess[{index}]"));
        let given = step
            .tokenizer()
            .map_err(|e| ApiError::invalid(vec![under(e)]))?;
        let Some(reference) = given else { continue };
        let field = format!("preprocess[{index}].config.tokenizer");
        let (reference, tokenizer) = find_tokenizer(authorized, &field, reference).await?;
        step.set_tokenizer(&reference);
        inputs.tokenizers.insert(reference.to_string(), tokenizer);
    }
    // A large model takes a while to compile: not on a thread that serves requests.
    let compiled = tokio::task::spawn_blocking(move || {
        compile(&spec, &dataset.schema, &inputs).map(|compiled| Resolved {
            spec,
            inputs,
            dataset,
            compiled,
        })
    });
    let compiled = compiled.await.map_err(ApiError::internal)?;
    compiled.map_err(ApiError::invalid)
}

/// That the secrets are there which webhooks are signed with.
pub(super) async fn check_secrets(
    authorized: &Authorized<Within<Make>>,
    spec: &JobSpec,
) -> Result<(), ApiError> {
    for (index, webhook) in spec.notify.webhooks.iter().enumerate() {
        let (kind, tenant) = (CatalogKind::Secret, &authorized.caller.tenant);
        let found = authorized.ports.catalog.get(kind, tenant, &webhook.secret);
        if found.await?.is_none() {
            let name = &webhook.secret;
            let message =
                format!("there is no secret `{name}`; `stoker secret set {name}` makes it");
            let field = format!("notify.webhooks[{index}].secret");
            return Err(ApiError::invalid_field(&field, message));
        }
    }
    Ok(())
}

/// The data set that holds a tokenizer, pinned to a version.
async fn find_tokenizer(
    authorized: &Authorized<Within<Make>>,
    field: &str,
    reference: Ref,
) -> Result<(Ref, TokenizerInput), ApiError> {
    let found = find_dataset(authorized, field, &reference).await?;
    if found.format != DataFormat::Tokenizer {
        let message = format!(
            "`{reference}` is {}; a data set of format tokenizer is needed",
            found.format.as_str()
        );
        return Err(ApiError::invalid_field(field, message));
    }
    let pinned = Ref {
        version: Some(found.version.to_string()),
        ..reference
    };
    let tokenizer = TokenizerInput {
        blake3: found.blake3,
        ids: found.schema.rows,
    };
    Ok((pinned, tokenizer))
}

async fn find_dataset(
    authorized: &Authorized<Within<Make>>,
    field: &str,
    reference: &Ref,
) -> Result<DatasetRecord, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let found = match &reference.version {
        None => newest_dataset(app, tenant, &reference.name).await?,
        Some(_) => catalog::get(app, CatalogKind::Dataset, tenant, &reference.to_string()).await?,
    };
    if let Some(found) = found {
        return Ok(found);
    }
    let all: Vec<DatasetRecord> = catalog::all(app, CatalogKind::Dataset, tenant, "").await?;
    let known = all.iter().map(|r| (r.name.as_str(), r.version.to_string()));
    let message = missing("data set", reference, &known.collect::<Vec<_>>());
    Err(ApiError::invalid_field(field, message))
}

async fn find_plugin(
    authorized: &Authorized<Within<Make>>,
    field: &str,
    reference: &Ref,
    role: PluginRole,
) -> Result<PluginRecord, ApiError> {
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let refused = |message: String| Err(ApiError::invalid_field(field, message));
    let all: Vec<PluginRecord> = catalog::all(app, CatalogKind::Plugin, tenant, "").await?;
    let found = (all.iter())
        .filter(|plugin| plugin.name == reference.name)
        .filter(|plugin| {
            reference
                .version
                .as_ref()
                .is_none_or(|v| *v == plugin.version)
        })
        .max_by_key(|plugin| plugin.created_at);
    match found {
        None => {
            let known = all.iter().map(|r| (r.name.as_str(), r.version.clone()));
            refused(missing("plugin", reference, &known.collect::<Vec<_>>()))
        }
        Some(plugin) if plugin.role != role => refused(format!(
            "`{reference}` is a plugin for {}, one for {} is needed",
            role_name(plugin.role),
            role_name(role)
        )),
        Some(plugin) => match &plugin.state {
            PluginState::Ready {} => Ok(plugin.clone()),
            PluginState::Rejected { reason } => {
                refused(format!("`{reference}` was rejected: {reason}"))
            }
        },
    }
}

const fn role_name(role: PluginRole) -> &'static str {
    match role {
        PluginRole::Preprocess => "preprocessing",
        PluginRole::Metric => "metrics",
    }
}

/// That there is no such thing, with what there is that is nearest.
fn missing(what: &str, reference: &Ref, known: &[(&str, String)]) -> String {
    let versions: Vec<&str> = (known.iter())
        .filter(|(name, _)| *name == reference.name)
        .map(|(_, version)| version.as_str())
        .take(8)
        .collect();
    if !versions.is_empty() {
        let list = versions.join(", ");
        return format!("there is no {what} `{reference}`; its versions: {list}");
    }
    let hint = nearest(&reference.name, known.iter().map(|(name, _)| *name))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("there is no {what} `{reference}`{hint}")
}

/// The answer to a submit: the first one, for every repeat.
pub(super) fn answer(creation: Creation, first: String) -> Result<HttpResponse, ApiError> {
    let answer = match creation {
        Creation::Created => first,
        Creation::Replayed { answer } => answer,
        Creation::Mismatch => {
            return Err(ApiError::new(
                ErrorCode::IdempotencyMismatch,
                "this Idempotency-Key came before with another body: take a new key for a new job",
            ));
        }
    };
    let view: JobView = serde_json::from_str(&answer).map_err(ApiError::internal)?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/v1/jobs/{}", view.id)))
        .content_type("application/json")
        .body(answer))
}
