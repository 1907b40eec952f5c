//! A Redis that keeps what it confirms.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use super::ServerError;
use super::part::part;
use super::port;
use super::server::{Den, Server};

const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis with `appendonly yes` and `appendfsync always`.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    den: Den,
    port: u16,
    settings: Vec<String>,
}

part!(Redis);

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_with(&[("appendonly", "yes"), ("appendfsync", "always")])
    }

    /// Starts one with these settings rather than the safe ones.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let settings = settings
            .iter()
            .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
            .collect();
        let mut redis = Self {
            server: Server::new("redis"),
            den: Den::new("redis")?,
            port: port::free()?,
            settings,
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts it again, on the same files and port.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--daemonize", "no", "--dir"])
            .arg(self.den.path())
            .args(&self.settings);
        let port = self.port;
        let answers = || answers(port) == Some(true);
        let started = self
            .server
            .start(&mut self.den, &mut command, PATIENCE, answers);
        started.map_err(|error| match error {
            ServerError::System { .. } => ServerError::Missing {
                program: "redis-server",
                hint: "install the Debian package redis-server",
            },
            other => other,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Whether it has read its files and takes commands.
fn answers(port: u16) -> Option<bool> {
    let mut stream = port::connect(port)?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).ok()?;
    Some(answer == *b"+PONG")
}
