//! The processes and the servers, each of which can be broken and mended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use stoker_infra::ObjectConfig;
use stoker_infra::testing::Services;
use stoker_sdk::{Client, ClientConfig};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::proxy::{Proxy, Weather};

/// Faults are to be seen in seconds, not in the minutes that are right in production.
const HASTY: &[(&str, &str)] = &[
    ("STOKER__SCHEDULER__TICK", "200ms"),
    ("STOKER__SCHEDULER__LEADER_TTL", "2s"),
    ("STOKER__SCHEDULER__LEASE_TTL", "4s"),
    ("STOKER__SCHEDULER__WORKER_SILENCE", "2s"),
    ("STOKER__WORKER__HEARTBEAT", "300ms"),
    ("STOKER__WORKER__RENEWAL", "300ms"),
    ("STOKER__HOUSEKEEPING__EVERY", "5s"),
    ("STOKER__HOUSEKEEPING__COMPACT_AFTER", "1s"),
    ("STOKER__API__RATE__PER_S", "0"),
    ("STOKER__LOG__FILTER", "info"),
];
/// Makes a process see another time; Debian's package `faketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// How long the API may take to answer.
const START: Duration = Duration::from_secs(60);

/// One process of the platform.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    verb: &'static str,
    child: Option<Child>,
}

/// All of it.
pub(crate) struct Fleet {
    program: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    pub(crate) processes: Vec<Process>,
    pub(crate) services: Services,
    /// In front of Redis, RabbitMQ and S3.
    pub(crate) proxies: Vec<(&'static str, Proxy)>,
    url: String,
    token: String,
}

impl Fleet {
    pub(crate) async fn start(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let services = tokio::task::spawn_blocking(Services::start).await??;
        let mut proxies = Vec::new();
        let mut environment: Vec<(String, String)> = HASTY
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let objects = services.s3.config();
        for (name, setting, url) in [
            ("Redis", "STOKER__STORE__URL", services.redis.url()),
            ("RabbitMQ", "STOKER__QUEUE__URL", services.rabbit.url()),
            ("S3", "STOKER__OBJECTS__ENDPOINT", services.s3.endpoint()),
        ] {
            let (address, rest) = address_of(&url)?;
            let proxy = Proxy::start(address.to_owned()).await?;
            let through = url.replace(address, &format!("127.0.0.1:{}", proxy.port()));
            ensure!(through != url, "{url} has no {rest:?}");
            environment.push((setting.to_owned(), through));
            proxies.push((name, proxy));
        }
        for (setting, secret) in [
            ("STOKER__OBJECTS__ACCESS_KEY_ID", &objects.access_key_id),
            (
                "STOKER__OBJECTS__SECRET_ACCESS_KEY",
                &objects.secret_access_key,
            ),
        ] {
            let secret = secret.as_ref().context("a key of S3")?;
            environment.push((setting.to_owned(), secret.expose_secret().to_owned()));
        }
        environment.push(("STOKER__OBJECTS__URL".to_owned(), objects.url));
        environment.push(("STOKER__OBJECTS__ALLOW_HTTP".to_owned(), "true".to_owned()));
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?
            .local_addr()?
            .port();
        environment.push(("STOKER__API__BIND".to_owned(), format!("127.0.0.1:{port}")));
        let process = |name, verb| Process {
            name,
            verb,
            child: None,
        };
        let mut fleet = Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            environment,
            processes: vec![
                process("api", "api"),
                process("scheduler-1", "scheduler"),
                process("scheduler-2", "scheduler"),
                process("worker-1", "worker"),
                process("worker-2", "worker"),
            ],
            services,
            proxies,
            url: format!("http://127.0.0.1:{port}"),
            token: String::new(),
        };
        fleet.run_to_end(&["admin", "init"]).await?;
        fleet.token = fleet.run_to_end(&["tenant", "create", "acme"]).await?;
        for index in 0..fleet.processes.len() {
            fleet.start_process(index)?;
        }
        fleet.wait_ready().await?;
        Ok(fleet)
    }

    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(ClientConfig::new(
            &self.url,
            self.token.trim(),
        ))?)
    }

    /// Object storage, reached without the proxy.
    pub(crate) fn objects(&self) -> ObjectConfig {
        self.services.s3.config()
    }

    /// Whether processes' clocks can be moved here.
    pub(crate) fn can_move_clocks() -> bool {
        Path::new(FAKETIME).exists()
    }

    fn clock_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.clock"))
    }

    /// Moves a process's clock by so many seconds from the right time.
    pub(crate) fn move_clock(&self, index: usize, seconds: i64) -> anyhow::Result<()> {
        let file = self.clock_file(self.processes[index].name);
        // At once: a process reads it at any moment.
        let new = file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))?;
        std::fs::rename(new, file)?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("STOKER__DATA_DIR", self.directory.join("data"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run_to_end(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} failed: {told}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn start_process(&mut self, index: usize) -> anyhow::Result<()> {
        let Process { name, verb, .. } = self.processes[index];
        let log = self.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = self.command(&[verb]);
        if verb == "worker" {
            command.env("STOKER__WORKER__ID", name);
        }
        if Self::can_move_clocks() {
            self.move_clock(index, 0)?;
            command
                .env("LD_PRELOAD", FAKETIME)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file(name))
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        self.processes[index].child = Some(child);
        Ok(())
    }

    /// Kills a process as a power cut would.
    pub(crate) async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.processes[index].child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, index: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.processes[index].child.as_ref();
        let id = child.and_then(Child::id).map(i32::try_from).transpose()?;
        if let Some(pid) = id.and_then(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        let ready = async {
            while client.get_readiness().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(START, ready)
            .await
            .context("the API doesn't get ready")
    }

    /// Lets all be well again: the network, the clocks, and every process.
    pub(crate) async fn mend(&mut self) -> anyhow::Result<()> {
        for (_, proxy) in &self.proxies {
            proxy.set(Weather::Fair);
        }
        for index in 0..self.processes.len() {
            self.move_clock(index, 0)?;
            let gone = match &mut self.processes[index].child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if gone {
                self.start_process(index)?;
            }
            self.signal(index, Signal::CONT)?;
        }
        self.wait_ready().await
    }

    /// Whether a process has ended by itself, which none may.
    pub(crate) fn ended_by_itself(&mut self) -> anyhow::Result<Option<&'static str>> {
        for process in &mut self.processes {
            if let Some(child) = &mut process.child
                && child.try_wait()?.is_some()
            {
                return Ok(Some(process.name));
            }
        }
        Ok(None)
    }

    /// The end of a process's log.
    pub(crate) fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.directory.join(format!("{name}.log")));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for index in (0..self.processes.len()).rev() {
            self.kill(index).await?;
        }
        Ok(())
    }
}

/// `127.0.0.1:1234` in a URL, and what is around it.
fn address_of(url: &str) -> anyhow::Result<(&str, &str)> {
    let from = url.find("127.0.0.1:").context("a server on loopback")?;
    let rest = &url[from..];
    let end = rest.find('/').unwrap_or(rest.len());
    Ok((&rest[..end], url))
}
