//! A RabbitMQ node that listens on loopback alone and meets no other.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ServerError;
use super::part::part;
use super::port;
use super::server::{Den, Server};

const PATIENCE: Duration = Duration::from_secs(120);
/// Debian puts a wrapper into `PATH` that becomes another user; this is what it wraps.
const UNWRAPPED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Keeps the node's own listener off other interfaces.
const LOOPBACK_ONLY: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// A RabbitMQ node with its own port mapper.
#[derive(Debug)]
pub struct Rabbit {
    server: Server,
    /// Erlang's port mapper: one of our own, or two nodes of one name would meet.
    mapper: Server,
    den: Den,
    port: u16,
    node_port: u16,
    mapper_port: u16,
}

part!(Rabbit);

impl Rabbit {
    /// Starts one; that takes some 10 s.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn start() -> Result<Self, ServerError> {
        let mut rabbit = Self {
            server: Server::new("rabbitmq"),
            mapper: Server::new("epmd"),
            den: Den::new("rabbitmq")?,
            port: port::free()?,
            node_port: port::free()?,
            mapper_port: port::free()?,
        };
        rabbit.write_settings()?;
        rabbit.start_mapper()?;
        rabbit.restart()?;
        Ok(rabbit)
    }

    /// Starts it again, on the same files and port.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        let unwrapped = Path::new(UNWRAPPED).exists();
        let program = if unwrapped {
            UNWRAPPED
        } else {
            "rabbitmq-server"
        };
        let dir = self.den.path();
        let mut command = Command::new(program);
        command
            .env("HOME", dir.join("home"))
            .env(
                "RABBITMQ_NODENAME",
                format!("stoker{}@localhost", self.port),
            )
            .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", dir.join("pid"))
            .env("RABBITMQ_DIST_PORT", self.node_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", LOOPBACK_ONLY)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string());
        let port = self.port;
        let answers = || answers(port) == Some(true);
        let started = self
            .server
            .start(&mut self.den, &mut command, PATIENCE, answers);
        started.map_err(|error| missing(error, "rabbitmq-server"))
    }

    /// Where it is, with its user and virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    fn write_settings(&self) -> Result<(), ServerError> {
        let settings = format!(
            "listeners.tcp.default = 127.0.0.1:{}\n\
             log.console = true\n\
             disk_free_limit.absolute = 200MB\n\
             vm_memory_high_watermark.absolute = 1GB\n",
            self.port
        );
        let dir = self.den.path();
        let written = ["home", "mnesia", "log"]
            .into_iter()
            .try_for_each(|name| fs::create_dir(dir.join(name)))
            .and_then(|()| fs::write(dir.join("rabbitmq.conf"), settings))
            .and_then(|()| fs::write(dir.join("enabled_plugins"), "[]."));
        written.map_err(|error| ServerError::system("writing RabbitMQ's settings", &error))
    }

    fn start_mapper(&mut self) -> Result<(), ServerError> {
        let mut command = Command::new("epmd");
        let port = self.mapper_port;
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        let answers = || port::connect(port).is_some();
        let started = self
            .mapper
            .start(&mut self.den, &mut command, PATIENCE, answers);
        started.map_err(|error| missing(error, "epmd"))
    }
}

fn missing(error: ServerError, program: &'static str) -> ServerError {
    match error {
        ServerError::System { .. } => ServerError::Missing {
            program,
            hint: "install the Debian package rabbitmq-server",
        },
        other => other,
    }
}

/// Whether it greets a client.
fn answers(port: u16) -> Option<bool> {
    let mut stream = port::connect(port)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
    let mut frame_type = [0];
    stream.read_exact(&mut frame_type).ok()?;
    // 1 is a method frame: `connection.start`.
    Some(frame_type == [1])
}
