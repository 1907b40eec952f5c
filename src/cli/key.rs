//! `stoker key`: API keys.

use std::time::Duration;

use clap::Subcommand;
use stoker_domain::tenant::Role;
use stoker_sdk::view::NewApiKey;

use super::exit::Failure;
use super::table::{Table, time};
use super::{Session, argument};

const ROLES: [Role; 4] = [Role::Viewer, Role::Developer, Role::Admin, Role::Operator];

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key and print it. It can't be had again. For admins.
    Create {
        /// A name for people, which the audit log tells.
        name: String,
        /// What it may do; not more than you.
        #[arg(long, default_value = "developer", value_parser = argument::one_of(&ROLES, Role::as_str))]
        role: Role,
        /// For the jobs of this project alone.
        #[arg(long)]
        project: Option<String>,
        /// How long it lives, 60s to 87600h.
        #[arg(long, default_value = "8760h", value_parser = argument::duration, value_name = "DURATION")]
        expires_in: Duration,
    },
    /// List API keys, without the keys themselves. For admins.
    List,
    /// End an API key. For admins.
    Revoke {
        /// The key's id, as listed.
        id: String,
    },
}

/// Runs a verb.
pub(super) async fn run(command: KeyCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        KeyCommand::Create {
            name,
            role,
            project,
            expires_in,
        } => {
            let new = NewApiKey {
                name,
                role,
                project,
                expires_in_s: expires_in.as_secs(),
            };
            let created = client.create_key(&new).await?;
            if output.json() {
                return output.document(&created);
            }
            // The key alone on stdout, so that it can be caught by a shell.
            output.line(&created.key);
            let record = &created.record;
            output.note(&format!(
                "id {}, role {}, until {}; this key can't be shown again",
                record.id,
                record.role.as_str(),
                time(record.expires_at)
            ));
        }
        KeyCommand::List => {
            let list = client.list_keys().await?;
            if output.json() {
                return output.document(&list);
            }
            let mut table = Table::new([
                "ID", "NAME", "ROLE", "PROJECT", "BY", "CREATED", "EXPIRES", "REVOKED",
            ]);
            for record in list.keys {
                table.row([
                    record.id,
                    record.name,
                    record.role.as_str().to_owned(),
                    record.project.unwrap_or_else(|| "-".to_owned()),
                    record.created_by,
                    time(record.created_at),
                    time(record.expires_at),
                    if record.revoked { "yes" } else { "no" }.to_owned(),
                ]);
            }
            output.line(&table.render());
        }
        KeyCommand::Revoke { id } => {
            client.revoke_key(&id).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "revoked": id }))?,
                false => output.line(&format!("{id} revoked")),
            }
        }
    }
    Ok(())
}
