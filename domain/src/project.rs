//! Projects: parts of a tenant that some of its people share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::tenant::Role;
use crate::time::Timestamp;

/// Version tag of stored projects.
pub const RECORD_VERSION: u16 = 1;

/// The project that every tenant has. It is open until somebody says otherwise.
pub const DEFAULT: &str = "default";

/// Most members of a project.
pub const MEMBERS_MAX: usize = 1_000;

/// A project, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectRecord {
    /// Version tag of this form.
    pub record_version: u16,
    /// Its name, unique in the tenant.
    pub name: String,
    /// Whether everybody of the tenant may do in it what their token's role allows. Of a closed one
    /// only members know, and the tenant's admins.
    pub open: bool,
    /// Its members, by the subject of their tokens, and what they may do in it at least.
    pub members: BTreeMap<String, Role>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl ProjectRecord {
    /// A new project, without members.
    #[must_use]
    pub fn new(name: &str, open: bool, created_at: Timestamp) -> Self {
        Self {
            record_version: RECORD_VERSION,
            name: name.to_owned(),
            open,
            members: BTreeMap::new(),
            created_at,
        }
    }

    /// What somebody may do in it; nothing when it isn't theirs to see. `role` is what they may do in
    /// the tenant.
    #[must_use]
    pub fn role_of(&self, subject: &str, role: Role) -> Option<Role> {
        let everywhere = (self.open || role >= Role::Admin).then_some(role);
        self.members.get(subject).copied().max(everywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_the_open_door_add_up() {
        use Role::{Admin, Developer, Viewer};
        let mut project = ProjectRecord::new("vision", false, Timestamp::default());
        project.members.insert("ada".to_owned(), Developer);
        let cases = [
            (false, "ada", Viewer, Some(Developer)),
            (false, "bob", Developer, None),
            (false, "bob", Admin, Some(Admin)),
            (true, "ada", Viewer, Some(Developer)),
            (true, "ada", Admin, Some(Admin)),
            (true, "bob", Viewer, Some(Viewer)),
        ];
        for (open, subject, role, expected) in cases {
            project.open = open;
            assert_eq!(
                project.role_of(subject, role),
                expected,
                "{open} {subject} {role:?}"
            );
        }
    }
}
