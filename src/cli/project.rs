//! `stoker project` and `stoker member`.

use clap::Subcommand;
use stoker_domain::project::ProjectRecord;
use stoker_domain::tenant::Role;
use stoker_sdk::IdempotencyKey;
use stoker_sdk::view::{NewProject, ProjectSettings};

use super::exit::Failure;
use super::table::{Table, time};
use super::{Session, argument};

const ROLES: [Role; 3] = [Role::Viewer, Role::Developer, Role::Admin];

/// What to do with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project. For admins.
    Create {
        /// Its name.
        name: String,
        /// Everybody of the tenant may do in it what their role allows; else only members know of it.
        #[arg(long)]
        open: bool,
    },
    /// List projects.
    List,
    /// Show a project and its members.
    Get {
        /// The project.
        name: String,
    },
    /// Let everybody of the tenant in.
    Open {
        /// The project.
        name: String,
    },
    /// Let only members in, and the tenant's admins.
    Close {
        /// The project.
        name: String,
    },
    /// Remove a project that has no jobs. For admins.
    Delete {
        /// The project.
        name: String,
    },
}

/// What to do with members of projects.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Make somebody a member, or change what they may do.
    Add {
        /// The project.
        project: String,
        /// The subject of their tokens.
        subject: String,
        /// What they may do in it.
        #[arg(long, default_value = "developer", value_parser = argument::one_of(&ROLES, Role::as_str))]
        role: Role,
    },
    /// End a membership.
    Remove {
        /// The project.
        project: String,
        /// The subject of their tokens.
        subject: String,
    },
}

/// Runs a verb.
pub(super) async fn run(command: ProjectCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let record = match command {
        ProjectCommand::Create { name, open } => {
            let new = NewProject { name, open };
            client
                .create_project(&new, &IdempotencyKey::generate())
                .await?
        }
        ProjectCommand::List => {
            let list = client.list_projects().await?;
            if output.json() {
                return output.document(&list);
            }
            let mut table = Table::new(["PROJECT", "DOOR", "MEMBERS"]);
            for record in list.projects {
                let members = record.members.len().to_string();
                let door = door(record.open).to_owned();
                table.row([record.name, door, members]);
            }
            output.line(&table.render());
            return Ok(());
        }
        ProjectCommand::Get { name } => client.get_project(&name).await?,
        ProjectCommand::Open { name } => {
            client
                .put_project(&name, &ProjectSettings { open: true })
                .await?
        }
        ProjectCommand::Close { name } => {
            client
                .put_project(&name, &ProjectSettings { open: false })
                .await?
        }
        ProjectCommand::Delete { name } => {
            client.delete_project(&name).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "deleted": name }))?,
                false => output.line(&format!("{name} deleted")),
            }
            return Ok(());
        }
    };
    show(&record, session)
}

/// Runs a verb.
pub(super) async fn run_member(command: MemberCommand, session: &Session) -> Result<(), Failure> {
    let client = &session.client;
    let record = match command {
        MemberCommand::Add {
            project,
            subject,
            role,
        } => client.add_member(&project, &subject, role).await?,
        MemberCommand::Remove { project, subject } => {
            client.remove_member(&project, &subject).await?
        }
    };
    show(&record, session)
}

const fn door(open: bool) -> &'static str {
    match open {
        true => "open",
        false => "closed",
    }
}

fn show(record: &ProjectRecord, session: &Session) -> Result<(), Failure> {
    if session.output.json() {
        return session.output.document(record);
    }
    let mut fields = Table::of_fields();
    fields.field("project", &record.name);
    fields.field("door", door(record.open));
    if record.created_at.as_millis() > 0 {
        fields.field("created", time(record.created_at));
    }
    for (subject, role) in &record.members {
        fields.field(subject, role.as_str());
    }
    session.output.line(&fields.render());
    Ok(())
}
