//! An S3 server: moto, which keeps everything in memory.
#![expect(
    clippy::disallowed_methods,
    reason = "where the server's program lies is the machine's business, not the config's"
)]

use std::env;
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use super::ServerError;
use super::part::part;
use super::port;
use super::server::{Den, Server};
use crate::objects::ObjectConfig;

const PATIENCE: Duration = Duration::from_secs(60);
/// The environment variable that names the program, where it isn't in `PATH`.
const PROGRAM: &str = "STOKER_TEST_MOTO";

/// The bucket that is there from the start.
pub const S3_BUCKET: &str = "stoker";

/// An S3 server with one bucket. It keeps everything in memory: [`S3::kill`] loses the objects,
/// [`S3::pause`] doesn't.
#[derive(Debug)]
pub struct S3 {
    server: Server,
    den: Den,
    port: u16,
}

part!(S3);

impl S3 {
    /// Starts one.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn start() -> Result<Self, ServerError> {
        let mut s3 = Self {
            server: Server::new("moto"),
            den: Den::new("moto")?,
            port: port::free()?,
        };
        s3.restart()?;
        Ok(s3)
    }

    /// Starts it again, on the same port, with an empty bucket.
    ///
    /// # Errors
    /// [`ServerError`] when it doesn't come up.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        let program = env::var(PROGRAM).unwrap_or_else(|_| "moto_server".to_owned());
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
        let port = self.port;
        // Making the bucket is asking whether it answers.
        let answers = || make_bucket(port) == Some(true);
        let started = self
            .server
            .start(&mut self.den, &mut command, PATIENCE, answers);
        started.map_err(|error| match error {
            ServerError::System { .. } => ServerError::Missing {
                program: "moto_server",
                hint: "pip install 'moto[server]', or name the program in STOKER_TEST_MOTO",
            },
            other => other,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its bucket as an object storage.
    #[must_use]
    pub fn config(&self) -> ObjectConfig {
        ObjectConfig {
            url: format!("s3://{S3_BUCKET}"),
            endpoint: Some(self.endpoint()),
            access_key_id: Some("test".into()),
            secret_access_key: Some("test".into()),
            allow_http: true,
            ..ObjectConfig::default()
        }
    }
}

fn make_bucket(port: u16) -> Option<bool> {
    let mut stream = port::connect(port)?;
    let request = format!(
        "PUT /{S3_BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    Some(answer.ends_with(b" 200"))
}
