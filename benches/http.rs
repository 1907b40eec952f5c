//! What our API costs above HTTP itself: `GET /v1/caller` with a token (EdDSA, verified once and
//! remembered) beside a bare actix-web handler that answers the same bytes, under the same load, in
//! turns. `make bench-http`; the last line is one JSON object.
//!
//! Both are processes of their own with as many threads; the load comes from this one, over
//! connections that are kept alive. All three share the machine's cores.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints a line"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context as _, ensure};
use stoker::launch::Platform;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const THREADS: usize = 2;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, body] = &arguments[..]
        && mode == "--bare"
    {
        return actix_web::rt::System::new().block_on(bare(body.clone()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(bench())
}

/// Serves `body` and prints its address.
async fn bare(body: String) -> anyhow::Result<()> {
    let server = HttpServer::new(move || {
        let body = body.clone();
        let answer = move || {
            let body = body.clone();
            async move {
                HttpResponse::Ok()
                    .content_type("application/json")
                    .body(body)
            }
        };
        App::new().route("/v1/caller", web::get().to(answer))
    });
    let server = server.workers(THREADS).bind(("127.0.0.1", 0))?;
    println!("{}", server.addrs()[0]);
    server.run().await?;
    Ok(())
}

/// A process that ends with this one.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn bench() -> anyhow::Result<()> {
    let here = std::env::current_exe()?;
    let program = here
        .parent()
        .and_then(Path::parent)
        .context("target/debug/examples")?
        .join("stoker");
    let scratch = tempfile::tempdir()?;
    let data_dir = scratch.path().join("data");
    let threads = THREADS.to_string();
    let settings = [
        ("STOKER__API__RATE__PER_S", "0"),
        ("STOKER__API__WORKERS", threads.as_str()),
        ("STOKER__LOG__FILTER", "warn"),
    ];
    let platform = Platform::embedded(&program, &data_dir, &settings).await?;
    let local: toml::Table = std::fs::read_to_string(data_dir.join("client.toml"))?.parse()?;
    let text = |name: &str| local[name].as_str().map(str::to_owned);
    let (server, token) = (text("server"), text("token"));
    let (server, token) = (server.context("server")?, token.context("token")?);
    let address = server.trim_start_matches("http://").trim_end_matches('/');
    let ours: SocketAddr = address.parse()?;

    let header = format!("Authorization: Bearer {token}\r\n");
    let (_, body) = once(ours, &header).await?;
    let mut child = Command::new(&here)
        .args(["--bare", &body])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("its address")?;
    let _guard = Guard(child);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let bare: SocketAddr = line.trim().parse()?;
    let (status, same) = once(bare, "").await?;
    ensure!(status == 200 && same == body, "both answer the same bytes");

    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 0..ROUNDS {
        let (one, other) = (
            load(ours, &header, &body).await?,
            load(bare, "", &body).await?,
        );
        println!("round {}: ours {one:.0}/s, bare {other:.0}/s", round + 1);
        rates[0].push(one);
        rates[1].push(other);
    }
    platform.stop().await?;
    let [ours, bare] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    let ratio = ours / bare;
    println!("{{\"ratio\":{ratio:.3},\"ours_per_s\":{ours:.0},\"bare_per_s\":{bare:.0}}}");
    Ok(())
}

/// One request on a connection of its own: status and body.
async fn once(address: SocketAddr, header: &str) -> anyhow::Result<(u16, String)> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    ask(&mut connection, &request(header)).await
}

fn request(header: &str) -> Vec<u8> {
    format!("GET /v1/caller HTTP/1.1\r\nHost: bench\r\n{header}\r\n").into_bytes()
}

async fn ask(
    connection: &mut BufReader<TcpStream>,
    request: &[u8],
) -> anyhow::Result<(u16, String)> {
    connection.write_all(request).await?;
    let (mut status, mut length) = (0, 0);
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(connection.read_line(&mut line).await? > 0, "it hung up");
        let head = line.trim_end();
        if head.is_empty() {
            break;
        }
        if status == 0 {
            status = head.split(' ').nth(1).context("a status")?.parse()?;
        } else if let Some(given) = head.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = given.parse()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok((status, String::from_utf8(body)?))
}

/// Requests a second over all connections; every answer is checked.
async fn load(address: SocketAddr, header: &str, body: &str) -> anyhow::Result<f64> {
    let end = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (request, body) = (request(header), body.to_owned());
        tasks.spawn(async move {
            let mut connection = BufReader::new(TcpStream::connect(address).await?);
            let mut count = 0_u64;
            while Instant::now() < end {
                let (status, told) = ask(&mut connection, &request).await?;
                ensure!(status == 200 && told == body, "{status}: {told}");
                count += 1;
            }
            Ok(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(count as f64 / ROUND.as_secs_f64())
}
