//! The state machine. A transition is a pure function of the record: it returns the next record,
//! the events, and the message to publish; a store writes all three in one atomic step.

use super::{
    Attempt, Checkpoint, EngineIdentity, Event, EventBody, Failure, FailureKind, JobRecord,
    JobState, LetGo, MS_PER_HOUR, Outcome,
};
use crate::id::WorkerId;
use crate::notice::Notice;
use crate::port::{Document, Message, QueueName};
use crate::time::Timestamp;
use crate::usage::UsageRecord;

/// Deaths of a worker without a new checkpoint after which the job fails: a job that kills its
/// worker doesn't loop.
pub const DEATHS_MAX: u32 = 3;

/// Failures of the platform without a new checkpoint after which the job fails: none goes on for
/// ever. `retry.on.platform` says otherwise.
pub const PLATFORM_FAILURES_MAX: u32 = 20;

/// Most that the wait between attempts grows, as a factor of `retry.backoff`.
const BACKOFF_FACTOR_MAX: u64 = 64;

/// States in which a worker holds the lease, and those in which it has begun.
const LEASED: &[JobState] = &[JobState::Dispatched, JobState::Running, JobState::Pausing];
const BEGUN: &[JobState] = &[JobState::Running, JobState::Pausing];

/// The worker that gets a lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// The worker.
    pub worker: WorkerId,
    /// Which life of it.
    pub incarnation: String,
    /// What it runs with.
    pub engine: EngineIdentity,
    /// What each of its devices costs for an hour.
    pub price_per_device_hour: f64,
}

/// What may happen to a job. Those with a token are the lease holder's, and refused to any other.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// The scheduler gives it to a worker.
    Dispatch(Holder),
    /// The worker begins.
    Start {
        /// The holder's token.
        token: u64,
    },
    /// The worker has saved a checkpoint.
    Checkpoint {
        /// The holder's token.
        token: u64,
        /// What it saved.
        checkpoint: Checkpoint,
    },
    /// The worker has finished.
    Succeed {
        /// The holder's token.
        token: u64,
        /// What it produced.
        outcome: Outcome,
    },
    /// The worker gave up.
    Fail {
        /// The holder's token.
        token: u64,
        /// Why.
        failure: Failure,
    },
    /// The scheduler needs the place, or its operator the worker: to save a checkpoint, let go, and be
    /// queued again.
    Preempt {
        /// The token of the attempt.
        token: u64,
        /// What for.
        reason: String,
    },
    /// The worker let go after a checkpoint: it was asked to, or it drains.
    Release {
        /// The holder's token.
        token: u64,
    },
    /// The scheduler has seen that the lease's holder is gone.
    LoseLease {
        /// The lost token.
        token: u64,
        /// How that was seen.
        reason: String,
    },
    /// Somebody asked for the end.
    Cancel,
    /// Somebody asked for the end, after a checkpoint.
    CancelGently,
    /// Somebody asked for a pause.
    Pause,
    /// Somebody asked to go on.
    Resume,
}

/// Why a transition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The caller doesn't hold the lease any more.
    #[error("token {given} is stale, {current} is the newest")]
    Stale {
        /// The caller's token.
        given: u64,
        /// The newest token.
        current: u64,
    },
    /// The present state doesn't allow it.
    #[error("the job is {}", .0.as_str())]
    State(JobState),
}

/// What a transition did: to be written in one atomic step.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The record as it is after.
    pub record: JobRecord,
    /// New events; their positions follow the record's old ones.
    pub events: Vec<Event>,
    /// What others must hear of, through the outbox.
    pub messages: Vec<(QueueName, Message)>,
    /// What is kept besides: use, and who did it.
    pub documents: Vec<Document>,
}

impl Change {
    pub(super) fn new(
        record: JobRecord,
        events: Vec<Event>,
        to_worker: Option<(QueueName, Message)>,
    ) -> Self {
        let pool = QueueName::Pool(record.pool().clone());
        let message = Message::new(record.id, record.token);
        let to_pool = (record.state == JobState::Queued || !record.state.is_leased())
            .then_some((pool, message));
        let notices = Notice::of(&record, &events);
        let documents = notices.filter_map(|notice| notice.document(notice.created_at));
        Self {
            documents: documents.collect(),
            messages: to_worker.into_iter().chain(to_pool).collect(),
            record,
            events,
        }
    }
}

