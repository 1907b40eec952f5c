//! Write a Stoker plugin in Rust: implement [`Preprocess`] or [`Metric`], and name the type in
//! [`preprocess!`] or [`metric!`]. The contract is `plugins/wit`; `plugins/README.md` shows how to
//! build and upload.
#![warn(missing_docs, unreachable_pub)]

extern crate self as stoker_guest;

mod batch;
#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod bindings;
mod metric;
mod preprocess;
mod random;

pub use batch::{Batch, Element, Error, Strings, Tensor, TensorSpec, Values};
pub use metric::{Accumulator, Better, Metric, MetricDescription};
pub use preprocess::{Preprocess, PreprocessDescription, Transform};
pub use random::Random;

fn read_config<C: serde::de::DeserializeOwned>(config: &str) -> Result<C, Error> {
    serde_json::from_str(config).map_err(|e| Error::InvalidConfig(e.to_string()))
}
