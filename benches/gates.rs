//! What right trainers reach on real data: `make gates`, or `make gates NAMES="mnist"`. Each gate is
//! a job of `examples/` on data of `make data`, run on a platform of its own. One JSON line per
//! gate; ends with 1 when one was missed.

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
use stoker_domain::JobState;
use stoker_sdk::{Client, Header, NewDataset, Upload, dataset::DataFormat};

/// A job and what it must reach.
struct Gate {
    name: &'static str,
    /// Under the directory of `make data`, in a folder by the name that it is fetched by; the data
    /// set has the gate's name.
    file: &'static str,
    format: DataFormat,
    spec: &'static str,
    metric: &'static str,
    score: &'static str,
    /// The score, by the metric.
    of: fn(f64) -> f64,
    bound: Bound,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const GATES: &[Gate] = &[
    Gate {
        name: "mnist",
        file: "mnist/mnist.npz",
        format: DataFormat::Npz,
        spec: include_str!("../examples/mnist/job.toml"),
        metric: "test.accuracy",
        score: "accuracy",
        of: |accuracy| accuracy,
        bound: Bound::AtLeast(0.98),
    },
    Gate {
        name: "ratings",
        file: "ml-100k/ratings.csv",
        format: DataFormat::Csv,
        spec: include_str!("../examples/ratings/job.toml"),
        metric: "test.rmse",
        score: "rmse",
        of: |rmse| rmse,
        bound: Bound::AtMost(1.03),
    },
    Gate {
        name: "kjv",
        file: "kjv/kjv.npz",
        format: DataFormat::Npz,
        spec: include_str!("../examples/kjv/job.toml"),
        metric: "test.loss",
        score: "bits_per_character",
        of: |nats| nats / std::f64::consts::LN_2,
        bound: Bound::AtMost(1.85),
    },
];

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
    // Beside this example's own directory lies the binary.
    let here = std::env::current_exe()?;
    let build = here.parent().and_then(Path::parent);
    let program = build.context("target/debug/examples")?.join("stoker");
    let scratch = tempfile::tempdir()?;
    let platform = Platform::embedded(&program, &scratch.path().join("data"), &[]).await?;
    let wanted = |gate: &&Gate| names.is_empty() || names.iter().any(|name| name == gate.name);
    let mut missed = Vec::new();
    for gate in GATES.iter().filter(wanted) {
        if !pass(platform.client()?, gate, &data).await? {
            missed.push(gate.name);
        }
    }
    platform.stop().await?;
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

/// Runs a gate's job and says whether it reached its score.
async fn pass(client: &Client, gate: &Gate, data: &Path) -> anyhow::Result<bool> {
    let path = data.join(gate.file);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("can't read {}: `make data` fetches it", path.display()))?;
    let new = NewDataset {
        name: gate.name.to_owned(),
        format: gate.format,
        header: Header::Auto,
    };
    client
        .create_dataset(&new, &Upload::from_bytes(bytes))
        .await?;
    let started = Instant::now();
    let job = client.create_job_toml(gate.spec).await?;
    eprintln!("{}: {}", gate.name, job.id);
    let job = client.wait_job(job.id).await?;
    ensure!(
        job.state == JobState::Succeeded,
        "{}: {}: {:?}",
        gate.name,
        job.state.as_str(),
        job.failure
    );
    let result = job.result.context("no result")?;
    let value = result.metrics.get(gate.metric).context("no such metric")?;
    let score = (gate.of)(*value);
    let (reached, bound) = match gate.bound {
        Bound::AtLeast(bound) => (score >= bound, bound),
        Bound::AtMost(bound) => (score <= bound, bound),
    };
    let line = json!({
        "gate": gate.name, gate.score: score, "bound": bound, "reached": reached,
        "steps": result.steps, "seconds": started.elapsed().as_secs_f64(),
    });
    println!("{line}");
    Ok(reached)
}