impl JobRecord {
    /// What `transition` makes of this record.
    ///
    /// # Errors
    /// [`TransitionError`] when the lease isn't the caller's or the state doesn't allow it; nothing
    /// is to be written then.
    pub fn apply(&self, transition: Transition, now: Timestamp) -> Result<Change, TransitionError> {
        let mut next = self.clone();
        next.revision += 1;
        next.updated_at = now;
        let mut bodies = Vec::new();
        let tell_worker = self.tells_worker(&transition);
        match transition {
            Transition::Cancel
            | Transition::CancelGently
            | Transition::Pause
            | Transition::Resume => {
                next.obey(&transition, now, &mut bodies)?;
            }
            Transition::Dispatch(holder) => {
                self.require(&[JobState::Queued])?;
                next.dispatch(holder, now, &mut bodies);
            }
            Transition::Start { token } => {
                self.require_holder(token, &[JobState::Dispatched])?;
                next.start(now, &mut bodies);
            }
            Transition::Checkpoint { token, checkpoint } => {
                self.require_holder(token, BEGUN)?;
                next.advance(checkpoint, &mut bodies);
            }
            Transition::Succeed { token, outcome } => {
                self.require_holder(token, BEGUN)?;
                next.succeed(outcome, now, &mut bodies);
            }
            Transition::Fail { token, failure } => {
                self.require_holder(token, LEASED)?;
                next.fail(failure, now, &mut bodies);
            }
            Transition::Preempt { token, reason } => {
                self.require_holder(token, &[JobState::Dispatched, JobState::Running])?;
                next.let_go(
                    LetGo::Preempt,
                    EventBody::Preempting { reason },
                    &mut bodies,
                );
            }
            Transition::Release { token } => {
                self.require_holder(token, LEASED)?;
                next.release(now, &mut bodies);
            }
            Transition::LoseLease { token, reason } => {
                self.require_holder(token, LEASED)?;
                next.lose_lease(reason, now, &mut bodies);
            }
        }
        let to_worker = next.attempt.as_ref().filter(|_| tell_worker);
        let to_worker = to_worker.map(|attempt| {
            let message = Message::new(next.id, next.token);
            (QueueName::Worker(attempt.worker.clone()), message)
        });
        let events = next.number(bodies, now);
        let used = UsageRecord::of(self, &next).map(|used| used.document(&next));
        let mut change = Change::new(next, events, to_worker);
        change.documents.extend(used);
        Ok(change)
    }

    /// The events of what happened, at the record's next positions.
    fn number(&mut self, bodies: Vec<EventBody>, at: Timestamp) -> Vec<Event> {
        let events = bodies.into_iter().map(|body| {
            let position = self.next_event;
            self.next_event += 1;
            Event {
                position,
                at,
                token: self.token,
                body,
            }
        });
        events.collect()
    }

    /// Whether a worker has to hear of it: it gets the job, or holds it and is asked for something.
    const fn tells_worker(&self, transition: &Transition) -> bool {
        match transition {
            Transition::Dispatch(_) => true,
            Transition::Preempt { .. } => true,
            Transition::Cancel | Transition::CancelGently | Transition::Pause => {
                self.state.is_leased()
            }
            _ => false,
        }
    }

