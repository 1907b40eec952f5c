//! Projects and their members.

use actix_web::{HttpResponse, delete, get, post, put, web};
use serde_json::{Value, json};
use stoker_domain::ErrorCode;
use stoker_domain::id::check_name;
use stoker_domain::port::{CatalogKind, Expect, JobFilter, Put};
use stoker_domain::project::{DEFAULT, MEMBERS_MAX, ProjectRecord};
use stoker_domain::spec::read_json;
use stoker_domain::tenant::Role;
use stoker_domain::view::{Membership, NewProject, Problem, ProjectList, ProjectSettings};

use super::catalog::{Once, Submitted};
use super::datasets::TRIES;
use super::keys;
use crate::extract::{
    Announced, Authorized, IdempotencyKey, Look, Params, Rule, Within, default_project, projects,
    read_body,
};
use crate::problem::ApiError;

/// Largest body.
const BODY_MAX_BYTES: u64 = 16 * 1024;
/// Longest subject.
const SUBJECT_MAX_BYTES: usize = 256;

async fn read<T: serde::de::DeserializeOwned>(
    announced: &Announced,
    payload: web::Payload,
) -> Result<(T, Vec<u8>), ApiError> {
    let body = read_body(announced, payload, "request", BODY_MAX_BYTES).await?;
    let read = read_json(&body).map_err(|error| ApiError::syntax(vec![error]))?;
    Ok((read, body))
}

/// Makes a project.
#[utoipa::path(tag = "projects", params(
    ("Idempotency-Key" = String, Header, description = "names this request: 1 to 128 printable ASCII characters"),
), request_body = NewProject, responses((status = 201, body = ProjectRecord), (status = "default", body = Problem)))]
#[post("/v1/projects")]
pub(crate) async fn create_project(
    authorized: Authorized<Rule>,
    key: IdempotencyKey,
    announced: Announced,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (new, body): (NewProject, _) = read(&announced, payload).await?;
    check_name(&new.name).map_err(|error| ApiError::invalid_field("name", error.to_string()))?;
    let (app, tenant) = (authorized.app(), &authorized.caller.tenant);
    let record = ProjectRecord::new(&new.name, new.open, authorized.ports.clock.now());
    let once = Once::new(key, &[b"project", &body]);
    let target = format!("project {}", record.name);
    let audit = authorized.audit("create_project", target, Value::Null, json!(record));
    let document = (CatalogKind::Project, Some(record.name.as_str()));
    let submitted = match record.name == DEFAULT {
        true => Submitted::Taken,
        false => {
            once.submit(app, tenant, document, &record, &[audit])
                .await?
        }
    };
    match submitted {
        Submitted::Written => Ok(HttpResponse::Created().json(record)),
        Submitted::Earlier(earlier) => Ok(HttpResponse::Created().json(earlier)),
        Submitted::Taken => {
            let detail = format!("there is a project `{}` already", new.name);
            Err(ApiError::new(ErrorCode::Conflict, detail))
        }
    }
}

/// The projects that the caller sees, by name.
#[utoipa::path(tag = "projects", responses((status = 200, body = ProjectList), (status = "default", body = Problem)))]
#[get("/v1/projects")]
pub(crate) async fn list_projects(
    authorized: Authorized<Look>,
    params: Params,
) -> Result<web::Json<ProjectList>, ApiError> {
    params.only(&[])?;
    let caller = &authorized.caller;
    let mut all = projects(authorized.app(), &caller.tenant).await?;
    all.retain(|project| caller.role_in(project).is_some());
    Ok(web::Json(ProjectList { projects: all }))
}

/// One project.
#[utoipa::path(tag = "projects", params(("project" = String, Path)), responses((status = 200, body = ProjectRecord), (status = "default", body = Problem)))]
#[get("/v1/projects/{project}")]
pub(crate) async fn get_project(
    authorized: Authorized<Within<Look>>,
    name: web::Path<String>,
) -> Result<web::Json<ProjectRecord>, ApiError> {
    authorized.project(&name).await.map(web::Json)
}

/// Opens or closes a project.
#[utoipa::path(tag = "projects", params(("project" = String, Path)), request_body = ProjectSettings, responses((status = 200, body = ProjectRecord), (status = "default", body = Problem)))]
#[put("/v1/projects/{project}")]
pub(crate) async fn put_project(
    authorized: Authorized<Within<Rule>>,
    name: web::Path<String>,
    announced: Announced,
    payload: web::Payload,
) -> Result<web::Json<ProjectRecord>, ApiError> {
    authorized.project(&name).await?;
    let (settings, _): (ProjectSettings, _) = read(&announced, payload).await?;
    let open = |record: &mut ProjectRecord| {
        record.open = settings.open;
        Ok(())
    };
    change(&authorized, &name, "put_project", open)
        .await
        .map(web::Json)
}

