//! Starts the platform as processes of this binary, for the demo, the benches and the tests: in one
//! process, or its roles apart over servers. Ends what it started.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use stoker_infra::testing::Services;
use stoker_sdk::{Client, ClientConfig};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a role may take to start.
const START: Duration = Duration::from_secs(60);
/// How long a role may take to end in good order.
const STOP: Duration = Duration::from_secs(40);

/// The setting that says where the API listens.
const BIND: &str = "STOKER__API__BIND";

/// A server role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All in one process.
    Up,
    /// The HTTP API.
    Api,
    /// The scheduler.
    Scheduler,
    /// A worker.
    Worker,
}

impl Role {
    const fn verb(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Api => "api",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
        }
    }
}

/// A running platform. Dropping it kills what is left of it.
pub struct Platform {
    program: PathBuf,
    data_dir: PathBuf,
    environment: Vec<(String, String)>,
    running: Vec<(Role, Child)>,
    client: Option<Client>,
    roles: &'static [Role],
}

/// What `stoker up` leaves for clients on the same machine.
#[derive(Deserialize)]
struct LocalClient {
    server: String,
    token: String,
    #[serde(default)]
    ca_cert: Option<PathBuf>,
}

impl Platform {
    /// `stoker up` on a free port, with its state under `data_dir`. `settings` are environment
    /// variables such as `STOKER__WORKER__THREADS`.
    ///
    /// # Errors
    /// When it doesn't start; its log says why.
    pub async fn embedded(
        program: &Path,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let bind = format!("127.0.0.1:{}", free_port()?);
        let mut platform = Self::new(program, data_dir, &[Role::Up], settings);
        platform.set(BIND, &bind);
        platform.start(Role::Up).await?;
        Ok(platform)
    }

    /// API, scheduler and worker apart, over these servers.
    ///
    /// # Errors
    /// When a role doesn't start; its log says why.
    pub async fn apart(
        program: &Path,
        data_dir: &Path,
        services: &Services,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        const ROLES: &[Role] = &[Role::Api, Role::Scheduler, Role::Worker];
        let mut platform = Self::new(program, data_dir, ROLES, settings);
        let bind = format!("127.0.0.1:{}", free_port()?);
        platform.set(BIND, &bind);
        platform.set("STOKER__WORKER__ID", "worker-1");
        for (name, value) in settings_of(services) {
            platform.set(name, &value);
        }
        platform.run_to_end(&["admin", "init"]).await?;
        let token = platform.run_to_end(&["tenant", "create", "acme"]).await?;
        let config = ClientConfig::new(format!("http://{bind}"), token.trim());
        platform.client = Some(Client::new(config)?);
        for role in ROLES {
            platform.start(*role).await?;
        }
        Ok(platform)
    }

