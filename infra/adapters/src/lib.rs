//! Adapters of the ports: embedded (SQLite), Redis, RabbitMQ and object storage.
//!
//! Vendor types stop here: what leaves this crate is a domain port, a config, or an error. The
//! composition root picks adapters by configuration; nothing else names one.

mod clock;
mod codec;
mod data_dir;
mod embedded;
mod key_source;
mod notifier;
pub mod objects;
mod points;
mod rabbit;
mod redis;
mod relay;
mod setup;
mod sources;
#[cfg(feature = "test-servers")]
pub mod testing;
mod vault;

pub use clock::SystemClock;
pub use data_dir::DataDir;
pub use embedded::{EmbeddedQueue, EmbeddedStore};
pub use key_source::HttpKeySource;
pub use notifier::{Notifier, NotifierConfig};
pub use objects::{ObjectConfig, ObjectStorage};
pub use points::TieredPoints;
pub use rabbit::{RabbitConfig, RabbitQueue};
pub use redis::{RedisConfig, RedisStore};
pub use relay::{OutboxRelay, RelayConfig};
pub use setup::SetupError;
pub use sources::{CredentialsConfig, RemoteSources, SecretRef, SourcesConfig};
pub use vault::SealedVault;
