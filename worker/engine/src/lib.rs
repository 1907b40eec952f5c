//! Runs a plan on a device, exact to the bit.
//!
//! A spec and data in, weights and metrics out: nothing here knows of jobs, tenants or HTTP. The
//! same plan, data and engine build give the same bits, whatever the number of threads.

mod augment;
mod collective;
mod cpu;
mod device;
mod error;
mod evaluate;
mod explain;
mod feed;
mod gang;
mod init;
mod lengths;
mod loss_tree;
mod masking;
mod math;
mod metric;
mod monitor;
mod normalise;
mod observer;
mod order;
mod philox;
mod predict;
mod reader;
mod run;
mod schedule;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod transform;
mod weights;

pub use collective::Collective;
pub use cpu::{Cpu, device_class};
pub use device::{Bad, Device, Session, Shard};
pub use error::EngineError;
pub use metric::{MakeMetric, Metric, MetricSource};
pub use observer::{Control, Observer, StepReport};
pub use order::hold_out;
pub use predict::Predictor;
pub use run::{Finished, Outcome, Run, RunInput};
pub use table::{NOT_COUNTED, Table, TableBuilder, TargetKind, TargetRows, Targets};
pub use transform::{Preprocess, Transform};
pub use weights::Weights;

/// The build of this engine, by version and sources: results are equal to the bit between runs of
/// one build on one device class.
#[must_use]
pub fn build() -> String {
    let profile = if cfg!(debug_assertions) { ".debug" } else { "" };
    format!(
        "stoker-engine {}+{}{profile}",
        env!("CARGO_PKG_VERSION"),
        env!("STOKER_SOURCES")
    )
}
