//! The command line: server verbs here, client verbs in [`crate::cli`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use secrecy::ExposeSecret as _;
use stoker_domain::{PoolName, TenantId};

use crate::cli::{self, ClientCommand, Globals, Output, WorkerCommand};
use crate::config::Config;
use crate::environment::Environment;
use crate::keys::Keys;
use crate::wiring::World;
use crate::{backup, demo, logging, roles, tenants};

/// Trains AI models as jobs: the platform and its client.
#[derive(Debug, Parser)]
#[command(name = "stoker", version, after_help = cli::AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole platform in one process.
    Up(Server),
    /// The HTTP API, over Redis, RabbitMQ and object storage.
    Api(Server),
    /// A scheduler of one pool, and housekeeping. Several may run; one leads.
    Scheduler(Server),
    /// A worker of one pool; with a verb, what operators do with workers.
    #[command(args_conflicts_with_subcommands = true)]
    Worker {
        #[command(subcommand)]
        verb: Option<Worker>,
        #[command(flatten)]
        server: Server,
    },
    /// Set up roles that run apart.
    #[command(subcommand)]
    Admin(Admin),
    /// Tenants.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Train the digits on a platform of its own, which is gone afterwards.
    Demo(demo::Arguments),
    /// Compiles one plugin in a limited process; started by the API.
    #[command(name = "plugin-compile", hide = true)]
    PluginCompile,
    #[command(flatten)]
    Client(ClientCommand),
}

/// Settings of a server role. Everything else is in the file and in `STOKER__*` variables.
#[derive(Debug, Args)]
struct Server {
    /// A TOML file of settings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The pool to serve.
    #[arg(long)]
    pool: Option<PoolName>,
    /// Where the API listens, as in 127.0.0.1:8080; port 0 for any.
    #[arg(long)]
    bind: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Worker {
    /// Measure how fast this machine is, for the times of quotes: about two seconds, best with
    /// nothing else running. The worker tells it when it starts.
    Calibrate(Server),
    #[command(flatten)]
    Operate(WorkerCommand),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Make the keys that sign tokens and seal plugins, under the data dir. Give them to each role.
    Init(Server),
    /// Copy the data dir of a `stoker up`, which may go on meanwhile. The copy is a data dir itself:
    /// start `stoker up` on it.
    Backup {
        /// Where to: a directory that is empty or isn't there.
        to: PathBuf,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Subcommand)]
enum Tenant {
    /// Make a tenant and print its first token, an admin's.
    Create {
        /// The tenant's name.
        id: TenantId,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs the command that the process was given.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::PluginCompile) {
        return stoker_plugins::compile_main();
    }
    let environment = Environment::read();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&environment, &error.into()),
    };
    let code = runtime.block_on(run(cli, &environment));
    // What is left are sweeps and timers: nothing that anybody waits for.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli, environment: &Environment) -> ExitCode {
    let Cli { globals, command } = cli;
    let ended = match command {
        Command::Client(command) => return cli::run(command, &globals, environment).await,
        Command::Worker {
            verb: Some(Worker::Operate(command)),
            ..
        } => {
            let command = ClientCommand::Worker(command);
            return cli::run(command, &globals, environment).await;
        }
        Command::Demo(arguments) => {
            let output = Output::new(environment).with_json(globals.json);
            demo::run(arguments, &output).await
        }
        command => serve(command, &globals, environment).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(environment, &error),
    }
}

fn fail(environment: &Environment, error: &anyhow::Error) -> ExitCode {
    Output::new(environment).error(&format!("stoker: {error:#}"));
    ExitCode::FAILURE
}

async fn serve(
    command: Command,
    globals: &Globals,
    environment: &Environment,
) -> anyhow::Result<()> {
    let settings = |server: &Server| -> anyhow::Result<(Config, PathBuf)> {
        let mut config = Config::load(server.config.as_deref())?;
        config.pool = server.pool.clone().or(config.pool);
        if let Some(bind) = server.bind {
            config.api.bind = bind;
        }
        let configured = globals.data_dir.clone().or(config.data_dir.clone());
        let data_dir = configured.map_or_else(|| environment.data_dir(), Ok)?;
        let signing_key = || Keys::under(&data_dir).signing_path();
        config.api.auth.signing_key.get_or_insert_with(signing_key);
        config.validate()?;
        logging::start(&config.log)?;
        Ok((config, data_dir))
    };
    match command {
        Command::Up(server) => {
            let (config, data_dir) = settings(&server)?;
            roles::up::run(config, &data_dir).await
        }
        Command::Api(server) => {
            let (config, data_dir) = settings(&server)?;
            roles::api(&config, &data_dir).await
        }
        Command::Scheduler(server) => {
            let (config, data_dir) = settings(&server)?;
            roles::scheduler(&config, &data_dir).await
        }
        Command::Worker {
            verb: Some(Worker::Calibrate(server)),
            ..
        } => {
            let (config, data_dir) = settings(&server)?;
            let output = Output::new(environment).with_json(globals.json);
            roles::calibrate::run(&config, &data_dir, &output)
        }
        Command::Worker { verb: None, server } => {
            let (config, data_dir) = settings(&server)?;
            roles::worker(&config, &data_dir).await
        }
        Command::Admin(Admin::Init(server)) => {
            let (_, data_dir) = settings(&server)?;
            std::fs::create_dir_all(&data_dir)?;
            Keys::under(&data_dir).ensure()
        }
        Command::Admin(Admin::Backup { to, server }) => {
            let (_, data_dir) = settings(&server)?;
            backup::run(&data_dir, &to, &Output::new(environment))
        }
        Command::Tenant(Tenant::Create { id, server }) => {
            let (config, data_dir) = settings(&server)?;
            let world = World::services(&config, &data_dir).await?;
            let token = tenants::create(&world, &config, &id).await?;
            Output::new(environment).line(token.expose_secret());
            Ok(())
        }
        Command::Demo(_)
        | Command::PluginCompile
        | Command::Client(_)
        | Command::Worker {
            verb: Some(Worker::Operate(_)),
            ..
        } => Ok(()),
    }
}
