//! The worker's record in the store, and its heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stoker_domain::port::{JobStore, StoreError};
use stoker_domain::worker::WorkerRecord;
use tokio::task::JoinHandle;

/// A registered worker, whose heart beats until it leaves or is dropped.
pub(crate) struct Registration {
    store: Arc<dyn JobStore>,
    record: WorkerRecord,
    draining: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Registration {
    /// Registers, which makes the leases of an earlier life of this worker void.
    pub(crate) async fn enter(
        store: Arc<dyn JobStore>,
        record: WorkerRecord,
        every: Duration,
    ) -> Result<Self, StoreError> {
        store.put_worker(&record).await?;
        let draining = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(beat(store.clone(), record.clone(), every, draining.clone()));
        Ok(Self {
            store,
            record,
            draining,
            task,
        })
    }

    /// Takes no new jobs from here on.
    pub(crate) async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let record = WorkerRecord {
            draining: true,
            ..self.record.clone()
        };
        if let Err(error) = self.store.put_worker(&record).await {
            tracing::warn!(%error, "couldn't say that this worker drains");
        }
    }

    /// Leaves the pool.
    pub(crate) async fn leave(self) {
        self.task.abort();
        let WorkerRecord {
            pool,
            id,
            incarnation,
            ..
        } = &self.record;
        if let Err(error) = self.store.remove_worker(pool, id, incarnation).await {
            tracing::warn!(%error, "couldn't leave the pool; the scheduler will see the silence");
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn beat(
    store: Arc<dyn JobStore>,
    mut record: WorkerRecord,
    every: Duration,
    draining: Arc<AtomicBool>,
) {
    let mut blind = false;
    loop {
        tokio::time::sleep(every).await;
        record.beats += 1;
        record.draining = draining.load(Ordering::Acquire);
        match store.put_worker(&record).await {
            Ok(()) => blind = false,
            Err(error) if !blind => {
                blind = true;
                tracing::warn!(%error, "can't store the heartbeat; will try again");
            }
            Err(_) => {}
        }
    }
}
