//! How fast jobs are submitted: over HTTP with a token, a new `Idempotency-Key` each, durable when
//! answered; over RabbitMQ and Redis (`appendfsync always`), and embedded. Beside it, over the same
//! servers and in turns: the raw limit (a transaction and a confirmed message, see `submit/raw.rs`),
//! Celery with publisher confirms to a quorum queue, and `ray job submit`.
//!
//! `make bench-submit`; the last line is one JSON object. `ratio_…` is our rate over RabbitMQ and
//! Redis by theirs; rates are medians of the rounds, and each round is counted at the other end.
//! `p99_ms_half_load` is how long a submission takes at half of our rate. No worker serves the pool
//! that jobs are submitted to; what the relay hasn't published at a round's end is `backlog`, and
//! `published_per_s` is the rate up to the last message.
//! `noop_…` is the smallest job, from submit to succeeded, beside a Celery task that does nothing
//! and is as durable.
//!
//! The load comes from this process; all share the machine's cores.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints a line"
)]

#[path = "submit/http.rs"]
mod http;
#[path = "submit/ours.rs"]
mod ours;
#[path = "submit/peer.rs"]
mod peer;
#[path = "submit/raw.rs"]
mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use stoker_infra::testing::Services;

use http::{Load, Pace};
use ours::{Noop, Ours};
use peer::{Peer, number, numbers};
use raw::{Record, Servers};

/// Submissions on their way at a time, on each side.
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const ROUND_S: u64 = 3;
/// Jobs and tasks that do nothing, in each of the rounds.
const NOOPS: usize = 30;
/// Where the relay publishes jobs of the pool `default`.
const POOL_QUEUE: &str = "stoker.pool.default";
const CELERY_QUEUE: &str = "celery.submit";
const WARM_UP: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let python = PathBuf::from(arguments.next().context("the path of python is needed")?);
    let rounds = arguments.next().map_or(Ok(ROUNDS), |text| text.parse())?;
    let round_s = arguments.next().map_or(Ok(ROUND_S), |text| text.parse())?;
    ensure!(rounds > 0 && round_s > 0, "no rounds");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut bench = Bench::start(&python, Duration::from_secs(round_s)).await?;
        let mut found = Found::default();
        bench.warm_up().await?;
        for round in 0..rounds {
            bench.submit(round, &mut found).await?;
        }
        for round in 0..rounds {
            bench.submit_half(round, &mut found).await?;
        }
        for _ in 0..rounds {
            bench.run_noops(&mut found).await?;
        }
        bench.stop().await?;
        println!("{}", found.report());
        Ok(())
    })
}

/// All sides.
struct Bench {
    apart: Ours,
    embedded: Ours,
    servers: Servers,
    record: Arc<Record>,
    celery: Peer,
    ray: Peer,
    round: Duration,
    // Dropped last.
    services: Services,
    scratch: tempfile::TempDir,
}

/// What the relay hadn't published when a round ended, and how long that took.
struct Left {
    count: u64,
    seconds: f64,
}

/// What was measured, round by round.
#[derive(Default)]
struct Found {
    apart: Vec<f64>,
    embedded: Vec<f64>,
    raw: Vec<f64>,
    celery: Vec<f64>,
    ray: Vec<f64>,
    backlog: Vec<f64>,
    drained_s: Vec<f64>,
    published: Vec<f64>,
    apart_p99_ms: Vec<f64>,
    embedded_p99_ms: Vec<f64>,
    apart_noop: Noop,
    embedded_noop: Noop,
    celery_noop: Noop,
}

