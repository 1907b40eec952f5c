//! `stoker plugin`.

use std::path::PathBuf;

use clap::Subcommand;
use futures::TryStreamExt;
use stoker_domain::Ref;
use stoker_domain::plugin::{PluginRecord, PluginRole, PluginState};
use stoker_sdk::view::PluginList;
use stoker_sdk::{IdempotencyKey, Upload};

use super::exit::Failure;
use super::table::{Table, size, time};
use super::{Session, transfer};

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Upload a WebAssembly module as a plugin.
    Create {
        /// NAME@VERSION.
        plugin: Ref,
        /// The module.
        file: PathBuf,
        /// Upload at most once, however often this is run with the same key.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<IdempotencyKey>,
    },
    /// List plugins.
    List,
    /// Show a plugin.
    Get {
        /// NAME, for its newest version, or NAME@VERSION.
        plugin: Ref,
    },
    /// Remove one version of a plugin.
    Delete {
        /// NAME@VERSION.
        plugin: Ref,
    },
}

/// Runs a verb.
pub(super) async fn run(command: PluginCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        PluginCommand::Create {
            plugin,
            file,
            idempotency_key,
        } => {
            let bar = transfer::bar(output, &format!("uploading {}", file.display()));
            let shown = bar.clone();
            let mut upload = Upload::from_path(file)
                .with_progress(move |progress| transfer::show(&shown, progress));
            if let Some(key) = idempotency_key {
                upload = upload.with_key(key);
            }
            let outcome = client.create_plugin(&plugin, &upload).await;
            bar.finish_and_clear();
            let record = outcome?;
            print(&record, session)?;
            usable(&record)
        }
        PluginCommand::List => {
            let plugins: Vec<PluginRecord> = client.plugins().try_collect().await?;
            if output.json() {
                return output.document(&PluginList {
                    plugins,
                    next: None,
                });
            }
            output.line(&list(&plugins));
            Ok(())
        }
        PluginCommand::Get { plugin } => print(&client.get_plugin(&plugin).await?, session),
        PluginCommand::Delete { plugin } => {
            client.delete_plugin(&plugin).await?;
            match output.json() {
                true => output.document(&serde_json::json!({ "deleted": plugin }))?,
                false => output.line(&format!("{plugin} deleted")),
            }
            Ok(())
        }
    }
}

/// An upload that was stored as rejected is a failure too.
fn usable(record: &PluginRecord) -> Result<(), Failure> {
    match &record.state {
        PluginState::Ready {} => Ok(()),
        PluginState::Rejected { reason } => Err(Failure::input(format!(
            "{}@{} was rejected: {reason}",
            record.name, record.version
        ))),
    }
}

fn print(record: &PluginRecord, session: &Session) -> Result<(), Failure> {
    if session.output.json() {
        return session.output.document(record);
    }
    session.output.line(&show(record));
    Ok(())
}

const fn role(role: PluginRole) -> &'static str {
    match role {
        PluginRole::Preprocess => "preprocess",
        PluginRole::Metric => "metric",
    }
}

fn state(state: &PluginState) -> String {
    match state {
        PluginState::Ready {} => "ready".to_owned(),
        PluginState::Rejected { reason } => format!("rejected: {reason}"),
    }
}

fn show(record: &PluginRecord) -> String {
    let mut table = Table::of_fields();
    table.field("plugin", format!("{}@{}", record.name, record.version));
    table.field("role", role(record.role));
    table.field("state", state(&record.state));
    table.field("size", size(record.size_bytes));
    table.field("blake3", &record.blake3);
    table.field("config", record.config_schema.to_string());
    table.field("created", time(record.created_at));
    table.render()
}

fn list(plugins: &[PluginRecord]) -> String {
    let mut table = Table::new(["PLUGIN", "ROLE", "SIZE", "CREATED", "STATE"]);
    for record in plugins {
        table.row([
            format!("{}@{}", record.name, record.version),
            role(record.role).to_owned(),
            size(record.size_bytes),
            time(record.created_at),
            state(&record.state),
        ]);
    }
    table.render()
}
