//! Our side of the load: `POST /v1/jobs` with a token and a new `Idempotency-Key` each, over
//! connections that are kept alive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use stoker_domain::JobId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::CONNECTIONS;

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) spec: &'static str,
}

/// What a round of load came to.
pub(crate) struct Load {
    pub(crate) ids: Vec<JobId>,
    pub(crate) seconds: f64,
    pub(crate) taken_ms: Vec<f64>,
}

impl Load {
    pub(crate) fn per_s(&self) -> f64 {
        self.ids.len() as f64 / self.seconds
    }
}

/// When the requests of a round are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Each as soon as its connection has the answer to the one before.
    Full,
    /// So many a second; a request that must wait for its connection counts from when it was due.
    PerSecond(f64),
}

/// Submits jobs over all connections for so long; every answer is checked.
pub(crate) async fn load(
    api: &Arc<Api>,
    round: &str,
    pace: Pace,
    length: Duration,
) -> anyhow::Result<Load> {
    let mut open = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        open.push(Connection::open(api.address).await?);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, connection) in open.into_iter().enumerate() {
        let (api, prefix) = (Arc::clone(api), format!("{round}-{index}"));
        tasks.spawn(submit(
            api,
            connection,
            prefix,
            pace,
            (index, begun, length),
        ));
    }
    let (mut ids, mut taken_ms) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        for (id, taken) in ended?? {
            ids.push(id);
            taken_ms.push(taken);
        }
    }
    Ok(Load {
        ids,
        seconds: begun.elapsed().as_secs_f64(),
        taken_ms,
    })
}

async fn submit(
    api: Arc<Api>,
    mut connection: Connection,
    prefix: String,
    pace: Pace,
    (index, begun, length): (usize, Instant, Duration),
) -> anyhow::Result<Vec<(JobId, f64)>> {
    let mut done = Vec::new();
    for count in 0.. {
        let due = match pace {
            Pace::Full => Instant::now(),
            Pace::PerSecond(rate) => {
                let place = (index + count * CONNECTIONS) as f64;
                begun + Duration::from_secs_f64(place / rate)
            }
        };
        if due >= begun + length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let id = connection
            .submit(&api, &format!("{prefix}-{count}"))
            .await?;
        done.push((id, due.elapsed().as_secs_f64() * 1e3));
    }
    Ok(done)
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    async fn submit(&mut self, api: &Api, key: &str) -> anyhow::Result<JobId> {
        let (token, spec) = (&api.token, api.spec);
        let request = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{spec}",
            spec.len()
        );
        self.0.write_all(request.as_bytes()).await?;
        let (mut status, mut length, mut location) = (0, 0, String::new());
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.0.read_line(&mut line).await? > 0, "it hung up");
            let head = line.trim_end();
            if head.is_empty() {
                break;
            }
            let Some((name, value)) = head.split_once(": ") else {
                status = head.split(' ').nth(1).context("a status")?.parse()?;
                continue;
            };
            match name {
                name if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
                name if name.eq_ignore_ascii_case("location") => location = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        let told = || String::from_utf8_lossy(&body).into_owned();
        ensure!(status == 202, "{status}: {}", told());
        let id = location.rsplit('/').next().context("a location")?;
        Ok(id.parse()?)
    }
}
