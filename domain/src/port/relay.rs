//! Publishes what the outbox holds, beside whoever wrote it.

use super::OutboxEntry;

/// Told of written changes, so that their messages go out at once rather than at the next sweep of
/// the outbox. Never waits and never fails: the outbox is durable.
pub trait Relay: Send + Sync {
    /// These entries were written just now.
    fn notify(&self, entries: Vec<OutboxEntry>);
}
