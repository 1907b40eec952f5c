//! A job's events, by page or as they come (server-sent events, WHATWG HTML section 9.2).

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures::stream::{self, Stream};
use stoker_domain::job::{Event, EventBody, JobRecord};
use stoker_domain::view::{EventList, Problem};
use stoker_domain::{ErrorCode, JobId};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::extract::{Authorized, Look, Params, Within};
use crate::problem::ApiError;

/// Events read from the store at a time for a stream.
const BATCH: usize = 200;
/// Wait after the store couldn't answer.
const AWAY_WAIT: Duration = Duration::from_secs(1);

/// A job's events, by position. With `Accept: text/event-stream` they are sent as they come: each
/// has its position as `id`, a stream resumes after `Last-Event-ID`, and ends with the job.
#[utoipa::path(tag = "jobs", params(
    ("id" = JobId, Path),
    ("from" = Option<u64>, Query, description = "first position; 0 when absent"),
    ("limit" = Option<u32>, Query, description = "most events on the page"),
    ("Last-Event-ID" = Option<u64>, Header, description = "position of the last event that was received"),
), responses((status = 200, content(
    (EventList = "application/json"),
    (String = "text/event-stream"),
)), (status = "default", body = Problem)))]
#[get("/v1/jobs/{id}/events")]
pub(crate) async fn list_events(
    authorized: Authorized<Within<Look>>,
    id: web::Path<String>,
    params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    params.only(&["from", "limit"])?;
    let from = params.parse("from")?.unwrap_or(0);
    let limit = params.limit(&authorized.config, authorized.config.page_max)?;
    let record = authorized.job(&id).await?;
    if wants_stream(&request) {
        let from = last_event_id(&request)?.map_or(from, |last| last.saturating_add(1));
        return stream_events(&authorized, &record, from);
    }
    let events = authorized.ports.jobs.events(record.id, from, limit).await?;
    let next = events.last().map_or(from, |event| event.position + 1);
    Ok(HttpResponse::Ok().json(EventList { events, next }))
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    accept.is_some_and(|value| value.contains("text/event-stream"))
}

fn last_event_id(request: &HttpRequest) -> Result<Option<u64>, ApiError> {
    const HEADER: &str = "Last-Event-ID";
    let Some(value) = request.headers().get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().ok();
    let position = text.and_then(|text| text.trim().parse().ok());
    position.map(Some).ok_or_else(|| {
        ApiError::syntax_field(HEADER, "not the position of an event: a whole number")
    })
}

fn stream_events(
    authorized: &Authorized<Within<Look>>,
    record: &JobRecord,
    from: u64,
) -> Result<HttpResponse, ApiError> {
    let permit = authorized.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        let detail = "too many event streams are open; try again";
        ApiError::new(ErrorCode::RateLimited, detail)
    })?;
    let follower = Follower {
        app: authorized.app().clone(),
        job: record.id,
        next: from,
        started_ms: authorized.ports.clock.monotonic_ms(),
        sent_ms: authorized.ports.clock.monotonic_ms(),
        look_at_job: true,
        ended: false,
        _permit: permit,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(follower.stream()))
}

/// Where a stream of events stands.
struct Follower {
    app: std::sync::Arc<App>,
    job: JobId,
    next: u64,
    started_ms: u64,
    sent_ms: u64,
    look_at_job: bool,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        stream::unfold(self, |mut follower| async move {
            let chunk = follower.chunk().await?;
            Some((Ok(chunk), follower))
        })
    }

    /// The next events or heartbeat; `None` at the end. Waits in between.
    async fn chunk(&mut self) -> Option<Bytes> {
        let config = &self.app.config.events;
        let (poll, heartbeat_ms, life_ms) = (
            Duration::from(config.poll),
            config.heartbeat.0,
            config.life.0,
        );
        while !self.ended {
            let now_ms = self.app.ports.clock.monotonic_ms();
            if now_ms.saturating_sub(self.started_ms) > life_ms {
                return None;
            }
            let wait = match self.app.ports.jobs.events(self.job, self.next, BATCH).await {
                Ok(events) if !events.is_empty() => {
                    self.sent_ms = now_ms;
                    return Some(self.render(&events));
                }
                Ok(_) if self.look_at_job && self.has_ended().await => return None,
                Ok(_) => poll,
                Err(error) => {
                    tracing::warn!(job.id = %self.job, %error, "an event stream waits for the store");
                    AWAY_WAIT
                }
            };
            if now_ms.saturating_sub(self.sent_ms) >= heartbeat_ms {
                self.sent_ms = now_ms;
                self.look_at_job = true;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            actix_web::rt::time::sleep(wait).await;
        }
        None
    }

    /// Whether no more events will come: the last was before `next`, or the job was removed.
    async fn has_ended(&mut self) -> bool {
        self.look_at_job = false;
        match self.app.ports.jobs.job(self.job).await {
            Ok(Some(record)) => record.state.is_final() && self.next >= record.next_event,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn render(&mut self, events: &[Event]) -> Bytes {
        let mut text = String::new();
        for event in events {
            let (position, name) = (event.position, event.body.type_name());
            let json = serde_json::to_string(event).unwrap_or_default();
            text.push_str(&format!("id: {position}\nevent: {name}\ndata: {json}\n\n"));
            self.next = position + 1;
            self.ended = matches!(
                event.body,
                EventBody::Succeeded { .. } | EventBody::Failed { .. } | EventBody::Cancelled {}
            );
        }
        Bytes::from(text)
    }
}
