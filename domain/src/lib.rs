//! The words of Stoker: ids, specs, the job's state machine, error codes, and the ports through
//! which the parts meet.
//!
//! Nothing here does I/O. A transition is a pure function of a record; an adapter stores what the
//! function returned, atomically.

pub mod audit;
pub mod dataset;
pub mod diff;
pub mod error;
pub mod explain;
pub mod id;
pub mod job;
pub mod model;
pub mod notice;
pub mod object;
pub mod plugin;
pub mod pool;
pub mod port;
pub mod project;
pub mod spec;
pub mod tenant;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod upload;
pub mod usage;
pub mod view;
pub mod worker;

pub use error::{ErrorCode, FieldError};
pub use id::{JobId, PoolName, Ref, TenantId, UploadId, WorkerId};
pub use job::{JobRecord, JobState};
pub use spec::JobSpec;
pub use time::{Clock, Timestamp};
