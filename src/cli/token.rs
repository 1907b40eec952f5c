//! `stoker token`.

use std::time::Duration;

use clap::Subcommand;
use stoker_domain::tenant::Role;
use stoker_sdk::view::NewToken;

use super::exit::Failure;
use super::table::{Table, time};
use super::{Session, argument};

const ROLES: [Role; 4] = [Role::Viewer, Role::Developer, Role::Admin, Role::Operator];

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it. It can't be had again.
    Create {
        /// Whom it speaks for.
        #[arg(long, value_name = "NAME")]
        subject: String,
        /// What it may do; not more than you.
        #[arg(long, value_parser = argument::one_of(&ROLES, Role::as_str))]
        role: Role,
        /// How long it lives, 60s to 8760h.
        #[arg(long, default_value = "720h", value_parser = argument::duration, value_name = "DURATION")]
        expires_in: Duration,
    },
    /// List tokens, without the tokens themselves.
    List,
    /// End a token.
    Revoke {
        /// The token's id, as listed.
        id: String,
    },
}

/// Runs a verb.
pub(super) async fn run(command: TokenCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        TokenCommand::Create {
            subject,
            role,
            expires_in,
        } => {
            let new = NewToken {
                subject,
                role,
                expires_in_s: expires_in.as_secs(),
            };
            let created = client.create_token(&new).await?;
            if output.json() {
                return output.document(&created);
            }
            // The token alone on stdout, so that it can be caught by a shell.
            output.line(&created.token);
            let record = &created.record;
            output.note(&format!(
                "id {}, role {}, until {}; this token can't be shown again",
                record.id,
                record.role.as_str(),
                time(record.expires_at)
            ));
            Ok(())
        }
        TokenCommand::List => {
            let list = client.list_tokens().await?;
            if output.json() {
                return output.document(&list);
            }
            let mut table = Table::new(["ID", "SUBJECT", "ROLE", "CREATED", "EXPIRES", "REVOKED"]);
            for record in list.tokens {
                table.row([
                    record.id,
                    record.subject,
                    record.role.as_str().to_owned(),
                    time(record.created_at),
                    time(record.expires_at),
                    if record.revoked { "yes" } else { "no" }.to_owned(),
                ]);
            }
            output.line(&table.render());
            Ok(())
        }
        TokenCommand::Revoke { id } => {
            client.revoke_token(&id).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "revoked": id }))?,
                false => output.line(&format!("{id} revoked")),
            }
            Ok(())
        }
    }
}
