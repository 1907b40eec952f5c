//! Plugins from upload to use, with the real compile child and the real samples.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod artifact;
mod augment;
mod compile_cost;
mod hostile;
mod macro_f1;
mod support;
mod turncoat;
