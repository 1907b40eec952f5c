//! Publishes what the outbox holds: at once when told of a change, and by sweeps what was left.
//!
//! The outbox is durable and messages are wake-ups, so the relay may drop a notification, publish
//! twice and give up at any point without losing anything.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use stoker_domain::port::{
    JobStore, OutboxEntry, QueueError, QueueName, Relay, StoreError, WorkQueue,
};
use stoker_domain::time::Millis;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

/// Longest wait for what is being published when the relay is stopped.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Most that failures stretch the time between sweeps.
const BACKOFF_FACTOR_MAX: u32 = 8;

/// How the relay works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Time between sweeps of the outbox; up to eight times as long while publishing fails.
    pub sweep_every: Millis,
    /// Entries that one sweep looks at.
    pub sweep_limit: usize,
    /// Messages being published at a time.
    pub in_flight_max: usize,
    /// Notifications that may wait; further ones are left to the sweep.
    pub waiting_max: usize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            sweep_every: Millis(1_000),
            sweep_limit: 1_000,
            in_flight_max: 512,
            waiting_max: 4_096,
        }
    }
}

/// The [`Relay`]. It ends when it is dropped; [`OutboxRelay::stop`] lets it finish what it began.
pub struct OutboxRelay {
    notifications: mpsc::Sender<Vec<OutboxEntry>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl OutboxRelay {
    /// Starts the relay's task on the present tokio runtime. It begins with a sweep.
    #[must_use]
    pub fn start(
        store: Arc<dyn JobStore>,
        queue: Arc<dyn WorkQueue>,
        config: &RelayConfig,
    ) -> Arc<Self> {
        let (notifications, waiting) = mpsc::channel(config.waiting_max.max(1));
        let (stop, stopping) = watch::channel(false);
        let publisher = Publisher {
            store,
            queue,
            config: config.clone(),
            publishing: FuturesUnordered::new(),
            in_flight: HashSet::new(),
            published: Vec::new(),
            clearing: None,
            seen: None,
            failing: false,
            failed_sweeps: 0,
        };
        let task = tokio::spawn(publisher.run(waiting, stopping));
        Arc::new(Self {
            notifications,
            stop,
            task: Mutex::new(Some(task)),
        })
    }

    /// Takes no more notifications, and waits at most 5 s for what is being published.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            let aborter = task.abort_handle();
            if time::timeout(STOP_WAIT, task).await.is_err() {
                aborter.abort();
            }
        }
    }
}

impl Relay for OutboxRelay {
    fn notify(&self, entries: Vec<OutboxEntry>) {
        if !entries.is_empty() && self.notifications.try_send(entries).is_err() {
            tracing::debug!("the relay is busy or stopped: entries are left to the sweep");
        }
    }
}