    /// What people ask for.
    fn obey(
        &mut self,
        request: &Transition,
        now: Timestamp,
        bodies: &mut Vec<EventBody>,
    ) -> Result<(), TransitionError> {
        match request {
            Transition::Pause if self.state == JobState::Queued => {
                bodies.push(EventBody::Paused {});
                self.state = JobState::Paused;
            }
            // Who asks for a pause of what is preempted wants it not to be queued again.
            Transition::Pause if self.letting_go == Some(LetGo::Preempt) => {
                self.let_go(LetGo::Pause, EventBody::Pausing {}, bodies);
            }
            Transition::Pause => {
                self.require(&[JobState::Dispatched, JobState::Running])?;
                self.let_go(LetGo::Pause, EventBody::Pausing {}, bodies);
            }
            Transition::Resume => {
                self.require(&[JobState::Paused])?;
                bodies.push(EventBody::Queued {});
                self.state = JobState::Queued;
                self.not_before = None;
            }
            Transition::CancelGently
                if self.state.is_leased() && self.letting_go != Some(LetGo::Cancel) =>
            {
                self.let_go(LetGo::Cancel, EventBody::Cancelling {}, bodies);
            }
            Transition::CancelGently if self.state.is_leased() => {
                return Err(TransitionError::State(self.state));
            }
            _ => {
                if self.state.is_final() {
                    return Err(TransitionError::State(self.state));
                }
                bodies.push(EventBody::Cancelled {});
                self.end(JobState::Cancelled, now);
            }
        }
        Ok(())
    }

    fn let_go(&mut self, why: LetGo, event: EventBody, bodies: &mut Vec<EventBody>) {
        bodies.push(event);
        self.state = JobState::Pausing;
        self.letting_go = Some(why);
    }

    fn advance(&mut self, checkpoint: Checkpoint, bodies: &mut Vec<EventBody>) {
        let (step, blake3) = (checkpoint.step, checkpoint.blake3.clone());
        bodies.push(EventBody::Checkpointed { step, blake3 });
        self.checkpoint = Some(checkpoint);
        self.deaths = 0;
        self.failures.remove(&FailureKind::Platform);
    }

    fn succeed(&mut self, outcome: Outcome, now: Timestamp, bodies: &mut Vec<EventBody>) {
        bodies.push(EventBody::Succeeded {
            manifest_blake3: outcome.manifest_blake3.clone(),
        });
        self.result = Some(outcome);
        self.failure = None;
        self.end(JobState::Succeeded, now);
    }

    fn require(&self, allowed: &[JobState]) -> Result<(), TransitionError> {
        allowed
            .contains(&self.state)
            .then_some(())
            .ok_or(TransitionError::State(self.state))
    }

    fn require_holder(&self, token: u64, allowed: &[JobState]) -> Result<(), TransitionError> {
        if token != self.token {
            return Err(TransitionError::Stale {
                given: token,
                current: self.token,
            });
        }
        self.require(allowed)
    }

    fn dispatch(&mut self, holder: Holder, now: Timestamp, bodies: &mut Vec<EventBody>) {
        let number = self
            .attempt
            .as_ref()
            .map_or(1, |attempt| attempt.number + 1);
        self.state = JobState::Dispatched;
        self.token += 1;
        self.not_before = None;
        match &self.engine {
            None => self.engine = Some(holder.engine),
            Some(engine) if *engine != holder.engine && self.exact => {
                self.exact = false;
                bodies.push(EventBody::Inexact {});
            }
            Some(_) => {}
        }
        bodies.push(EventBody::Dispatched {
            worker: holder.worker.clone(),
            attempt: number,
        });
        self.attempt = Some(Attempt {
            number,
            token: self.token,
            worker: holder.worker,
            incarnation: holder.incarnation,
            price_per_device_hour: holder.price_per_device_hour,
            dispatched_at: now,
            started_at: None,
            ended_at: None,
        });
    }

    fn start(&mut self, now: Timestamp, bodies: &mut Vec<EventBody>) {
        self.state = JobState::Running;
        if let Some(attempt) = &mut self.attempt {
            attempt.started_at = Some(now);
        }
        bodies.push(EventBody::Started {
            from_step: self
                .checkpoint
                .as_ref()
                .map_or(0, |checkpoint| checkpoint.step),
        });
    }

