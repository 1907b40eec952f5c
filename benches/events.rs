//! Metric points beside MLflow's tracking server: written in batches of 1,000, and read back whole
//! and thinned. `make bench-events`; the last line is one JSON object.
//!
//! Our points take the way that a worker's take: into Redis (every write synced to disk) or the
//! embedded store, and from there to files. They are read over HTTP from a running platform, with a
//! token. MLflow's are written and read over HTTP, a connection per request, from its SQLite. Both
//! sides hold the same values, and their sums are compared.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints a line"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use object_store::local::LocalFileSystem;
use serde::Deserialize;
use stoker::launch::Platform;
use stoker_domain::JobId;
use stoker_domain::port::{Point, PointStore, Telemetry};
use stoker_infra::testing::Redis;
use stoker_infra::{EmbeddedStore, RedisConfig, RedisStore, TieredPoints};
use stoker_sdk::{Client, MetricQuery};

const METRIC: &str = "bench.curve";
const BATCH: u64 = 1_000;
/// Points of the curve that both sides read.
const SHARED: u64 = 100_000;
/// Points of the long curve.
const LONG: u64 = 1_000_000;
/// Points that the long curve is thinned to.
const SAMPLE: u32 = 2_000;
const ROUNDS: usize = 5;

fn value(step: u64) -> f64 {
    (step as f64 / 1_000.0).sin()
}

/// MLflow's server and its client, in a process of their own.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    points: u64,
    #[serde(default)]
    sum: f64,
}

impl Peer {
    fn start(python: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .arg("benches/events/mlflow_peer.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the Python of MLflow")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut peer = Self {
            child,
            input,
            output,
        };
        peer.told()?;
        Ok(peer)
    }

