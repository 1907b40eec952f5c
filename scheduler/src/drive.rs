//! The clock, the ports, and [`decide`]: leads the pool, listens, reconciles, acts.

use std::sync::Arc;

use stoker_domain::job::Transition;
use stoker_domain::port::{
    Deliveries, Delivery, Guard, JobStore, QueueName, Relay, StoreError, TransitionFailed,
    WorkQueue, transition,
};
use stoker_domain::{Clock, JobId, PoolName};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Action, Config, Now, State, decide};

/// What the scheduler needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The truth.
    pub jobs: Arc<dyn JobStore>,
    /// Says where to look.
    pub queue: Arc<dyn WorkQueue>,
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
                };
                if matches!(term.serve(&mut stop).await, Ended::Stopped) {
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
            Ok(()) => self.act().await,
            Err(error) => {
                tracing::warn!(pool = %self.guard.pool, %error, "can't see the store: nothing is decided");
                None
            }
        }
    }

    async fn reconcile(&mut self) -> Result<(), StoreError> {
        let (store, pool) = (&self.ports.jobs, &self.guard.pool);
        let now = self.now();
        // Jobs are read first: a lease read later than its job can only look younger.
        let jobs = store.active_jobs(pool).await?;
        let leases = store.leases(pool).await?;
        let workers = store.workers(pool).await?;
        let gap_ms = u64::try_from((self.config.tick * 3).as_millis()).unwrap_or(u64::MAX);
        self.state.reconcile(&jobs, &leases, &workers, gap_ms, now);
        Ok(())
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
            Action::Dispatch { job, holder } => self.write(job, Transition::Dispatch(holder)).await,
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
