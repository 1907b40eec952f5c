//! Carries metric points and log lines out, and never holds training up: what can't be sent waits
//! here, and what doesn't fit is dropped, with a marker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use stoker_domain::port::{Point, Telemetry};
use stoker_domain::view::LogLine;
use stoker_domain::{Clock, JobId, object};
use tokio::task::JoinHandle;

/// Most points in one write.
const BATCH_POINTS: usize = 1_000;
/// Most lines in one chunk.
const CHUNK_LINES: usize = 1_000;

/// Where an attempt's points and lines go.
pub(crate) struct Destination {
    pub(crate) job: JobId,
    pub(crate) token: u64,
    pub(crate) telemetry: Arc<dyn Telemetry>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An attempt's points and lines on their way out.
pub(crate) struct Spool {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    destination: Destination,
    limit: usize,
    waiting: Mutex<Waiting>,
    /// Held while sending, so that chunks keep their order; counts the chunks.
    sending: tokio::sync::Mutex<u64>,
}

#[derive(Default)]
struct Waiting {
    points: VecDeque<Point>,
    lines: VecDeque<LogLine>,
    dropped: u64,
}

impl Spool {
    pub(crate) fn new(destination: Destination, limit: usize, every: Duration) -> Self {
        let shared = Arc::new(Shared {
            destination,
            limit,
            waiting: Mutex::default(),
            sending: tokio::sync::Mutex::new(0),
        });
        let sender = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                sender.send().await;
            }
        });
        Self { shared, task }
    }

    pub(crate) fn point(&self, metric: &str, step: u64, value: f64) {
        self.shared.push(|waiting| {
            waiting.points.push_back(Point {
                metric: metric.to_owned(),
                step,
                value,
            });
        });
    }

    pub(crate) fn log(&self, level: &str, message: impl Into<String>) {
        let line = self.shared.line(level, message.into());
        self.shared.push(|waiting| waiting.lines.push_back(line));
    }

    /// Sends all that waits. `false` when some of it couldn't be sent now.
    pub(crate) async fn send(&self) -> bool {
        self.shared.send().await
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn line(&self, level: &str, message: String) -> LogLine {
        let Destination { token, clock, .. } = &self.destination;
        LogLine {
            at: clock.now(),
            token: *token,
            level: level.to_owned(),
            message,
        }
    }

    fn push(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.points.len() + waiting.lines.len() < self.limit {
            add(&mut waiting);
        } else {
            waiting.dropped += 1;
        }
    }

    async fn send(&self) -> bool {
        let mut chunks = self.sending.lock().await;
        loop {
            let (points, lines) = self.take();
            if points.is_empty() && lines.is_empty() {
                return true;
            }
            let sent_points = self.send_points(&points).await;
            let sent_lines = self.send_lines(&lines, *chunks).await;
            *chunks += u64::from(sent_lines && !lines.is_empty());
            self.put_back(
                if sent_points { Vec::new() } else { points },
                if sent_lines { Vec::new() } else { lines },
            );
            if !(sent_points && sent_lines) {
                return false;
            }
        }
    }

    fn take(&self) -> (Vec<Point>, Vec<LogLine>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            let message = format!(
                "{dropped} metric points or log lines were dropped: the store was away too long"
            );
            let line = self.line("warn", message);
            waiting.lines.push_back(line);
        }
        let points = waiting.points.len().min(BATCH_POINTS);
        let lines = waiting.lines.len().min(CHUNK_LINES);
        (
            waiting.points.drain(..points).collect(),
            waiting.lines.drain(..lines).collect(),
        )
    }

    fn put_back(&self, points: Vec<Point>, lines: Vec<LogLine>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        points
            .into_iter()
            .rev()
            .for_each(|point| waiting.points.push_front(point));
        lines
            .into_iter()
            .rev()
            .for_each(|line| waiting.lines.push_front(line));
    }

    async fn send_points(&self, points: &[Point]) -> bool {
        let Destination {
            job,
            token,
            telemetry,
            ..
        } = &self.destination;
        points.is_empty() || telemetry.append_points(*job, *token, points).await.is_ok()
    }

    async fn send_lines(&self, lines: &[LogLine], chunk: u64) -> bool {
        if lines.is_empty() {
            return true;
        }
        let Destination {
            job,
            token,
            objects,
            ..
        } = &self.destination;
        let path = Path::from(object::log_chunk(*job, *token, chunk));
        objects
            .put(&path, PutPayload::from(json_lines(lines)))
            .await
            .is_ok()
    }
}

/// One JSON document a line.
pub(crate) fn json_lines<T: serde::Serialize>(items: &[T]) -> Vec<u8> {
    let mut text = Vec::new();
    for item in items {
        if serde_json::to_writer(&mut text, item).is_ok() {
            text.push(b'\n');
        }
    }
    text
}
