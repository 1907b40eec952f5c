//! The one thread that writes: many requests share one transaction, so that one sync to disk
//! answers them all. Each request is atomic by its own savepoint.

use std::io;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use stoker_domain::port::StoreError;
use tokio::sync::{mpsc, oneshot};

use super::database::failed;

/// Requests that may wait. Callers beyond that wait to be let in.
const WAITING_MAX: usize = 4_096;
/// Requests that share a transaction.
const GROUP_MAX: usize = 512;

/// A request, whatever its answer's type.
trait Request: Send {
    /// Does it, inside the group's transaction.
    fn run(&mut self, connection: &Connection);
    /// Tells its caller, once the transaction is over.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Pending<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Request for Pending<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) {
        if let Some(work) = self.work.take() {
            self.outcome = Some(atomically(connection, work));
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(gone()));
        // A caller that doesn't wait any more has its answer in the store.
        let _ = self.reply.send(committed.and(outcome));
    }
}

/// An answer that will come.
pub(super) struct Answer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Answer<T> {
    pub(super) async fn wait(self) -> Result<T, StoreError> {
        self.0.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Sends requests to the thread that writes. Dropping it does what was requested, then closes the
/// file.
pub(super) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("stoker-store".to_owned())
            .spawn(move || write_groups(&connection, waiting))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Does `work` atomically; returns when it is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.submit(work).await?.wait().await
    }

    /// Puts `work` in line; requests are done in the order of these calls' returns.
    pub(super) async fn submit<T, F>(&self, work: F) -> Result<Answer<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Pending {
            work: Some(work),
            outcome: None,
            reply,
        });
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request).await.map_err(|_| gone())?;
        Ok(Answer(answer))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it was reported to the callers as "unavailable".
            let _ = thread.join();
        }
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the thread that writes has ended".to_owned())
}

fn write_groups(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Request>>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX {
            match waiting.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        let committed = commit_group(connection, &mut group);
        if let Err(error) = &committed {
            tracing::error!(%error, requests = group.len(), "the store could not write");
        }
        for request in group.drain(..) {
            request.answer(committed.clone());
        }
    }
}

fn commit_group(connection: &Connection, group: &mut [Box<dyn Request>]) -> Result<(), StoreError> {
    execute(connection, "BEGIN IMMEDIATE")?;
    for request in group {
        request.run(connection);
    }
    execute(connection, "COMMIT").inspect_err(|_| {
        // Nothing of the group was written; the next one must find no open transaction.
        let _ = execute(connection, "ROLLBACK");
    })
}

fn atomically<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT request")?;
    let outcome = work(connection);
    if outcome.is_err() {
        execute(connection, "ROLLBACK TO request")?;
    }
    execute(connection, "RELEASE request")?;
    outcome
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.execute([]).map(|_| ()).map_err(failed)
}
