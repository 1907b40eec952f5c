//! A server that answers as a test says, one request a connection, and remembers what it was asked.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stoker_sdk::{Client, ClientConfig, Retries, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request, as it arrived. Header names are in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: tokio::time::Instant,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers in full.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Answers 200 with this content type and body, and closes the connection before the body's
    /// announced end.
    Broken(&'static str, Vec<u8>),
    /// Closes the connection without an answer.
    Nothing,
    /// Never answers.
    Silence,
}

pub(crate) fn json(status: u16, body: &serde_json::Value) -> Reply {
    let kind = match status {
        200..=299 => "application/json",
        _ => "application/problem+json",
    };
    let headers = vec![("content-type", kind.to_owned())];
    Reply::Full(status, headers, body.to_string().into_bytes())
}

pub(crate) fn events(text: &str) -> Reply {
    let headers = vec![("content-type", "text/event-stream".to_owned())];
    Reply::Full(200, headers, text.as_bytes().to_vec())
}

/// A problem document with that status and code.
pub(crate) fn problem(status: u16, code: &str, retry_after_s: Option<u32>) -> Reply {
    let body = serde_json::json!({
        "type": format!("/errors/{code}"), "title": "title", "status": status, "code": code,
        "detail": format!("detail of {code}"), "request_id": "r1",
    });
    let mut reply = json(status, &body);
    if let (Reply::Full(_, headers, _), Some(seconds)) = (&mut reply, retry_after_s) {
        headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// A server whose answer to the n-th request (from 0) is `answer(n, request)`.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move { serve(stream, &log, &*answer).await });
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    /// A server that gives these answers in turn, and the last one from then on.
    pub(crate) async fn script(replies: Vec<Reply>) -> Self {
        Self::start(move |n, _| replies[n.min(replies.len() - 1)].clone()).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client {
        client(&format!("http://{}", self.address))
    }
}

/// A client that is quick to try again and to give up.
pub(crate) fn client(base_url: &str) -> Client {
    let ms = Duration::from_millis;
    let config = ClientConfig {
        timeouts: Timeouts {
            connect: ms(1_000),
            request: ms(400),
            idle: ms(400),
            upload_answer: ms(400),
        },
        retries: Retries {
            attempts: 4,
            base: ms(5),
            max: ms(20),
            max_retry_after: ms(1_500),
        },
        ..ClientConfig::new(base_url, "secret-token")
    };
    Client::new(config).unwrap()
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(usize, &Seen) -> Reply + Send + Sync),
) {
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    let index = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let (head, body) = match answer(index, &request) {
        Reply::Full(status, headers, body) => {
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n");
            (head, body)
        }
        Reply::Broken(kind, body) => {
            let length = body.len() + 1;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
            (head, body)
        }
        Reply::Nothing => return,
        Reply::Silence => return std::future::pending().await,
    };
    // The client may have gone; then there is nobody to tell.
    let _ = stream
        .write_all(format!("{head}connection: close\r\n\r\n").as_bytes())
        .await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, target) = (first.next()?, first.next()?);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        method,
        target,
        headers,
        body,
        at: tokio::time::Instant::now(),
    })
}
