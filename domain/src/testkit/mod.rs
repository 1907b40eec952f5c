//! Contract suites of the ports: one suite, run over every adapter.
//!
//! An adapter's tests name a function that opens a fresh, empty adapter, together with whatever
//! must live as long:
//!
//! ```text
//! async fn open() -> (EmbeddedStore, TempDir) { … }
//! stoker_domain::job_store_suite!(open);
//! ```
//!
//! Each contract is one test. They need the adapter's crate to have tokio with its macros.

pub mod catalog;
pub mod fixture;
pub mod job_store;
pub mod telemetry;
pub mod work_queue;

/// One test per contract.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $open:expr, [$($contract:ident),+ $(,)?]) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $contract() {
            let (adapter, _keep) = $open().await;
            $crate::testkit::$suite::$contract(&adapter).await;
        }
    )+};
}