impl Drop for OutboxRelay {
    fn drop(&mut self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The id of an entry, and what became of it.
type Published = (String, Result<(), QueueError>);
type Publishing = Pin<Box<dyn Future<Output = Published> + Send>>;
type Clearing = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

struct Publisher {
    store: Arc<dyn JobStore>,
    queue: Arc<dyn WorkQueue>,
    config: RelayConfig,
    publishing: FuturesUnordered<Publishing>,
    /// Published or being published, but still in the outbox.
    in_flight: HashSet<String>,
    /// To be removed from the outbox.
    published: Vec<String>,
    clearing: Option<(Vec<String>, Clearing)>,
    /// What the last sweep saw; nothing before the first, which takes all.
    seen: Option<HashSet<String>>,
    /// Whether the last thing tried failed.
    failing: bool,
    /// Sweeps in a row that found nothing going through.
    failed_sweeps: u32,
}

impl Publisher {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<Vec<OutboxEntry>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut next_sweep = Instant::now();
        loop {
            let stopped = *stopping.borrow();
            if stopped && self.publishing.is_empty() && self.clearing.is_none() {
                return;
            }
            let room = self.publishing.len() < self.config.in_flight_max;
            tokio::select! {
                biased;
                Some(published) = self.publishing.next() => {
                    if self.settle(published) {
                        next_sweep = Instant::now();
                    }
                }
                cleared = clear(&mut self.clearing) => self.cleared(cleared),
                Some(entries) = waiting.recv(), if room && !stopped => self.publish(entries),
                () = time::sleep_until(next_sweep), if room && !stopped => {
                    let again_at_once = self.sweep().await;
                    next_sweep = Instant::now() + self.pause(again_at_once);
                }
                Ok(()) = stopping.changed(), if !stopped => {}
                else => return,
            }
            self.begin_clearing();
        }
    }

    fn publish(&mut self, entries: Vec<OutboxEntry>) {
        for entry in entries {
            if !self.in_flight.insert(entry.id.clone()) {
                continue;
            }
            let queue = Arc::clone(&self.queue);
            self.publishing.push(Box::pin(async move {
                let published = queue.publish(&entry.queue, &entry.message).await;
                (entry.id, published)
            }));
        }
    }

    /// Notes what became of a message. Whether it is the first to go through again.
    fn settle(&mut self, (id, published): Published) -> bool {
        match published {
            // No route: the worker is gone, and whoever leads its pool sees that in the store.
            Ok(()) | Err(QueueError::NoRoute(QueueName::Worker(_))) => {
                self.published.push(id);
                std::mem::take(&mut self.failing)
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "messages stay in the outbox");
                }
                self.failing = true;
                self.in_flight.remove(&id);
                false
            }
        }
    }

    fn begin_clearing(&mut self) {
        if self.clearing.is_some() || self.published.is_empty() {
            return;
        }
        let ids = std::mem::take(&mut self.published);
        let (store, done) = (Arc::clone(&self.store), ids.clone());
        let clearing = Box::pin(async move { store.outbox_done(&done).await });
        self.clearing = Some((ids, clearing));
    }

    fn cleared(&mut self, (ids, outcome): (Vec<String>, Result<(), StoreError>)) {
        self.clearing = None;
        if let Err(error) = outcome {
            tracing::warn!(%error, "published entries stay in the outbox, and will be published again");
        }
        for id in ids {
            self.in_flight.remove(&id);
        }
    }

    /// Publishes what was left. Whether there is more, to be swept at once.
    async fn sweep(&mut self) -> bool {
        let entries = match self.store.outbox(self.config.sweep_limit).await {
            Ok(entries) => entries,
            Err(error) => {
                self.failing = true;
                tracing::debug!(%error, "the outbox can't be swept");
                return false;
            }
        };
        // Entries that the last sweep didn't see are likely on their way already; a full sweep
        // means that they pile up.
        let full = entries.len() >= self.config.sweep_limit;
        let seen: HashSet<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        let left = |id: &String| full || self.seen.as_ref().is_none_or(|seen| seen.contains(id));
        let left: Vec<_> = entries
            .into_iter()
            .filter(|entry| left(&entry.id))
            .collect();
        self.seen = Some(seen);
        // While nothing goes through, one message tries the way.
        let tried = if self.failing { 1 } else { left.len() };
        self.publish(left.into_iter().take(tried).collect());
        full && !self.failing
    }

    fn pause(&mut self, again_at_once: bool) -> Duration {
        let every = Duration::from_millis(self.config.sweep_every.0.max(1));
        if again_at_once {
            return every / 20;
        }
        self.failed_sweeps = match self.failing {
            true => self.failed_sweeps.saturating_add(1),
            false => 0,
        };
        every * (1_u32 << self.failed_sweeps.min(31)).min(BACKOFF_FACTOR_MAX)
    }
}

/// The end of the removal under way, if there is one.
async fn clear(
    clearing: &mut Option<(Vec<String>, Clearing)>,
) -> (Vec<String>, Result<(), StoreError>) {
    match clearing {
        Some((ids, clearing)) => {
            let outcome = clearing.await;
            (std::mem::take(ids), outcome)
        }
        None => std::future::pending().await,
    }
}
