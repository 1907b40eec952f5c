//! The clock, the ports, and [`decide`]: leads the pool, listens, reconciles, acts.

use std::sync::Arc;

use stoker_domain::job::{Holder, Transition};
use stoker_domain::port::{
    Catalog, Deliveries, Delivery, Guard, JobStore, QueueName, Relay, StoreError, TransitionFailed,
    WorkQueue, transition,
};
use stoker_domain::{Clock, JobId, PoolName};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Action, Config, Now, State, decide, settings};

/// What the scheduler needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The truth.
    pub jobs: Arc<dyn JobStore>,
    /// Says where to look.
    pub queue: Arc<dyn WorkQueue>,
    /// Holds the pool's settings, the operators' orders and what tenants have used.
    pub catalog: Arc<dyn Catalog>,
    /// Publishes what was written.
    pub relay: Arc<dyn Relay>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a term of leadership ended.
enum Ended {
    Fenced,
    Stopped,
}

/// Schedules the pool until `stop` turns true, whenever `candidate` leads it. Several schedulers
/// may run for one pool: one leads, the others wait.
pub async fn run(
    config: Config,
    ports: Ports,
    pool: PoolName,
    candidate: String,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval(config.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ttl_ms = u64::try_from(config.leader_ttl.as_millis()).unwrap_or(u64::MAX);
    let mut seen_failure = false;
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        match ports.jobs.lead(&pool, &candidate, ttl_ms).await {
            Ok(Some(epoch)) => {
                tracing::info!(pool = %pool, epoch, "this scheduler leads the pool");
                let guard = Guard {
                    pool: pool.clone(),
                    epoch,
                };
                let mut term = Term {
                    config: &config,
                    ports: &ports,
                    guard,
                    candidate: &candidate,
                    ttl_ms,
                    state: State::default(),
                    usage_saved_ms: None,
                };
                let ended = term.serve(&mut stop).await;
                if matches!(ended, Ended::Stopped) {
                    term.save_usage().await;
                    break;
                }
                tracing::warn!(pool = %pool, epoch, "another scheduler leads the pool now");
            }
            Ok(None) => seen_failure = false,
            Err(error) if !seen_failure => {
                seen_failure = true;
                tracing::warn!(pool = %pool, %error, "can't ask for leadership; will try again");
            }
            Err(_) => {}
        }
    }
    if let Err(error) = ports.jobs.resign(&pool, &candidate).await {
        tracing::debug!(pool = %pool, %error, "leadership ends by itself");
    }
}

/// One term of leadership.
struct Term<'a> {
    config: &'a Config,
    ports: &'a Ports,
    guard: Guard,
    candidate: &'a str,
    ttl_ms: u64,
    state: State,
    /// When use was last saved; `None` until the last scheduler's was read.
    usage_saved_ms: Option<u64>,
}