/// Removes a project that has no jobs.
#[utoipa::path(tag = "projects", params(("project" = String, Path)), responses((status = 204, description = "removed"), (status = "default", body = Problem)))]
#[delete("/v1/projects/{project}")]
pub(crate) async fn delete_project(
    authorized: Authorized<Rule>,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let refused = |why: String| Err(ApiError::new(ErrorCode::Conflict, why));
    if *name == DEFAULT {
        return refused(format!("every tenant has the project `{DEFAULT}`"));
    }
    let missing = || ApiError::not_found(format_args!("project {:?}", *name));
    let found = ports
        .catalog
        .get(CatalogKind::Project, tenant, &name)
        .await?;
    let before = found.ok_or_else(missing)?.value;
    let filter = JobFilter {
        project: Some(name.clone()),
        ..JobFilter::default()
    };
    let mut after = None;
    loop {
        let page = ports.jobs.list_jobs(tenant, &filter, after, 1).await?;
        if let Some(job) = page.jobs.first() {
            return refused(format!(
                "the project has jobs, such as {}: delete them first",
                job.id
            ));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    keys::revoke_all_of(&authorized, &name).await?;
    keys::revoke_all_of(&authorized, &name).await?;
    let target = format!("project {name}");
    let audit = [authorized.audit("delete_project", target, before, Value::Null)];
    let gone = ports
        .catalog
        .delete(CatalogKind::Project, tenant, &name, &audit);
    match gone.await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(missing()),
    }
}

/// Makes somebody a member of a project, or changes what they may do in it.
#[utoipa::path(tag = "projects", params(("project" = String, Path), ("subject" = String, Path, description = "`sub` of the member's tokens")), request_body = Membership, responses((status = 200, body = ProjectRecord), (status = "default", body = Problem)))]
#[put("/v1/projects/{project}/members/{subject}")]
pub(crate) async fn add_member(
    authorized: Authorized<Within<Rule>>,
    path: web::Path<(String, String)>,
    announced: Announced,
    payload: web::Payload,
) -> Result<web::Json<ProjectRecord>, ApiError> {
    let (name, subject) = path.into_inner();
    authorized.project(&name).await?;
    let (membership, _): (Membership, _) = read(&announced, payload).await?;
    let length = subject.len();
    if !(1..=SUBJECT_MAX_BYTES).contains(&length) || subject.chars().any(char::is_control) {
        let message = format!("not 1 to {SUBJECT_MAX_BYTES} bytes without control characters");
        return Err(ApiError::invalid_field("subject", message));
    }
    if membership.role > Role::Admin {
        let message = "operator is no role in a project; viewer, developer and admin are";
        return Err(ApiError::invalid_field("role", message));
    }
    let add = |record: &mut ProjectRecord| {
        record.members.insert(subject.clone(), membership.role);
        match record.members.len() <= MEMBERS_MAX {
            true => Ok(()),
            false => {
                let message = format!("a project has at most {MEMBERS_MAX} members");
                Err(ApiError::invalid_field("subject", message))
            }
        }
    };
    change(&authorized, &name, "add_member", add)
        .await
        .map(web::Json)
}

/// Ends a membership.
#[utoipa::path(tag = "projects", params(("project" = String, Path), ("subject" = String, Path)), responses((status = 200, body = ProjectRecord), (status = "default", body = Problem)))]
#[delete("/v1/projects/{project}/members/{subject}")]
pub(crate) async fn remove_member(
    authorized: Authorized<Within<Rule>>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<ProjectRecord>, ApiError> {
    let (name, subject) = path.into_inner();
    authorized.project(&name).await?;
    let remove = |record: &mut ProjectRecord| {
        let missing = || ApiError::not_found(format_args!("member {subject:?}"));
        record
            .members
            .remove(&subject)
            .map(drop)
            .ok_or_else(missing)
    };
    change(&authorized, &name, "remove_member", remove)
        .await
        .map(web::Json)
}

/// Changes a project's record.
async fn change(
    authorized: &Authorized<Within<Rule>>,
    name: &str,
    action: &str,
    change: impl Fn(&mut ProjectRecord) -> Result<(), ApiError>,
) -> Result<ProjectRecord, ApiError> {
    let (ports, tenant) = (&authorized.ports, &authorized.caller.tenant);
    let kind = CatalogKind::Project;
    for _ in 0..TRIES {
        let found = ports.catalog.get(kind, tenant, name).await?;
        let (expect, mut record): (_, ProjectRecord) = match found {
            Some(entry) => {
                let record = serde_json::from_value(entry.value).map_err(ApiError::internal)?;
                (Expect::Revision(entry.revision), record)
            }
            None if name == DEFAULT => (Expect::Absent, default_project()),
            None => return Err(ApiError::not_found(format_args!("project {name:?}"))),
        };
        let before = json!(record);
        change(&mut record)?;
        let value = json!(record);
        let target = format!("project {name}");
        let audit = [authorized.audit(action, target, before, value.clone())];
        let put = ports
            .catalog
            .put(kind, tenant, name, &value, expect, &audit);
        if put.await? == Put::Written {
            return Ok(record);
        }
    }
    Err(ApiError::unavailable(
        "a project's record changes all the time",
    ))
}
