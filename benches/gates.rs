//! What right trainers reach on real data: `make gates`, or `make gates NAMES="mnist"`. Each gate is
//! a job of `examples/` on data of `make data`, run with three seeds (SEEDS="0" takes one) on a
//! platform of its own. One JSON line per run, a table at the end; ends with 1 when one was missed.
//! With REPLAY=1 the first seed's job is replayed, and must give the same weights.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints lines"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use stoker::launch::Platform;
use stoker_domain::spec::Format;
use stoker_domain::{JobId, JobSpec, JobState};
use stoker_sdk::{Client, Header, IdempotencyKey, NewDataset, Upload, dataset::DataFormat};

/// A job and what it must reach.
struct Gate {
    name: &'static str,
    /// Under the directory of `make data`, in a folder by the name that it is fetched by; the data
    /// set has the gate's name. Digits are in the repository.
    file: &'static str,
    spec: &'static str,
    /// Length, classes and share of test rows of a set of series; else the spec has them.
    series: Option<(u32, u32, f64)>,
    metric: &'static str,
    score: &'static str,
    /// The score, by the metric.
    of: fn(f64) -> f64,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    Above(f64),
    AtMost(f64),
}

impl Bound {
    fn is_reached(self, score: f64) -> bool {
        match self {
            Self::AtLeast(bound) => score >= bound,
            Self::Above(bound) => score > bound,
            Self::AtMost(bound) => score <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::Above(bound) => format!("> {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

/// A gate of accuracy.
const fn accuracy(
    name: &'static str,
    file: &'static str,
    spec: &'static str,
    bound: Bound,
) -> Gate {
    Gate {
        name,
        file,
        spec,
        series: None,
        metric: "test.accuracy",
        score: "accuracy",
        of: |accuracy| accuracy,
        bound,
    }
}

/// A set of series, to be told apart better than by the nearest neighbour.
const fn series(
    name: &'static str,
    file: &'static str,
    shape: (u32, u32, f64),
    nearest: f64,
) -> Gate {
    let spec = include_str!("../examples/series/job.toml");
    Gate {
        series: Some(shape),
        ..accuracy(name, file, spec, Bound::Above(nearest))
    }
}

const GATES: &[Gate] = &[
    accuracy(
        "digits",
        "",
        include_str!("../examples/digits/job.toml"),
        Bound::AtLeast(0.98),
    ),
    accuracy(
        "mnist",
        "mnist/mnist.npz",
        include_str!("../examples/mnist/job.toml"),
        Bound::AtLeast(0.98),
    ),
    accuracy(
        "spam",
        "spam/spam.jsonl",
        include_str!("../examples/spam/job.toml"),
        Bound::AtLeast(0.98),
    ),
    Gate {
        name: "airline",
        file: "airline/airline.csv",
        spec: include_str!("../examples/airline/job.toml"),
        series: None,
        metric: "test.mape",
        score: "mape",
        of: |mape| mape,
        bound: Bound::AtMost(0.07),
    },
    Gate {
        name: "traffic",
        file: "traffic/hourly.csv",
        spec: include_str!("../examples/traffic/job.toml"),
        series: None,
        metric: "test.mae",
        score: "mae",
        of: |mae| mae,
        bound: Bound::AtMost(255.0),
    },
    Gate {
        name: "ratings",
        file: "ml-100k/ratings.csv",
        spec: include_str!("../examples/ratings/job.toml"),
        series: None,
        metric: "test.rmse",
        score: "rmse",
        of: |rmse| rmse,
        bound: Bound::AtMost(1.03),
    },
    Gate {
        name: "brain",
        file: "brain/brain.npz",
        spec: include_str!("../examples/brain/job.toml"),
        series: None,
        metric: "test.dice",
        score: "dice",
        of: |dice| dice,
        bound: Bound::AtLeast(0.96),
    },
    series(
        "italy-power",
        "italy-power/italy-power.npz",
        (24, 2, 0.9388),
        0.955,
    ),
    series(
        "gun-point",
        "gun-point/gun-point.npz",
        (150, 2, 0.75),
        0.913,
    ),
    series(
        "arrow-head",
        "arrow-head/arrow-head.npz",
        (251, 3, 0.829),
        0.8,
    ),
    series("osu-leaf", "osu-leaf/osu-leaf.npz", (427, 6, 0.547), 0.521),
    Gate {
        name: "kjv",
        file: "kjv/kjv.npz",
        spec: include_str!("../examples/kjv/job.toml"),
        series: None,
        metric: "test.loss",
        score: "bits_per_character",
        of: |nats| nats / std::f64::consts::LN_2,
        bound: Bound::AtMost(1.85),
    },
];

/// What one run came to.
struct Reached {
    gate: &'static Gate,
    score: f64,
    seconds: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(
        arguments
            .next()
            .context("usage: gates DATA_DIR [NAME...]")?,
    );
    let names: Vec<String> = arguments.collect();
    let known = |name: &String| GATES.iter().any(|gate| gate.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = GATES.iter().map(|gate| gate.name).collect();
        bail!("no gate `{unknown}`, only {}", all.join(", "));
    }
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0 1 2".to_owned());
    let seeds = seeds.split_whitespace().map(str::parse);
    let seeds: Vec<u64> = seeds
        .collect::<Result<_, _>>()
        .context("SEEDS are numbers")?;
    let replays = std::env::var("REPLAY").is_ok_and(|value| value == "1");
    // Beside this example's own directory lies the binary.
    let here = std::env::current_exe()?;
    let build = here.parent().and_then(Path::parent);
    let program = build.context("target/debug/examples")?.join("stoker");
    let scratch = tempfile::tempdir()?;
    let platform = Platform::embedded(&program, &scratch.path().join("data"), &[]).await?;
    let wanted =
        |gate: &&'static Gate| names.is_empty() || names.iter().any(|name| name == gate.name);
    let mut all = Vec::new();
    for gate in GATES.iter().filter(wanted) {
        upload(platform.client()?, gate, &data).await?;
        for (index, &seed) in seeds.iter().enumerate() {
            let again = replays && index == 0;
            all.push(run(platform.client()?, gate, seed, again).await?);
        }
    }
    platform.stop().await?;
    let missed = tell(&all);
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

/// A table of all gates; gives those that were missed.
fn tell(all: &[Reached]) -> Vec<&'static str> {
    println!(
        "{:<12} {:<20} {:<10} {:<30} seconds",
        "gate", "score", "bound", "by seed"
    );
    let mut missed = Vec::new();
    for runs in all.chunk_by(|a, b| a.gate.name == b.gate.name) {
        let gate = runs[0].gate;
        let scores: Vec<String> = runs.iter().map(|run| format!("{:.4}", run.score)).collect();
        let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
        let reached = runs.iter().all(|run| gate.bound.is_reached(run.score));
        if !reached {
            missed.push(gate.name);
        }
        println!(
            "{:<12} {:<20} {:<10} {:<30} {:.0}{}",
            gate.name,
            gate.score,
            gate.bound.text(),
            scores.join(" "),
            seconds / runs.len() as f64,
            if reached { "" } else { "  MISSED" },
        );
    }
    missed
}

async fn upload(client: &Client, gate: &Gate, data: &Path) -> anyhow::Result<()> {
    let (bytes, format) = match gate.file {
        "" => {
            let digits = include_bytes!("../examples/digits/digits.csv.gz");
            (digits.to_vec(), DataFormat::CsvGz)
        }
        file => {
            let path = data.join(file);
            let bytes = std::fs::read(&path).with_context(|| {
                format!("can't read {}: `make data` fetches it", path.display())
            })?;
            (
                bytes,
                DataFormat::of_file_name(file).context("an unknown format")?,
            )
        }
    };
    let new = NewDataset {
        name: gate.name.to_owned(),
        format,
        header: Header::Auto,
    };
    client
        .create_dataset(&new, &Upload::from_bytes(bytes))
        .await?;
    Ok(())
}

/// The gate's job with a seed.
fn spec(gate: &Gate, seed: u64) -> anyhow::Result<JobSpec> {
    let mut text = gate.spec.to_owned();
    if let Some((length, classes, share)) = gate.series {
        text = text
            .replace("gun-point@1", &format!("{}@1", gate.name))
            .replace("input = [150, 1]", &format!("input = [{length}, 1]"))
            .replace("units = 2 }", &format!("units = {classes} }}"))
            .replace("test = 0.75", &format!("test = {share}"));
    }
    let parsed = JobSpec::parse(&text, Format::Toml);
    let mut spec = parsed.map_err(|errors| anyhow::anyhow!("{}: {errors:?}", gate.name))?;
    spec.train.seed = seed;
    // The plugins of the digits aren't needed to learn them.
    spec.preprocess.retain(|step| step.plugin.is_none());
    spec.metrics.retain(|metric| metric.plugin.is_none());
    Ok(spec)
}

/// Runs a job again: its weights must be the same to the bit.
async fn replay(client: &Client, id: JobId) -> anyhow::Result<()> {
    let replay = client.replay_job(id, &IdempotencyKey::generate()).await?;
    let replay = client.wait_job(replay.id).await?;
    let diff = client.diff_jobs(replay.id, None).await?;
    ensure!(diff.equal == Some(true), "the replay differs: {diff:?}");
    Ok(())
}

/// Runs a gate's job, and once more where its replay is to be seen.
async fn run(
    client: &Client,
    gate: &'static Gate,
    seed: u64,
    again: bool,
) -> anyhow::Result<Reached> {
    let started = Instant::now();
    let job = client.create_job(&spec(gate, seed)?).await?;
    eprintln!("{}, seed {seed}: {}", gate.name, job.id);
    let job = client.wait_job(job.id).await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        job.state == JobState::Succeeded,
        "{}: {}: {:?}",
        gate.name,
        job.state.as_str(),
        job.failure
    );
    if again {
        replay(client, job.id).await?;
    }
    let result = job.result.context("no result")?;
    let value = result.metrics.get(gate.metric).context("no such metric")?;
    let reached = Reached {
        gate,
        score: (gate.of)(*value),
        seconds,
    };
    let line = json!({
        "gate": gate.name, "seed": seed, gate.score: reached.score, "bound": gate.bound.text(),
        "reached": gate.bound.is_reached(reached.score), "steps": result.steps,
        "seconds": seconds, "replayed": again,
    });
    println!("{line}");
    Ok(reached)
}
