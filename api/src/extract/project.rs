//! What a caller may do in a project, and so with its jobs.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use stoker_domain::port::{CatalogKind, StoreError};
use stoker_domain::project::{DEFAULT, ProjectRecord};
use stoker_domain::tenant::Role;
use stoker_domain::{ErrorCode, JobId, JobRecord, TenantId, Timestamp};

use super::authorized::Permission;
use super::{Authorized, path_name};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::ApiError;

/// Projects read at a time.
const BATCH: usize = 500;

/// Do in a project what `P` names: its members may, whatever their role in the tenant is. Nothing is
/// proved before [`Authorized::job`], [`Authorized::project`] or [`Authorized::check_project`].
pub(crate) struct Within<P>(PhantomData<P>);

impl<P: Permission> Permission for Within<P> {
    const ROLE: Role = P::ROLE;
    const WITHIN: bool = true;
}

impl<P: Permission> Authorized<Within<P>> {
    /// A job of the caller's; 404 for another tenant's, and for one in a project that the caller
    /// doesn't see.
    pub(crate) async fn job(&self, id: &str) -> Result<JobRecord, ApiError> {
        let missing = || ApiError::not_found(format_args!("job {id}"));
        let parsed: JobId = path_name("job", id)?;
        let record = self.ports.jobs.job(parsed).await?;
        let record = record.filter(|record| record.tenant == self.caller.tenant);
        let record = record.ok_or_else(missing)?;
        match project(self.app(), &self.caller.tenant, &record.spec.project).await? {
            Some(project) => self.check(&project, missing)?,
            // What is left of a project that was removed, or never made, is the tenant's admins'.
            None if self.caller.rules_all() => {}
            None => return Err(missing()),
        }
        Ok(record)
    }

    /// A project in which the caller may do it; 404 when it isn't theirs to see.
    pub(crate) async fn project(&self, name: &str) -> Result<ProjectRecord, ApiError> {
        let missing = || ApiError::not_found(format_args!("project {name:?}"));
        let project = project(self.app(), &self.caller.tenant, name).await?;
        let project = project.ok_or_else(missing)?;
        self.check(&project, missing)?;
        Ok(project)
    }

    /// Checks that the caller may do it in that project; the error's field is `project`.
    pub(crate) async fn check_project(&self, name: &str) -> Result<(), ApiError> {
        let missing = || {
            let message = match &self.caller.project {
                Some(own) => {
                    format!("this API key is for the jobs of project `{own}`, not `{name}`")
                }
                None => format!(
                    "there is no project `{name}`: an admin makes it with `stoker project create {name}`"
                ),
            };
            ApiError::invalid_field("project", message)
        };
        let project = project(self.app(), &self.caller.tenant, name).await?;
        self.check(&project.ok_or_else(missing)?, missing)
    }

    /// The projects in which the caller may do it: jobs of all others are hidden from it. `None` for
    /// the tenant's admins, who see also what is left of projects that were removed.
    pub(crate) async fn visible(&self) -> Result<Option<Vec<String>>, ApiError> {
        if self.caller.rules_all() {
            return Ok(None);
        }
        let mut all = projects(self.app(), &self.caller.tenant).await?;
        all.retain(|project| self.caller.role_in(project) >= Some(P::ROLE));
        Ok(Some(all.into_iter().map(|project| project.name).collect()))
    }

    fn check(
        &self,
        project: &ProjectRecord,
        missing: impl Fn() -> ApiError,
    ) -> Result<(), ApiError> {
        let role = self.caller.role_in(project).ok_or_else(missing)?;
        require(role, P::ROLE)
    }
}

fn require(role: Role, needed: Role) -> Result<(), ApiError> {
    if role >= needed {
        return Ok(());
    }
    let (role, needed) = (role.as_str(), needed.as_str());
    let detail = format!("your role in the project is {role}, this needs {needed}");
    Err(ApiError::new(ErrorCode::Forbidden, detail))
}

/// The tenant's project of that name. The default one is there without a record.
pub(crate) async fn project(
    app: &App,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<ProjectRecord>, ApiError> {
    let entry = app.ports.catalog.get(CatalogKind::Project, tenant, name);
    let found = entry
        .await?
        .map(|entry| serde_json::from_value(entry.value));
    let found = found.transpose().map_err(ApiError::internal)?;
    Ok(found.or_else(|| (name == DEFAULT).then(default_project)))
}

/// The default project, while nobody has changed it.
pub(crate) fn default_project() -> ProjectRecord {
    ProjectRecord::new(DEFAULT, true, Timestamp::default())
}

/// All of the tenant's projects.
pub(crate) async fn projects(app: &App, tenant: &TenantId) -> Result<Vec<ProjectRecord>, ApiError> {
    let mut all = BTreeMap::from([(DEFAULT.to_owned(), default_project())]);
    let mut after: Option<String> = None;
    loop {
        let batch = (app.ports.catalog)
            .list(CatalogKind::Project, tenant, "", after.as_deref(), BATCH)
            .await?;
        after = batch.last().map(|entry| entry.key.clone());
        if after.is_none() {
            return Ok(all.into_values().collect());
        }
        for entry in batch {
            let record = serde_json::from_value(entry.value)
                .map_err(|error| StoreError::Corrupt(error.to_string()))?;
            all.insert(entry.key, record);
        }
    }
}

/// Whether the caller has that role in a project.
pub(super) async fn may_somewhere(
    app: &App,
    caller: &Caller,
    needed: Role,
) -> Result<bool, ApiError> {
    let all = projects(app, &caller.tenant).await?;
    let mut roles = all.iter().map(|project| caller.role_in(project));
    Ok(roles.any(|role| role >= Some(needed)))
}
