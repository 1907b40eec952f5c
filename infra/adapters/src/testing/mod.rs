//! Real servers on loopback: Redis, RabbitMQ and S3 (moto), each with ports, directories and a life
//! of its own. Tests run the adapters against them, and break them; `stoker demo --services` runs
//! the platform over them.
//!
//! ```no_run
//! # fn main() -> Result<(), stoker_infra::testing::ServerError> {
//! let mut services = stoker_infra::testing::Services::start()?;
//! println!("{} {}", services.redis.url(), services.rabbit.url());
//! services.redis.kill(); // as a crash would
//! services.redis.restart()?; // on the same files and port
//! # Ok(())
//! # }
//! ```
//!
//! Everything here blocks: in async code, use `spawn_blocking`. Servers end when their owner is
//! dropped, and also when this process ends in any way, `kill -9` included.

mod part;
mod port;
mod rabbit;
mod redis;
mod s3;
mod server;

use std::thread;

pub use rabbit::Rabbit;
pub use redis::Redis;
pub use s3::{S3, S3_BUCKET};

/// Why a server isn't there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Its program isn't installed.
    #[error("{program} was not found: {hint}")]
    Missing {
        /// The program.
        program: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// It ended, or didn't answer in time.
    #[error("{name} didn't come up: {why}\n{log}")]
    NotReady {
        /// The server.
        name: &'static str,
        /// What happened.
        why: String,
        /// The end of what it wrote.
        log: String,
    },
    /// The machine refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: String,
    },
}

impl ServerError {
    fn system(what: &'static str, error: &impl std::fmt::Display) -> Self {
        Self::System {
            what,
            error: error.to_string(),
        }
    }
}

/// All servers that the platform needs.
#[derive(Debug)]
pub struct Services {
    /// For the stores.
    pub redis: Redis,
    /// For the queue.
    pub rabbit: Rabbit,
    /// For objects.
    pub s3: S3,
}

impl Services {
    /// Starts all of them, side by side. Takes as long as RabbitMQ does: some 10 s.
    ///
    /// # Errors
    /// [`ServerError`] of the first that doesn't come up; the others are ended.
    pub fn start() -> Result<Self, ServerError> {
        let (redis, rabbit, s3) = thread::scope(|scope| {
            let redis = scope.spawn(Redis::start);
            let rabbit = scope.spawn(Rabbit::start);
            let s3 = S3::start();
            (redis.join(), rabbit.join(), s3)
        });
        let panicked = |_| ServerError::system("starting a server", &"its thread panicked");
        Ok(Self {
            redis: redis.map_err(panicked)??,
            rabbit: rabbit.map_err(panicked)??,
            s3: s3?,
        })
    }
}
