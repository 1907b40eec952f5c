//! `stoker upload`: what is on its way to become a data set.

use clap::Subcommand;
use stoker_domain::UploadId;

use super::Session;
use super::exit::Failure;
use super::table::{Table, size, time};

/// What to do with uploads.
#[derive(Debug, Subcommand)]
pub(crate) enum UploadCommand {
    /// List uploads that nothing was made of yet.
    List,
    /// Give an upload up.
    Delete {
        /// The upload's id, as listed.
        id: UploadId,
    },
}

/// Runs a verb.
pub(super) async fn run(command: UploadCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        UploadCommand::List => {
            let list = client.list_uploads().await?;
            if output.json() {
                return output.document(&list);
            }
            let mut table = Table::new(["ID", "THERE", "OF", "EXPIRES"]);
            for upload in list.uploads {
                table.row([
                    upload.id.to_string(),
                    size(upload.offset),
                    size(upload.size_bytes),
                    time(upload.expires_at),
                ]);
            }
            output.line(&table.render());
        }
        UploadCommand::Delete { id } => {
            client.delete_upload(id).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "deleted": id }))?,
                false => output.line(&format!("{id} deleted")),
            }
        }
    }
    Ok(())
}
