//! The client verbs: `stoker job|model|dataset|upload|plugin|project|member|pool|worker|secret|key|audit|usage|token|login|context|completions`.
//!
//! Each verb is one call of the SDK and a way to show its answer. Where the server is found is in
//! [`context`], how a command ends in [`exit`], how it speaks in [`output`].

mod act;
mod argument;
mod audit;
pub(crate) mod context;
mod create;
mod create_dataset;
mod dataset;
mod download;
mod exit;
mod explain;
mod follow;
mod job;
mod key;
mod login;
mod model;
mod output;
mod pack;
mod plugin;
mod pool;
mod project;
mod replay;
mod secret;
mod show;
mod table;
mod token;
mod transfer;
mod unfinished;
mod upload;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use secrecy::SecretString;
use stoker_sdk::Client;

pub(crate) use self::output::Output;
pub(crate) use self::pool::WorkerCommand;
pub(crate) use self::table::Table;

use self::exit::Failure;
use crate::commands::Cli;
use crate::environment::Environment;

/// What `stoker --help` says after the list of commands.
pub(crate) const AFTER_HELP: &str = "\
Which server: --server and --token, or --context; else STOKER_SERVER and STOKER_TOKEN; else the
current context of `stoker login`; else the `stoker up` of this machine.

Exit codes of the client commands:
    0  done; with --wait: the job succeeded
    1  the job failed; with job replay and diff: the weights differ
    2  the command line, the spec or another input isn't valid
    3  no valid token, or its role may not do this
    4  not found
    5  the present state doesn't allow this
    6  unavailable, or no answer in time: try again
    7  the job was cancelled
   70  a bug in Stoker
   74  a local file can't be read or written
  130  Ctrl-C while waiting; the job goes on";

/// Flags of every client command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Globals {
    /// The server's URL.
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub(crate) server: Option<String>,
    /// The bearer token. Others on this machine can see it here: rather set STOKER_TOKEN.
    #[arg(long, global = true, help_heading = "Connection")]
    pub(crate) token: Option<SecretString>,
    /// A context that `stoker login` saved.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub(crate) context: Option<String>,
    /// A PEM file of certificates to trust beside the system's.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Where `stoker up` keeps its state [default: STOKER_DATA_DIR, or ~/.local/share/stoker].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Connection")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON: one document, or one line each for streams.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The client's part of the command line.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Jobs: create, watch, end.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Models of finished jobs: package, predict.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Data sets: create, list, delete.
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Unfinished uploads: list, delete.
    #[command(subcommand)]
    Upload(upload::UploadCommand),
    /// Plugins: upload, list, delete.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Projects: create, list, open, close, delete.
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Members of projects: add, remove.
    #[command(subcommand)]
    Member(project::MemberCommand),
    /// Pools of workers: list, set up, share.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Tokens: create, list, revoke.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Secrets, such as those that sign webhooks: set, list, delete.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// API keys: create, list, revoke.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Show who changed what. For admins.
    Audit(audit::Audit),
    /// Show what attempts used, and what it cost.
    Usage(audit::Usage),
    /// Save a server and its token as a context.
    Login(login::Arguments),
    /// Saved contexts: list, use, show.
    #[command(subcommand)]
    Context(login::ContextCommand),
    /// Workers, for operators; reached by `stoker worker`.
    #[command(skip)]
    Worker(WorkerCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What a verb that talks to a server works with.
struct Session {
    client: Client,
    output: Output,
    /// Where unfinished uploads are remembered, when there is such a place.
    uploads_dir: Option<PathBuf>,
}

/// Runs a client command, tells why it failed if it did, and gives the process's exit code.
pub(crate) async fn run(
    command: ClientCommand,
    globals: &Globals,
    environment: &Environment,
) -> ExitCode {
    let output = Output::new(environment).with_json(globals.json);
    match dispatch(command, globals, environment, &output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn dispatch(
    command: ClientCommand,
    globals: &Globals,
    environment: &Environment,
    output: &Output,
) -> Result<(), Failure> {
    let session = || -> Result<Session, Failure> {
        Ok(Session {
            client: context::connect(globals, environment)?,
            output: output.clone(),
            uploads_dir: context::data_dir(globals, environment).map(|dir| dir.join("uploads")),
        })
    };
    match command {
        ClientCommand::Job(command) => job::run(command, &session()?).await,
        ClientCommand::Model(command) => model::run(command, &session).await,
        ClientCommand::Dataset(command) => dataset::run(command, &session()?).await,
        ClientCommand::Upload(command) => upload::run(command, &session()?).await,
        ClientCommand::Plugin(command) => plugin::run(command, &session()?).await,
        ClientCommand::Project(command) => project::run(command, &session()?).await,
        ClientCommand::Member(command) => project::run_member(command, &session()?).await,
        ClientCommand::Pool(command) => pool::run(command, &session()?).await,
        ClientCommand::Worker(command) => pool::run_worker(command, &session()?).await,
        ClientCommand::Token(command) => token::run(command, &session()?).await,
        ClientCommand::Secret(command) => secret::run(command, &session()?).await,
        ClientCommand::Key(command) => key::run(command, &session()?).await,
        ClientCommand::Audit(which) => audit::list(which, &session()?).await,
        ClientCommand::Usage(which) => audit::usage(which, &session()?).await,
        ClientCommand::Login(arguments) => {
            login::run(&arguments, globals, environment, output).await
        }
        ClientCommand::Context(command) => login::context(command, globals, environment, output),
        ClientCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stoker", &mut script);
            output.bytes(&script);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
