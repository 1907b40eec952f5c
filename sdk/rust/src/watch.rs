//! Following a job to its end.

use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use stoker_domain::job::Event;
use stoker_domain::view::JobView;
use stoker_domain::{ErrorCode, JobId};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result};

/// Between two looks while the event stream tells of changes.
const SLOW: Duration = Duration::from_secs(30);
/// Longest wait between two looks when there is no event stream.
const FAST: Duration = Duration::from_secs(2);
/// How long the server may be away before watching gives up. The job doesn't mind.
const LOST_MAX: Duration = Duration::from_secs(300);

impl Client {
    /// Waits until a job has ended, and gives it back. A paused job is waited for.
    ///
    /// Goes on over broken connections and up to 5 minutes without a server.
    ///
    /// # Errors
    /// When the call fails. That says nothing about the job, which goes on.
    pub async fn wait_job(&self, id: JobId) -> Result<JobView> {
        let mut last = None;
        let mut views = self.watch_job(id, SLOW);
        while let Some(view) = views.try_next().await? {
            last = Some(view);
        }
        last.ok_or_else(|| Error::Decode("the job was never seen".to_owned()))
    }

    /// A job as it is now, after each of its events, and at least `every` so often; ends with the
    /// view of the job that has ended.
    #[must_use]
    pub fn watch_job(&self, id: JobId, every: Duration) -> BoxStream<'static, Result<JobView>> {
        let watcher = Watcher {
            client: self.clone(),
            id,
            every,
            events: Some(self.events(id, 0)),
            seen: None,
            ended: false,
        };
        stream::try_unfold(watcher, async |mut watcher| {
            let view = watcher.next().await?;
            Ok(view.map(|view| (view, watcher)))
        })
        .boxed()
    }
}

struct Watcher {
    client: Client,
    id: JobId,
    every: Duration,
    /// `None` once the event stream failed: then only looking helps.
    events: Option<BoxStream<'static, Result<Event>>>,
    /// When the job was last seen.
    seen: Option<Instant>,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<JobView>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            if self.seen.is_some() {
                self.change().await?;
            }
            match self.client.get_job(self.id).await {
                Ok(view) => {
                    self.seen = Some(Instant::now());
                    self.ended = view.state.is_final();
                    return Ok(Some(view));
                }
                Err(error) if error.retryable() && self.may_come_back() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn may_come_back(&self) -> bool {
        self.seen.is_some_and(|seen| seen.elapsed() < LOST_MAX)
    }

    /// Waits for an event, or until it is time to look.
    async fn change(&mut self) -> Result<()> {
        let Some(events) = &mut self.events else {
            tokio::time::sleep(self.every.min(FAST)).await;
            return Ok(());
        };
        let mut event = match tokio::time::timeout(self.every, events.next()).await {
            Ok(event) => event,
            Err(_) => return Ok(()),
        };
        // One look is enough for all that came at once.
        while let Some(Ok(_)) = event {
            match events.next().now_or_never() {
                Some(next) => event = next,
                None => return Ok(()),
            }
        }
        self.events = None;
        match event {
            Some(Err(error)) if is_final_answer(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether looking at the job would be answered the same way.
fn is_final_answer(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::NotFound | ErrorCode::Unauthenticated | ErrorCode::Forbidden
    )
}