impl Bench {
    async fn start(python: &Path, round: Duration) -> anyhow::Result<Self> {
        // Beside this example's own directory lies the binary.
        let here = std::env::current_exe()?;
        let program = here
            .parent()
            .and_then(Path::parent)
            .context("target/debug/examples")?
            .join("stoker");
        let scratch = tempfile::tempdir()?;
        let services = tokio::task::spawn_blocking(Services::start).await??;
        let apart = Ours::apart(&program, &scratch.path().join("apart"), &services).await?;
        let embedded = Ours::embedded(&program, &scratch.path().join("embedded")).await?;
        let servers = Servers::connect(&services).await?;
        let urls = [services.rabbit.url(), services.redis.url()];
        let celery = ["main", urls[0].as_str(), urls[1].as_str()];
        let celery = Peer::start(python, "celery_peer.py", &celery)?;
        let ray = Peer::start(python, "ray_peer.py", &[])?;
        Ok(Self {
            apart,
            embedded,
            servers,
            record: Arc::default(),
            celery,
            ray,
            round,
            services,
            scratch,
        })
    }

    /// Opens what is opened once, and reads what our record of a job is.
    async fn warm_up(&mut self) -> anyhow::Result<()> {
        self.apart.run_noop(NOOPS, &mut Noop::default()).await?;
        self.embedded.run_noop(NOOPS, &mut Noop::default()).await?;
        let (load, _) = self.load_apart("warm-up", Pace::Full, WARM_UP).await?;
        let first = load.ids.first().context("no job")?;
        let record = self.servers.record(*first).await?;
        println!("our record of a job: {} bytes", record.size_bytes());
        self.record = Arc::new(record);
        self.load_embedded("warm-up", Pace::Full, WARM_UP).await?;
        self.servers.load(&self.record, WARM_UP).await?;
        self.load_celery(WARM_UP).await?;
        Ok(())
    }

    /// A round of all sides at full load.
    async fn submit(&mut self, round: usize, found: &mut Found) -> anyhow::Result<()> {
        let label = format!("full-{round}");
        let (load, left) = self.load_apart(&label, Pace::Full, self.round).await?;
        let apart = load.per_s();
        let raw = self.servers.load(&self.record, self.round).await?;
        let celery = self.load_celery(self.round).await?;
        let embedded = self.load_embedded(&label, Pace::Full, self.round).await?;
        let embedded = embedded.per_s();
        let ray = self.load_ray().await?;
        println!(
            "round {}: ours {apart:.0}/s ({} unpublished, for {:.1} s more), raw {raw:.0}/s, \
             celery {celery:.0}/s, ours embedded {embedded:.0}/s, ray {ray:.1}/s",
            round + 1,
            left.count,
            left.seconds
        );
        found.apart.push(apart);
        found.backlog.push(left.count as f64);
        found.drained_s.push(left.seconds);
        let published = load.ids.len() as f64 / (load.seconds + left.seconds);
        found.published.push(published);
        found.raw.push(raw);
        found.celery.push(celery);
        found.embedded.push(embedded);
        found.ray.push(ray);
        Ok(())
    }

    /// A round of ours at half of the load that was reached.
    async fn submit_half(&mut self, round: usize, found: &mut Found) -> anyhow::Result<()> {
        let label = format!("half-{round}");
        let half = |rates: &[f64]| Pace::PerSecond(median(rates) / 2.0);
        let pace = half(&found.apart);
        let (mut load, _) = self.load_apart(&label, pace, self.round).await?;
        let apart = quantile(&mut load.taken_ms, 0.99);
        let pace = half(&found.embedded);
        let mut load = self.load_embedded(&label, pace, self.round).await?;
        let embedded = quantile(&mut load.taken_ms, 0.99);
        println!(
            "at half load, round {}: p99 {apart:.1} ms, embedded {embedded:.1} ms",
            round + 1
        );
        found.apart_p99_ms.push(apart);
        found.embedded_p99_ms.push(embedded);
        Ok(())
    }