impl Term<'_> {
    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Ended {
        let queue = QueueName::Pool(self.guard.pool.clone());
        let mut ticks = interval(self.config.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut consumer: Option<Box<dyn Deliveries>> = None;
        loop {
            if consumer.is_none() {
                consumer = self.ports.queue.consume(&queue).await.ok();
            }
            let ended = tokio::select! {
                _ = stop.changed() => Some(Ended::Stopped),
                _ = ticks.tick() => self.tick().await,
                delivery = next(&mut consumer) => match delivery {
                    Some(delivery) => self.handle(delivery).await,
                    None => None,
                },
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Renews leadership and reconciles with the store. The store away: nothing is decided.
    async fn tick(&mut self) -> Option<Ended> {
        match self
            .ports
            .jobs
            .lead(&self.guard.pool, self.candidate, self.ttl_ms)
            .await
        {
            Ok(Some(epoch)) if epoch == self.guard.epoch => {}
            Ok(_) => return Some(Ended::Fenced),
            Err(_) => return None,
        }
        match self.reconcile().await {
            Ok(()) => {
                let ended = self.act().await;
                self.save_usage_in_time().await;
                ended
            }
            Err(error) => {
                tracing::warn!(pool = %self.guard.pool, %error, "can't see the store: nothing is decided");
                None
            }
        }
    }

    async fn reconcile(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        self.observe_operators(now).await?;
        self.restore_usage(now).await?;
        let (store, pool) = (&self.ports.jobs, &self.guard.pool);
        // Jobs are read first: a lease read later than its job can only look younger.
        let jobs = store.active_jobs(pool).await?;
        let leases = store.leases(pool).await?;
        let workers = store.workers(pool).await?;
        let gap_ms = u64::try_from((self.config.tick * 3).as_millis()).unwrap_or(u64::MAX);
        self.state.reconcile(&jobs, &leases, &workers, gap_ms, now);
        Ok(())
    }

    /// What the operators want. What can't be read doesn't stop the pool: the last that could holds.
    async fn observe_operators(&mut self, now: Now) -> Result<(), StoreError> {
        let (catalog, pool) = (&*self.ports.catalog, &self.guard.pool);
        let pool_settings = settings::pool_settings(catalog, pool).await;
        let orders = settings::worker_orders(catalog, pool).await;
        if let Some(settings) = readable(pool_settings, pool, "the pool's settings")? {
            self.state.observe_settings(settings, now);
        }
        if let Some(orders) = readable(orders, pool, "the workers' orders")? {
            self.state.observe_orders(orders);
        }
        Ok(())
    }

    /// Goes on from what the last scheduler left, once in a term.
    async fn restore_usage(&mut self, now: Now) -> Result<(), StoreError> {
        if self.usage_saved_ms.is_some() {
            return Ok(());
        }
        let pool = &self.guard.pool;
        let usage = settings::usage(&*self.ports.catalog, pool).await;
        if let Some(usage) = readable(usage, pool, "what tenants have used")?.flatten() {
            self.state.restore_usage(&usage, now);
        }
        self.usage_saved_ms = Some(now.monotonic_ms);
        Ok(())
    }

    async fn save_usage_in_time(&mut self) {
        let now_ms = self.ports.clock.monotonic_ms();
        let interval_ms = self.config.usage_interval.as_millis();
        let due = |saved_ms: u64| u128::from(now_ms.saturating_sub(saved_ms)) >= interval_ms;
        if self.usage_saved_ms.is_some_and(due) {
            self.save_usage().await;
        }
    }

    /// Leaves what tenants have used for the next scheduler. It is lost for as long as it can't be
    /// written, and no more.
    async fn save_usage(&mut self) {
        if self.usage_saved_ms.is_none() {
            return;
        }
        let now = self.now();
        let (catalog, pool) = (&*self.ports.catalog, &self.guard.pool);
        match settings::save_usage(catalog, pool, &self.state.usage(now)).await {
            Ok(()) => self.usage_saved_ms = Some(now.monotonic_ms),
            Err(error) => tracing::debug!(%pool, %error, "what tenants have used wasn't saved"),
        }
    }

    async fn handle(&mut self, delivery: Delivery) -> Option<Ended> {
        let ended = match self.look_at(delivery.message.job).await {
            Ok(()) => self.act().await,
            // The message only said where to look: the next reconciliation looks everywhere.
            Err(_) => None,
        };
        if let Err(error) = delivery.loan.ack().await {
            tracing::debug!(%error, "a handled message will come again");
        }
        ended
    }

    async fn look_at(&mut self, id: JobId) -> Result<(), StoreError> {
        let now = self.now();
        match self.ports.jobs.job(id).await? {
            Some(record) if *record.pool() == self.guard.pool => {
                self.state.observe_job(&record, now)
            }
            _ => self.state.observe_gone(id),
        }
        Ok(())
    }

    /// Does what is decided, and decides again until there is nothing to do.
    async fn act(&mut self) -> Option<Ended> {
        loop {
            let actions = decide(&self.state, self.config, self.now());
            if actions.is_empty() {
                return None;
            }
            for action in actions {
                match self.carry_out(action).await {
                    Ok(()) => {}
                    Err(TransitionFailed::Fenced) => return Some(Ended::Fenced),
                    Err(error) => {
                        tracing::warn!(pool = %self.guard.pool, %error, "a decision wasn't written; the next tick decides again");
                        return None;
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> Result<(), TransitionFailed> {
        match action {
            Action::Dispatch { job, holders } => self.dispatch(job, holders).await,
            Action::Hold {
                job,
                workers,
                until_ms,
                victims,
            } => {
                self.state.observe_hold(job, workers, &victims, until_ms);
                Ok(())
            }
            Action::Preempt { job, token, reason } => {
                tracing::info!(job.id = %job, token, reason, "a job makes room");
                self.write(job, Transition::Preempt { token, reason }).await
            }
            Action::LoseLease { job, token, reason } => {
                tracing::warn!(job.id = %job, token, %reason, "a lease is lost");
                self.write(
                    job,
                    Transition::LoseLease {
                        token,
                        reason: reason.to_string(),
                    },
                )
                .await
            }
            Action::ForgetWorker {
                worker,
                incarnation,
            } => {
                tracing::warn!(worker.id = %worker, "a worker is gone");
                self.ports
                    .jobs
                    .remove_worker(&self.guard.pool, &worker, &incarnation)
                    .await?;
                self.state.observe_worker_gone(&worker);
                Ok(())
            }
        }
    }

    async fn dispatch(
        &mut self,
        job: JobId,
        mut holders: Vec<Holder>,
    ) -> Result<(), TransitionFailed> {
        match (holders.pop(), holders.is_empty()) {
            (Some(holder), true) => self.write(job, Transition::Dispatch(holder)).await,
            // An attempt has one worker: ranks come with distributed runs, and no spec asks for them.
            _ => {
                let ranks = holders.len() + 1;
                tracing::error!(job.id = %job, ranks, "a run on several workers can't be written");
                self.state.observe_gone(job);
                Ok(())
            }
        }
    }

    async fn write(&mut self, job: JobId, what: Transition) -> Result<(), TransitionFailed> {
        let now = self.now();
        match transition(&*self.ports.jobs, job, &what, Some(&self.guard), now.wall).await {
            Ok(change) => {
                self.ports.relay.notify(change.outbox());
                self.state.observe_job(&change.record, now);
                Ok(())
            }
            // Somebody was faster: look at what they made of it.
            Err(TransitionFailed::Gone | TransitionFailed::Refused(_)) => {
                Ok(self.look_at(job).await?)
            }
            Err(error) => Err(error),
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.ports.clock.now(),
            monotonic_ms: self.ports.clock.monotonic_ms(),
        }
    }
}

/// What was read; `None` when this version can't read it, which somebody should see to.
fn readable<T>(
    read: Result<T, StoreError>,
    pool: &PoolName,
    what: &str,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Corrupt(error)) => {
            tracing::error!(%pool, error, "{what} can't be read: the last that could hold");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The next delivery. `None`: the consumer is over, or there is none; then it waits for the next
/// tick, which makes another.
async fn next(consumer: &mut Option<Box<dyn Deliveries>>) -> Option<Delivery> {
    let Some(deliveries) = consumer else {
        return std::future::pending().await;
    };
    match deliveries.next().await {
        Ok(delivery) => Some(delivery),
        Err(error) => {
            tracing::warn!(%error, "the pool's queue is away: the next tick sees new jobs");
            *consumer = None;
            None
        }
    }
}
