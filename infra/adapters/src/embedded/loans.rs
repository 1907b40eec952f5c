//! One queue in memory: what is ready, what is on loan, who consumes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stoker_domain::port::{Message, QueueError};
use tokio::sync::Notify;

/// A queue. Numbers are given in the order of publishing, and a message that comes back takes its
/// old place.
pub(super) struct Line {
    state: Mutex<State>,
    changed: Notify,
    /// Of several consumers only the first gets messages.
    single: bool,
}

struct State {
    ready: BTreeMap<u64, Message>,
    out: HashMap<u64, (u64, Message)>,
    consumers: VecDeque<u64>,
    removed: bool,
    idle_since_ms: u64,
}

impl Line {
    pub(super) fn new(single: bool, now_ms: u64) -> Self {
        Self {
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                out: HashMap::new(),
                consumers: VecDeque::new(),
                removed: false,
                idle_since_ms: now_ms,
            }),
            changed: Notify::new(),
            single,
        }
    }

    /// Messages in it, those on loan too.
    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.out.len()
    }

    pub(super) fn push(&self, number: u64, message: Message) {
        self.lock().ready.insert(number, message);
        self.changed.notify_waiters();
    }

    pub(super) fn join(&self, consumer: u64) {
        self.lock().consumers.push_back(consumer);
    }

    /// The consumer is over: what it had on loan is ready again.
    pub(super) fn leave(&self, consumer: u64, now_ms: u64) {
        let mut state = self.lock();
        state.consumers.retain(|other| *other != consumer);
        state.idle_since_ms = now_ms;
        let returned = state.out.extract_if(|_, (holder, _)| *holder == consumer);
        let returned: Vec<_> = returned.collect();
        let back = returned
            .into_iter()
            .map(|(number, (_, message))| (number, message));
        state.ready.extend(back);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The queue is gone: its consumers end.
    pub(super) fn remove(&self) {
        self.lock().removed = true;
        self.changed.notify_waiters();
    }

    /// Whether nobody has consumed for longer than `ttl_ms`.
    pub(super) fn expired(&self, now_ms: u64, ttl_ms: u64) -> bool {
        let state = self.lock();
        state.consumers.is_empty() && now_ms.saturating_sub(state.idle_since_ms) > ttl_ms
    }

    /// Waits for the next message and lends it to `consumer`.
    pub(super) async fn lend(&self, consumer: u64) -> Result<(u64, Message), QueueError> {
        loop {
            let changed = self.changed.notified();
            if let Some(lent) = self.try_lend(consumer)? {
                return Ok(lent);
            }
            changed.await;
        }
    }

    fn try_lend(&self, consumer: u64) -> Result<Option<(u64, Message)>, QueueError> {
        let mut state = self.lock();
        if state.removed {
            return Err(QueueError::Unavailable("the queue was removed".to_owned()));
        }
        if self.single && state.consumers.front() != Some(&consumer) {
            return Ok(None);
        }
        let Some((number, message)) = state.ready.pop_first() else {
            return Ok(None);
        };
        state.out.insert(number, (consumer, message.clone()));
        Ok(Some((number, message)))
    }

    /// Ends a loan for good. An error when it ended with its consumer.
    pub(super) fn end(&self, consumer: u64, number: u64) -> Result<Message, QueueError> {
        let mut state = self.lock();
        let held = state
            .out
            .get(&number)
            .is_some_and(|(holder, _)| *holder == consumer);
        match state.out.remove(&number).filter(|_| held) {
            Some((_, message)) => Ok(message),
            None => Err(QueueError::Unavailable(
                "the delivery went back when its consumer ended".to_owned(),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
