//! The operations on projects and their members.

use stoker_domain::project::ProjectRecord;
use stoker_domain::tenant::Role;
use stoker_domain::view::{Membership, NewProject, ProjectList, ProjectSettings};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::key::IdempotencyKey;
use crate::send::{Call, JSON};

impl Client {
    /// Makes a project; an admin's.
    ///
    /// # Errors
    /// When the call fails; `conflict` when there is one of that name.
    pub async fn create_project(
        &self,
        new: &NewProject,
        key: &IdempotencyKey,
    ) -> Result<ProjectRecord> {
        let call = Call::post(self.url(&["v1", "projects"]), key).body(JSON, json(new)?);
        self.fetch(&call).await
    }

    /// The projects that the caller sees.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_projects(&self) -> Result<ProjectList> {
        self.fetch(&Call::get(self.url(&["v1", "projects"]))).await
    }

    /// A project.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is none, or none that the caller sees.
    pub async fn get_project(&self, name: &str) -> Result<ProjectRecord> {
        let url = self.url(&["v1", "projects", name]);
        self.fetch(&Call::get(url)).await
    }

    /// Opens or closes a project; its admins'.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn put_project(
        &self,
        name: &str,
        settings: &ProjectSettings,
    ) -> Result<ProjectRecord> {
        let url = self.url(&["v1", "projects", name]);
        self.fetch(&Call::put(url).body(JSON, json(settings)?))
            .await
    }

    /// Removes a project that has no jobs; an admin's.
    ///
    /// # Errors
    /// When the call fails; `conflict` when it has jobs.
    pub async fn delete_project(&self, name: &str) -> Result<()> {
        let call = Call::delete(self.url(&["v1", "projects", name]));
        self.fetch_bytes(&call).await.map(drop)
    }

    /// Makes somebody a member of a project, or changes what they may do in it; its admins'.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn add_member(
        &self,
        project: &str,
        subject: &str,
        role: Role,
    ) -> Result<ProjectRecord> {
        let url = self.url(&["v1", "projects", project, "members", subject]);
        let call = Call::put(url).body(JSON, json(&Membership { role })?);
        self.fetch(&call).await
    }

    /// Ends a membership; the project's admins'.
    ///
    /// # Errors
    /// When the call fails; `not_found` when there is no such member.
    pub async fn remove_member(&self, project: &str, subject: &str) -> Result<ProjectRecord> {
        let url = self.url(&["v1", "projects", project, "members", subject]);
        self.fetch(&Call::delete(url)).await
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Config {
        field: "request",
        message: error.to_string(),
    })
}
