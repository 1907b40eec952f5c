//! A job's events as they happen, over a stream that may break and is taken up again.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use stoker_domain::JobId;
use stoker_domain::job::{Event, EventBody};

use crate::backoff::{Backoff, Failed};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::page;
use crate::send::{Call, EVENT_STREAM, LAST_EVENT_ID};
use crate::sse::Parser;

/// Pause after a stream that the server closed without having told anything.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// A job's events from position `from` on, as they happen, each once and in order; ends after
    /// the job's last one. A broken connection is taken up where it broke.
    ///
    /// Ends with an error when the call fails more often in a row than the retries allow.
    #[must_use]
    pub fn events(&self, id: JobId, from: u64) -> BoxStream<'static, Result<Event>> {
        let tail = Tail {
            client: self.clone(),
            id,
            next: from,
            open: None,
            ready: VecDeque::new(),
            backoff: Backoff::new(self.retries()),
            last_round: false,
            ended: false,
        };
        stream::try_unfold(tail, async |mut tail| {
            let event = tail.next().await?;
            Ok(event.map(|event| (event, tail)))
        })
        .boxed()
    }
}

struct Tail {
    client: Client,
    id: JobId,
    /// Position of the next event to tell.
    next: u64,
    open: Option<Open>,
    ready: VecDeque<Event>,
    backoff: Backoff,
    /// The job has ended: a stream that tells nothing means that there is nothing left.
    last_round: bool,
    ended: bool,
}

struct Open {
    response: Response,
    parser: Parser,
    /// Whether this stream told an event.
    told: bool,
}

impl Tail {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            if let Err(failed) = self.advance().await {
                self.open = None;
                self.backoff.pause(failed).await?;
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Failed> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self
                .open
                .insert(connect(&self.client, self.id, self.next).await?),
        };
        match self.client.next_chunk(&mut open.response).await {
            Ok(Some(bytes)) => self.take(&bytes),
            Ok(None) if open.told => {
                self.open = None;
                Ok(())
            }
            Ok(None) => self.closed_empty().await,
            // A silent stream may be a dead connection: a new one costs little, and no try.
            Err(Error::Timeout { .. }) => {
                self.open = None;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        self.backoff.reset();
        let undecodable = |error: &dyn std::fmt::Display| Error::Decode(error.to_string());
        for data in open.parser.push(bytes).map_err(|e| undecodable(&e))? {
            let event: Event = serde_json::from_slice(&data).map_err(|e| undecodable(&e))?;
            open.told = true;
            // A server that begins earlier than asked repeats what was told.
            if event.position >= self.next && !self.ended {
                self.next = event.position + 1;
                self.ended = is_last(&event.body);
                self.ready.push_back(event);
            }
        }
        Ok(())
    }

    /// The server closed the stream without an event: because the job has none left, or because
    /// something between us does so with quiet connections.
    async fn closed_empty(&mut self) -> Result<(), Failed> {
        self.open = None;
        if self.last_round {
            self.ended = true;
        } else if self.client.get_job(self.id).await?.state.is_final() {
            // Once more: it may have ended just after the stream.
            self.last_round = true;
        } else {
            tokio::time::sleep(EMPTY_PAUSE).await;
        }
        Ok(())
    }
}

async fn connect(client: &Client, id: JobId, next: u64) -> Result<Open, Failed> {
    let mut url = client.job_url(id, &["events"]);
    page::set_query(&mut url, [("from", Some(next.to_string()))]);
    let mut call = Call::get(url).accept(EVENT_STREAM);
    if let Some(last) = next.checked_sub(1) {
        call = call.header(LAST_EVENT_ID, last.to_string());
    }
    let response = client.open(&call).await?;
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_stream = content_type.is_some_and(|kind| {
        kind.as_bytes()
            .get(..EVENT_STREAM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()))
    });
    if !is_stream {
        let told = format!("expected {EVENT_STREAM}, got {content_type:?}");
        return Err(Error::Decode(told).into());
    }
    Ok(Open {
        response,
        parser: Parser::default(),
        told: false,
    })
}

const fn is_last(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Succeeded { .. } | EventBody::Failed { .. } | EventBody::Cancelled {}
    )
}