    fn fail(&mut self, failure: Failure, now: Timestamp, bodies: &mut Vec<EventBody>) {
        let kind = failure.kind;
        let of_kind = self.failures.entry(kind).or_default();
        *of_kind += 1;
        let retry = &self.spec.retry;
        let (failed, attempts, backoff) = match retry.on.get(&kind) {
            Some(rule) => (*of_kind, rule.attempts, rule.backoff),
            None if kind == FailureKind::Platform => {
                (*of_kind, PLATFORM_FAILURES_MAX, retry.backoff)
            }
            None => {
                self.failed_attempts += 1;
                (self.failed_attempts, retry.attempts, retry.backoff)
            }
        };
        self.failure = Some(failure.clone());
        if !kind.retryable() || failed >= attempts {
            return self.end_failed(failure, now, bodies);
        }
        // Whoever asked for it to let go gets that, and not another try.
        if self.state == JobState::Pausing && self.letting_go != Some(LetGo::Preempt) {
            return self.release(now, bodies);
        }
        let doublings = failed.saturating_sub(1).min(u64::BITS - 1);
        let factor = (1_u64 << doublings).min(BACKOFF_FACTOR_MAX);
        let wait_ms = backoff.0.saturating_mul(factor);
        self.requeue(failure.message, Some(now.plus_millis(wait_ms)), now, bodies);
    }

    /// What becomes of it now that nobody holds it.
    fn release(&mut self, now: Timestamp, bodies: &mut Vec<EventBody>) {
        match (self.state, self.letting_go) {
            (JobState::Pausing, Some(LetGo::Cancel)) => {
                bodies.push(EventBody::Cancelled {});
                self.end(JobState::Cancelled, now);
            }
            (JobState::Pausing, Some(LetGo::Preempt)) => {
                self.requeue("another needed its place".to_owned(), None, now, bodies);
            }
            (JobState::Pausing, _) => {
                self.end_attempt(now);
                self.state = JobState::Paused;
                bodies.push(EventBody::Paused {});
            }
            _ => self.requeue("the worker let go of it".to_owned(), None, now, bodies),
        }
    }

    fn lose_lease(&mut self, reason: String, now: Timestamp, bodies: &mut Vec<EventBody>) {
        // Who never began it can't have died of it: with the broker away no worker hears of a dispatch.
        let begun = (self.attempt.as_ref()).is_some_and(|attempt| attempt.started_at.is_some());
        self.deaths += u32::from(begun);
        if self.deaths >= DEATHS_MAX {
            let message = format!(
                "{DEATHS_MAX} workers were lost over this job without a new checkpoint: {reason}"
            );
            let failure = Failure::new(FailureKind::Hardware, message);
            self.failure = Some(failure.clone());
            return self.end_failed(failure, now, bodies);
        }
        if self.state == JobState::Pausing {
            return self.release(now, bodies);
        }
        self.requeue(reason, None, now, bodies);
    }

    fn requeue(
        &mut self,
        reason: String,
        not_before: Option<Timestamp>,
        now: Timestamp,
        bodies: &mut Vec<EventBody>,
    ) {
        self.end_attempt(now);
        self.state = JobState::Queued;
        self.not_before = not_before;
        bodies.push(EventBody::Requeued { reason, not_before });
    }

    fn end_failed(&mut self, failure: Failure, now: Timestamp, bodies: &mut Vec<EventBody>) {
        bodies.push(EventBody::Failed { failure });
        self.end(JobState::Failed, now);
    }

    fn end(&mut self, state: JobState, now: Timestamp) {
        self.end_attempt(now);
        self.state = state;
        self.finished_at = Some(now);
    }

    fn end_attempt(&mut self, now: Timestamp) {
        self.letting_go = None;
        let attempt = self.attempt.as_mut();
        let Some(attempt) = attempt.filter(|attempt| attempt.ended_at.is_none()) else {
            return;
        };
        attempt.ended_at = Some(now);
        let Some(started_at) = attempt.started_at else {
            return;
        };
        let run_ms = now.millis_since(started_at);
        let device_ms = run_ms.saturating_mul(u64::from(self.demand.devices));
        self.used.run_ms = self.used.run_ms.saturating_add(run_ms);
        self.used.device_ms = self.used.device_ms.saturating_add(device_ms);
        #[expect(clippy::cast_precision_loss, reason = "no cost is so exact")]
        let hours = device_ms as f64 / MS_PER_HOUR;
        self.used.cost += hours * attempt.price_per_device_hour;
    }
}

#[cfg(test)]
mod tests;