    fn new(
        program: &Path,
        data_dir: &Path,
        roles: &'static [Role],
        settings: &[(&str, &str)],
    ) -> Self {
        let environment = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (program, data_dir) = (program.to_owned(), data_dir.to_owned());
        Self {
            program,
            data_dir,
            environment,
            running: Vec::new(),
            client: None,
            roles,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The client of the platform's first tenant.
    ///
    /// # Errors
    /// When the platform has never been up.
    pub fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the platform isn't up")
    }

    /// The log of a role.
    #[must_use]
    pub fn log(&self, role: Role) -> PathBuf {
        self.data_dir.join(format!("{}.log", role.verb()))
    }

    /// Starts a role, and waits until the API answers if it has one.
    ///
    /// # Errors
    /// When it ends at once or doesn't answer in time.
    pub async fn start(&mut self, role: Role) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.data_dir)?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(role))?;
        let mut command = self.command(&[role.verb()]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        self.running.push((role, child));
        if matches!(role, Role::Up | Role::Api) {
            let ready = timeout(START, self.wait_ready(role)).await;
            ready
                .unwrap_or_else(|_| bail!("not ready after {START:?}"))
                .with_context(|| {
                    let log = std::fs::read_to_string(self.log(role)).unwrap_or_default();
                    format!("`stoker {}` didn't start; its log:\n{log}", role.verb())
                })?;
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("STOKER__DATA_DIR", &self.data_dir)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run_to_end(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().await?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(
            output.status.success(),
            "`stoker {}` failed: {stderr}",
            arguments.join(" ")
        );
        Ok(stdout.into_owned())
    }

    async fn wait_ready(&mut self, role: Role) -> anyhow::Result<()> {
        loop {
            let child = self
                .running
                .iter_mut()
                .find(|(running, _)| *running == role);
            if let Some((_, child)) = child
                && let Some(status) = child.try_wait()?
            {
                bail!("it ended with {status}");
            }
            if role == Role::Up && self.client.is_none() {
                self.client = self.local_client()?;
            }
            if let Some(client) = &self.client
                && client.get_readiness().await.is_ok()
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn local_client(&self) -> anyhow::Result<Option<Client>> {
        let Ok(text) = std::fs::read_to_string(self.data_dir.join("client.toml")) else {
            return Ok(None);
        };
        let Ok(local) = toml::from_str::<LocalClient>(&text) else {
            return Ok(None);
        };
        // An earlier life's file names another port, until this one has written its own.
        let bind = self.environment.iter().rfind(|(name, _)| name == BIND);
        if !bind.is_some_and(|(_, bind)| local.server.ends_with(bind)) {
            return Ok(None);
        }
        let mut config = ClientConfig::new(local.server, local.token);
        config.ca_cert = local.ca_cert;
        Ok(Some(Client::new(config)?))
    }

    /// Kills a role as a power cut would: SIGKILL.
    ///
    /// # Errors
    /// When it isn't running.
    pub async fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        let mut child = self.take(role)?;
        child.kill().await?;
        ensure!(
            child.wait().await?.signal() == Some(9),
            "{role:?} had ended by itself"
        );
        Ok(())
    }

    fn take(&mut self, role: Role) -> anyhow::Result<Child> {
        let index = self
            .running
            .iter()
            .position(|(running, _)| *running == role);
        Ok(self
            .running
            .remove(index.with_context(|| format!("{role:?} isn't running"))?)
            .1)
    }

    /// Ends a role in good order and starts it again.
    ///
    /// # Errors
    /// When it doesn't end, ends badly, or doesn't start.
    pub async fn restart_in_good_order(&mut self, role: Role) -> anyhow::Result<()> {
        self.end(role).await?;
        self.start(role).await
    }

    /// Ends the platform in good order, workers first.
    ///
    /// # Errors
    /// When a role doesn't end, or ends badly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for role in self.roles.iter().rev() {
            if self.running.iter().any(|(running, _)| running == role) {
                self.end(*role).await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, role: Role) -> anyhow::Result<()> {
        let mut child = self.take(role)?;
        if let Some(pid) = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        {
            kill_process(pid, Signal::TERM)?;
        }
        let status = timeout(STOP, child.wait()).await;
        let status = status.with_context(|| format!("{role:?} didn't end in {STOP:?}"))??;
        ensure!(
            status.success(),
            "{role:?} ended with {status}; see {}",
            self.log(role).display()
        );
        Ok(())
    }
}

/// What tells the roles where these servers are.
fn settings_of(services: &Services) -> Vec<(&'static str, String)> {
    let objects = services.s3.config();
    let secret = |value: Option<SecretString>| {
        value.map_or_else(String::new, |value| value.expose_secret().to_owned())
    };
    vec![
        ("STOKER__STORE__URL", services.redis.url()),
        ("STOKER__QUEUE__URL", services.rabbit.url()),
        ("STOKER__OBJECTS__URL", objects.url),
        ("STOKER__OBJECTS__ENDPOINT", services.s3.endpoint()),
        ("STOKER__OBJECTS__ALLOW_HTTP", "true".to_owned()),
        (
            "STOKER__OBJECTS__ACCESS_KEY_ID",
            secret(objects.access_key_id),
        ),
        (
            "STOKER__OBJECTS__SECRET_ACCESS_KEY",
            secret(objects.secret_access_key),
        ),
    ]
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
