//! `stoker secret`.

use std::io::Read as _;

use clap::Subcommand;

use super::Session;
use super::exit::Failure;
use super::table::{Table, time};

/// Most bytes that are read of a secret; the server allows fewer.
const READ_MAX_BYTES: u64 = 1 << 20;

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Write a secret from standard input. Nobody can read it again.
    Set {
        /// Its name.
        name: String,
    },
    /// List the names of secrets.
    List,
    /// Remove a secret.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Runs a verb.
pub(super) async fn run(command: SecretCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        SecretCommand::Set { name } => {
            let mut secret = Vec::new();
            std::io::stdin()
                .take(READ_MAX_BYTES)
                .read_to_end(&mut secret)
                .map_err(|error| Failure::input(format!("standard input: {error}")))?;
            // A line end is the shell's, not the secret's.
            if secret.ends_with(b"\n") {
                secret.pop();
            }
            let view = client.put_secret(&name, &secret).await?;
            match output.json() {
                true => output.document(&view)?,
                false => output.line(&format!("{name} written")),
            }
        }
        SecretCommand::List => {
            let list = client.list_secrets().await?;
            if output.json() {
                return output.document(&list);
            }
            let mut table = Table::new(["SECRET", "BY", "AT"]);
            for view in list.secrets {
                table.row([view.name, view.by, time(view.at)]);
            }
            output.line(&table.render());
        }
        SecretCommand::Delete { name } => {
            client.delete_secret(&name).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "deleted": name }))?,
                false => output.line(&format!("{name} deleted")),
            }
        }
    }
    Ok(())
}
