//! The HTTP API: `docs/api-design.md` on actix-web, over the domain's ports alone.
//!
//! A handler reads typed input, proves its right by an `extract::Authorized` argument, makes one
//! call into a port or a pure function, and maps the answer. The ports can be reached through that
//! argument only, so a handler that forgets the check doesn't compile.

mod app;
mod auth;
mod compile;
mod config;
mod extract;
mod openapi;
mod problem;
mod rate;
mod request;
mod routes;
mod server;

pub use app::Ports;
pub use auth::{Grant, KeyError, SigningKey};
pub use config::{AuthConfig, Config, EventsConfig, RateConfig, TlsConfig, UploadsConfig};
pub use openapi::document as openapi_document;
pub use server::{ServeError, Server, serve};

#[cfg(test)]
mod tests;
