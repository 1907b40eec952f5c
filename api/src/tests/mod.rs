//! The API in process, over the embedded store: a server on a free port, and a client.

mod artifacts;
mod audit;
mod auth;
mod bad_input;
mod batch;
mod datasets;
mod documents;
mod events;
mod harness;
mod jobs;
mod keys;
mod plugins;
mod pools;
mod ports;
mod predict;
mod problems;
mod projects;
mod quotes;
mod rate;
mod replay;
mod roles;
mod secrets;
mod sources;
mod tokenizers;
mod uploads;