    async fn run_noops(&mut self, found: &mut Found) -> anyhow::Result<()> {
        self.apart.run_noop(NOOPS, &mut found.apart_noop).await?;
        let answer = self.celery.ask(&format!("noop {NOOPS}")).await?;
        let into = &mut found.celery_noop;
        into.done_ms.extend(numbers(&answer, "done_ms")?);
        into.seen_ms.extend(numbers(&answer, "seen_ms")?);
        let into = &mut found.embedded_noop;
        self.embedded.run_noop(NOOPS, into).await
    }

    /// Ours over the servers. Waits until all messages are out; there must be one for each job.
    async fn load_apart(
        &mut self,
        label: &str,
        pace: Pace,
        length: Duration,
    ) -> anyhow::Result<(Load, Left)> {
        let load = self.apart.submit(label, pace, length).await?;
        let count = self.servers.backlog().await?;
        let seconds = self.servers.drained().await?;
        // A message may come twice.
        self.servers.take(POOL_QUEUE, load.ids.len(), true).await?;
        self.apart.count(load.ids.clone()).await?;
        Ok((load, Left { count, seconds }))
    }

    async fn load_embedded(
        &mut self,
        label: &str,
        pace: Pace,
        length: Duration,
    ) -> anyhow::Result<Load> {
        let load = self.embedded.submit(label, pace, length).await?;
        self.embedded.count(load.ids.clone()).await?;
        Ok(load)
    }

    async fn load_celery(&mut self, length: Duration) -> anyhow::Result<f64> {
        let command = format!("submit {} {}", length.as_secs_f64(), ours::SPEC);
        let answer = self.celery.ask(&command).await?;
        let count = number(&answer, "count")?;
        self.servers
            .take(CELERY_QUEUE, count as usize, false)
            .await?;
        Ok(count / number(&answer, "seconds")?)
    }

    async fn load_ray(&mut self) -> anyhow::Result<f64> {
        let command = format!("submit {} {CONNECTIONS}", self.round.as_secs_f64());
        let answer = self.ray.ask(&command).await?;
        let count = number(&answer, "count")?;
        ensure!(
            number(&answer, "listed")? == count,
            "ray lost jobs: {answer}"
        );
        Ok(count / number(&answer, "seconds")?)
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.celery.stop().await.context("celery_peer.py")?;
        self.ray.stop().await.context("ray_peer.py")?;
        self.embedded.stop().await?;
        self.apart.stop().await?;
        drop((self.services, self.scratch));
        Ok(())
    }
}

impl Found {
    fn report(&mut self) -> serde_json::Value {
        let rates = [
            &self.apart,
            &self.raw,
            &self.celery,
            &self.ray,
            &self.embedded,
        ];
        let [apart, raw, celery, ray, embedded] = rates.map(|rates| median(rates));
        let noop = |noop: &mut Noop| {
            json!({
                "p50": rounded(quantile(&mut noop.done_ms, 0.5)),
                "p99": rounded(quantile(&mut noop.done_ms, 0.99)),
                "seen_p50": rounded(quantile(&mut noop.seen_ms, 0.5)),
            })
        };
        json!({
            "ratio_raw": rounded(apart / raw),
            "ratio_celery": rounded(apart / celery),
            "ratio_ray": rounded(apart / ray),
            "p99_ms_half_load": rounded(median(&self.apart_p99_ms)),
            "per_s": apart.round(),
            "raw_per_s": raw.round(),
            "celery_per_s": celery.round(),
            "ray_per_s": rounded(ray),
            "published_per_s": median(&self.published).round(),
            "backlog": median(&self.backlog),
            "backlog_s": rounded(median(&self.drained_s)),
            "embedded_per_s": embedded.round(),
            "embedded_p99_ms_half_load": rounded(median(&self.embedded_p99_ms)),
            "noop_ms": noop(&mut self.apart_noop),
            "embedded_noop_ms": noop(&mut self.embedded_noop),
            "celery_noop_ms": noop(&mut self.celery_noop),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn median(values: &[f64]) -> f64 {
    quantile(&mut values.to_vec(), 0.5)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * share;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}
