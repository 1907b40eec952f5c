//! The worker itself: registers, listens, runs, drains.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use stoker_domain::job::{EngineIdentity, JobRecord, Transition};
use stoker_domain::pool::PoolSettings;
use stoker_domain::port::{
    CatalogKind, Deliveries, Delivery, Expect, PLATFORM, QueueName, StoreError, TransitionFailed,
    transition,
};
use stoker_domain::worker::WorkerRecord;
use stoker_domain::{JobId, JobState, PoolName, WorkerId};
use stoker_plugins::ArtifactKey;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attempt::{Attempt, Handle, Shared};
use crate::config::Config;
use crate::control::Request;
use crate::device;
use crate::inputs::Inputs;
use crate::ports::Ports;
use crate::registration::Registration;

/// Time between two looks for work in the store, while the queue is away: they read all jobs of the
/// pool that haven't ended.
const LOOK_EVERY_MS: u64 = 2_000;

/// Why a worker couldn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine.
    #[error("can't start the engine")]
    Engine(#[from] stoker_engine::EngineError),
    /// The plugin host.
    #[error("can't start the plugin host")]
    Plugins(#[from] stoker_plugins::LoadError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Serves the pool until `stop` turns true; then lets its jobs save a checkpoint, and leaves.
/// `key` authenticates the plugins' native code: the one that the API seals with.
///
/// # Errors
/// [`StartError`] when it can't begin; nothing is registered then.
pub async fn run(
    config: Config,
    ports: Ports,
    pool: PoolName,
    key: ArtifactKey,
    mut stop: watch::Receiver<bool>,
) -> Result<(), StartError> {
    let incarnation = uuid::Uuid::now_v7().simple().to_string();
    let record = describe(&config, &ports, pool, incarnation);
    let (device, threads) = device::open(&config)?;
    let inputs = Inputs::new(&config, ports.clone(), key)?;
    let shared = Arc::new(Shared {
        ports: ports.clone(),
        inputs,
        device: Arc::new(device),
        threads: threads.get(),
        worker: record.id.to_string(),
        config,
    });
    let queue = QueueName::Worker(record.id.clone());
    // The queue is there before anybody can know of the worker.
    let mut consumer = ports.queue.consume(&queue).await.ok();
    let every = shared.config.heartbeat;
    make_known(&ports, &record.pool).await?;
    let registration = Registration::enter(ports.jobs.clone(), record.clone(), every).await?;
    tracing::info!(worker.id = %record.id, pool = %record.pool, slots = record.slots, "the worker is ready");
    let mut serving = Serving {
        shared,
        record,
        running: Arc::default(),
        attempts: JoinSet::new(),
        looked_ms: None,
    };
    while !*stop.borrow() {
        if consumer.is_none() {
            consumer = ports.queue.consume(&queue).await.ok();
        }
        if consumer.is_none() {
            serving.look().await;
        }
        tokio::select! {
            _ = stop.changed() => break,
            delivery = next(&mut consumer) => if !serving.handle(delivery).await {
                // What wasn't acknowledged comes again to a new consumer.
                consumer = None;
            },
            Some(_) = serving.attempts.join_next() => {}
        }
    }
    registration.drain().await;
    serving.drain().await;
    registration.leave().await;
    Ok(())
}

/// A pool is known once it has had a worker: until an operator sets it up, with the defaults.
async fn make_known(ports: &Ports, pool: &PoolName) -> Result<(), StoreError> {
    let platform = PLATFORM
        .parse()
        .map_err(|error| StoreError::Corrupt(format!("{PLATFORM}: {error}")))?;
    let settings = serde_json::to_value(PoolSettings::default())
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let put = ports.catalog.put(
        CatalogKind::Pool,
        &platform,
        pool.as_str(),
        &settings,
        Expect::Absent,
        &[],
    );
    // Somebody else may have been first.
    put.await.map(drop)
}

fn describe(config: &Config, ports: &Ports, pool: PoolName, incarnation: String) -> WorkerRecord {
    let made_up = || WorkerId::try_from(format!("worker-{incarnation}")).ok();
    #[expect(clippy::unwrap_used, reason = "the made-up id is well formed")]
    let id = config.id.clone().or_else(made_up).unwrap();
    WorkerRecord {
        version: 1,
        id,
        pool,
        incarnation,
        engine: EngineIdentity {
            build: stoker_engine::build(),
            device_class: stoker_engine::device_class(),
        },
        slots: config.slots,
        memory_bytes: config.memory_bytes.unwrap_or_else(|| {
            device::memory_bytes().map_or(0, |bytes| bytes / u64::from(config.slots.max(1)))
        }),
        place: config.place.clone(),
        draining: false,
        beats: 0,
        registered_at: ports.clock.now(),
        profile: config.profile.clone(),
    }
}

/// The next delivery; `None` when the consumer is over. Without one it waits a little, so that the
/// caller can make another.
async fn next(consumer: &mut Option<Box<dyn Deliveries>>) -> Option<Delivery> {
    let Some(deliveries) = consumer else {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        return None;
    };
    match deliveries.next().await {
        Ok(delivery) => Some(delivery),
        Err(error) => {
            tracing::warn!(%error, "the worker's queue is away; will consume again");
            *consumer = None;
            None
        }
    }
}

struct Serving {
    shared: Arc<Shared>,
    record: WorkerRecord,
    running: Arc<Mutex<HashMap<JobId, Handle>>>,
    attempts: JoinSet<()>,
    /// When it last looked by itself for what it is to run.
    looked_ms: Option<u64>,
}

impl Serving {
    /// Begins what the store says is this life's to run: while the queue is away nobody tells it.
    async fn look(&mut self) {
        let ports = self.shared.ports.clone();
        let now_ms = ports.clock.monotonic_ms();
        let waited = |last: u64| now_ms.saturating_sub(last) < LOOK_EVERY_MS;
        if self.looked_ms.is_some_and(waited) {
            return;
        }
        self.looked_ms = Some(now_ms);
        let jobs = ports.jobs.active_jobs(&self.record.pool).await;
        for record in jobs.unwrap_or_default() {
            let begun = self.running(record.id);
            let begun = begun.is_some_and(|handle| handle.token >= record.token);
            if self.holds(&record)
                && !begun
                && let Err(error) = self.begin(record.id).await
            {
                tracing::warn!(job.id = %record.id, %error, "can't begin a job; will look again");
            }
        }
    }

    /// `false`: the delivery couldn't be handled now.
    async fn handle(&mut self, delivery: Option<Delivery>) -> bool {
        let Some(Delivery { message, loan }) = delivery else {
            return true;
        };
        let known = self
            .running(message.job)
            .filter(|handle| handle.token >= message.token);
        let handled = match known {
            Some(handle) => {
                handle.nudge.notify_one();
                Ok(())
            }
            None => self.begin(message.job).await,
        };
        if let Err(error) = handled {
            tracing::warn!(job.id = %message.job, %error, "can't begin a job; its message will come again");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            return false;
        }
        if let Err(error) = loan.ack().await {
            tracing::debug!(%error, "a handled message will come again");
        }
        true
    }

    fn running(&self, job: JobId) -> Option<Handle> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&job)
            .cloned()
    }

    /// Begins the attempt if it is this life's to run. Repeats are harmless: an attempt that was
    /// begun is in `running`, and one that isn't there was never begun by this life.
    async fn begin(&mut self, job: JobId) -> Result<(), StoreError> {
        let ports = &self.shared.ports;
        let Some(mut record) = ports.jobs.job(job).await? else {
            return Ok(());
        };
        if !self.holds(&record) {
            return Ok(());
        }
        if record.state == JobState::Dispatched {
            let start = Transition::Start {
                token: record.token,
            };
            record = match transition(&*ports.jobs, job, &start, None, ports.clock.now()).await {
                Ok(change) => change.record,
                Err(TransitionFailed::Store(error)) => return Err(error),
                Err(_) => return Ok(()),
            };
        }
        let attempt = Attempt::new(self.shared.clone(), record);
        let running = self.running.clone();
        running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(job, attempt.handle());
        self.attempts.spawn(async move {
            let token = attempt.handle().token;
            attempt.run().await;
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|id, handle| *id != job || handle.token != token);
        });
        Ok(())
    }

    fn holds(&self, record: &JobRecord) -> bool {
        record.state.is_leased()
            && record.attempt.as_ref().is_some_and(|attempt| {
                attempt.worker == self.record.id && attempt.incarnation == self.record.incarnation
            })
    }

    async fn drain(&mut self) {
        let handles: Vec<_> = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        handles
            .iter()
            .for_each(|handle| handle.control.ask(Request::Pause));
        let ended = async { while self.attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shared.config.drain, ended)
            .await
            .is_err()
        {
            tracing::warn!(
                "some jobs didn't save a checkpoint in time; they go on elsewhere from their last"
            );
        }
        handles
            .iter()
            .for_each(|handle| handle.control.ask(Request::Stop));
    }
}