    fn told(&mut self) -> anyhow::Result<Told> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "MLflow's side ended");
        serde_json::from_str(&line).with_context(|| line)
    }

    fn ask(&mut self, what: &str) -> anyhow::Result<Told> {
        writeln!(self.input, "{what}")?;
        self.input.flush()?;
        self.told()
    }

    /// Lets its server end.
    fn stop(mut self) -> anyhow::Result<()> {
        drop(self.input);
        self.child.wait()?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let python = std::env::args().nth(1).context("MLflow's Python")?;
    let here = std::env::current_exe()?;
    let program = here
        .parent()
        .and_then(Path::parent)
        .context("target/debug/examples")?
        .join("stoker");
    let scratch = tempfile::tempdir()?;
    let mut peer = tokio::task::spawn_blocking(move || Peer::start(&python)).await??;

    let (redis, mlflow) = write_beside(scratch.path(), &mut peer).await?;
    println!("Redis {:.0} points/s, MLflow {:.0}", redis, mlflow);

    let data_dir = scratch.path().join("data");
    let job = job_on(&program, &data_dir).await?;
    let embedded = fill(&data_dir, job).await?;
    println!("embedded {embedded:.0} points/s, files included");
    let platform = Platform::embedded(&program, &data_dir, &[("STOKER__LOG__FILTER", "warn")]);
    let platform = platform.await?;
    let client = platform.client()?;
    let (ours, theirs) = read_beside(client, job, &mut peer).await?;
    println!("{SHARED} points read whole: ours {ours:.1} ms, MLflow {theirs:.1}");
    let (thin, theirs_thin) = thin_beside(client, job, &mut peer).await?;
    println!("{SHARED} points thinned to 320: ours {thin:.1} ms, MLflow {theirs_thin:.1}");
    let spilled = long_curve(client, job, "long.spilled").await?;
    let compacted = long_curve(client, job, "long.compacted").await?;
    println!("{LONG} points thinned to {SAMPLE}: {compacted:.1} ms, in many files {spilled:.1}");
    platform.stop().await?;
    tokio::task::spawn_blocking(move || peer.stop()).await??;
    let line = serde_json::json!({
        "ratio_mlflow_write": redis / mlflow,
        "ratio_mlflow_read": theirs / ours,
        "read_1m_points_ms": compacted,
        "read_1m_points_running_ms": spilled,
        "ratio_mlflow_sample": theirs_thin / thin,
        "redis_points_per_s": redis, "embedded_points_per_s": embedded,
        "mlflow_points_per_s": mlflow,
    });
    println!("{line}");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn batch(metric: &str, first: u64, count: u64) -> Vec<Point> {
    let points = (first..first + count).map(|step| Point {
        metric: metric.to_owned(),
        step,
        value: value(step),
    });
    points.collect()
}

/// Appends a curve as a worker does; seconds.
async fn append(
    telemetry: &dyn Telemetry,
    job: JobId,
    metric: &str,
    steps: std::ops::Range<u64>,
) -> anyhow::Result<f64> {
    let batches: Vec<_> = steps
        .clone()
        .step_by(BATCH as usize)
        .map(|first| batch(metric, first, BATCH.min(steps.end - first)))
        .collect();
    let began = Instant::now();
    for points in batches {
        telemetry.append_points(job, 1, &points).await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Points a second into Redis and into MLflow, in turns.
async fn write_beside(scratch: &Path, peer: &mut Peer) -> anyhow::Result<(f64, f64)> {
    let server = tokio::task::spawn_blocking(Redis::start).await??;
    let config = RedisConfig {
        url: server.url().into(),
        ..RedisConfig::default()
    };
    let store = Arc::new(RedisStore::connect(&config).await?);
    let directory = scratch.join("redis-files");
    std::fs::create_dir(&directory)?;
    let files = Arc::new(LocalFileSystem::new_with_prefix(&directory)?);
    let telemetry = TieredPoints::new(store.clone(), files);
    let job = JobId::generate();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let each = SHARED / ROUNDS as u64;
    for round in 0..ROUNDS as u64 {
        let steps = round * each..(round + 1) * each;
        let seconds = append(&telemetry, job, METRIC, steps).await?;
        ours.push(each as f64 / seconds);
        let told = peer.ask(&format!("write {each}"))?;
        theirs.push(each as f64 / told.seconds);
        println!(
            "round {}: Redis {:.0}/s, MLflow {:.0}/s",
            round + 1,
            ours[round as usize],
            theirs[round as usize]
        );
    }
    let kept = telemetry
        .points(job, Some(METRIC), 0..=u64::MAX, usize::MAX)
        .await?;
    ensure!(kept == batch(METRIC, 0, SHARED), "what was written is read");
    Ok((median(ours), median(theirs)))
}

/// A platform with a job, stopped again.
async fn job_on(program: &Path, data_dir: &Path) -> anyhow::Result<JobId> {
    use stoker_sdk::{Header, NewDataset, Upload, dataset::DataFormat};
    let platform = Platform::embedded(program, data_dir, &[]).await?;
    let client = platform.client()?;
    let new = NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::CsvGz,
        header: Header::No,
    };
    let digits = Upload::from_bytes(stoker::digits::DATA);
    client.create_dataset(&new, &digits).await?;
    let job = client
        .create_job_toml(
            "name = \"curve\"\ndata = { dataset = \"digits@1\", target = \"column_64\" }\n\
             model = { family = \"mlp\", hidden = [8] }\n\
             train = { steps = 3, batch_size = 64, loss = \"cross_entropy\" }\n",
        )
        .await?;
    let job = client.wait_job(job.id).await?;
    platform.stop().await?;
    Ok(job.id)
}

/// Writes the curves into the stopped platform's store and files; points a second.
async fn fill(data_dir: &Path, job: JobId) -> anyhow::Result<f64> {
    let store = Arc::new(EmbeddedStore::open(data_dir.join("stoker.db"))?);
    let files = Arc::new(LocalFileSystem::new_with_prefix(data_dir.join("objects"))?);
    let telemetry = TieredPoints::new(store.clone(), files);
    let mut seconds = append(&telemetry, job, METRIC, 0..SHARED).await?;
    seconds += append(&telemetry, job, "long.compacted", 0..LONG).await?;
    telemetry.compact(job).await?;
    seconds += append(&telemetry, job, "long.spilled", 0..LONG - BATCH).await?;
    // What the store still holds of a running job.
    let last = batch("long.spilled", LONG - BATCH, BATCH);
    store.append_points(job, 1, &last).await?;
    Ok((SHARED + 2 * LONG) as f64 / seconds)
}

fn query(metric: &str) -> MetricQuery {
    MetricQuery {
        metric: Some(metric.to_owned()),
        ..MetricQuery::default()
    }
}

/// Milliseconds to read the shared curve whole, by us and by MLflow, in turns.
async fn read_beside(client: &Client, job: JobId, peer: &mut Peer) -> anyhow::Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let list = client.list_metrics(job, &query(METRIC)).await?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        let told = peer.ask("read")?;
        theirs.push(told.seconds * 1e3);
        let sum: f64 = list.points.iter().map(|point| point.value).sum();
        ensure!(
            list.points.len() as u64 == SHARED && told.points == SHARED,
            "all points"
        );
        ensure!((sum - told.sum).abs() < 1e-6, "{sum} and {}", told.sum);
    }
    Ok((median(ours), median(theirs)))
}

/// Milliseconds to read the shared curve thinned, by us and by MLflow, in turns.
async fn thin_beside(client: &Client, job: JobId, peer: &mut Peer) -> anyhow::Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let asked = MetricQuery {
            sample: Some(320),
            ..query(METRIC)
        };
        let began = Instant::now();
        let list = client.list_metrics(job, &asked).await?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        let told = peer.ask("sample 320")?;
        theirs.push(told.seconds * 1e3);
        ensure!(
            (160..=320).contains(&list.points.len()),
            "{} points",
            list.points.len()
        );
        ensure!(told.points >= 160, "MLflow gave {} points", told.points);
    }
    Ok((median(ours), median(theirs)))
}

/// Milliseconds to read a long curve thinned.
async fn long_curve(client: &Client, job: JobId, metric: &str) -> anyhow::Result<f64> {
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        let asked = MetricQuery {
            sample: Some(SAMPLE),
            ..query(metric)
        };
        let began = Instant::now();
        let list = client.list_metrics(job, &asked).await?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        let total = list.totals.and_then(|totals| totals.get(metric).copied());
        ensure!(total == Some(LONG), "{total:?} points in all");
        let last = list.points.last().context("points")?;
        ensure!(
            last.step == LONG - 1 && last.value == value(LONG - 1),
            "the last"
        );
    }
    Ok(median(ours))
}
