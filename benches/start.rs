//! From POST to the first optimiser step on a warm worker: 1,000 jobs, one at a time, a new seed
//! each and every tenth a new width; in one process, and with the roles apart over RabbitMQ, Redis
//! and S3. `make bench-start`; the last line is one JSON object.
//!
//! The time is the platform's own: from the record's creation, inside the POST, to the moment at
//! which the engine reported its first step. The POST as the client sees it is printed beside it.
//! Every job is checked to have succeeded after exactly the steps that it asked for, with weights of its
//! width.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures time and prints a line"
)]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use stoker::launch::Platform;
use stoker_domain::JobState;
use stoker_infra::testing::Services;
use stoker_sdk::Client;

const JOBS: usize = 1_000;
/// Jobs before the measured ones: they fill the worker's caches.
const WARM_UP: usize = 20;

struct Measured {
    first_step_ms: Vec<f64>,
    post_ms: Vec<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let jobs = std::env::args()
        .nth(1)
        .map_or(Ok(JOBS), |text| text.parse())?;
    // Beside this example's own directory lies the binary.
    let here = std::env::current_exe()?;
    let program = here
        .parent()
        .and_then(Path::parent)
        .context("target/debug/examples")?
        .join("stoker");
    let scratch = tempfile::tempdir()?;

    let platform = Platform::embedded(&program, &scratch.path().join("embedded"), &[]).await?;
    let mut embedded = measure(platform.client()?, jobs, "embedded").await?;
    platform.stop().await?;

    let services = tokio::task::spawn_blocking(Services::start).await??;
    let platform = Platform::apart(&program, &scratch.path().join("apart"), &services, &[]).await?;
    let mut apart = measure(platform.client()?, jobs, "services").await?;
    platform.stop().await?;

    let first = [
        quantiles(&mut embedded.first_step_ms),
        quantiles(&mut apart.first_step_ms),
    ];
    let post = [
        quantiles(&mut embedded.post_ms),
        quantiles(&mut apart.post_ms),
    ];
    eprintln!(
        "the POST itself, as the client sees it: embedded p50 {:.1} p99 {:.1} ms, services p50 {:.1} p99 {:.1} ms",
        post[0].0, post[0].1, post[1].0, post[1].1
    );
    let line = serde_json::json!({
        "embedded_p50_ms": first[0].0, "embedded_p99_ms": first[0].1,
        "services_p50_ms": first[1].0, "services_p99_ms": first[1].1,
    });
    println!("{line}");
    Ok(())
}

async fn measure(client: &Client, jobs: usize, name: &str) -> anyhow::Result<Measured> {
    upload(client).await?;
    let mut measured = Measured {
        first_step_ms: Vec::new(),
        post_ms: Vec::new(),
    };
    for index in 0..WARM_UP + jobs {
        let width = if index % 10 == 0 { 16 + index / 10 } else { 32 };
        let posted = Instant::now();
        let job = client.create_job_toml(&spec(index, width)).await?;
        let post_ms = posted.elapsed().as_secs_f64() * 1e3;
        let job = client.wait_job(job.id).await?;
        ensure!(
            job.state == JobState::Succeeded,
            "job {index} {}: {:?}",
            job.state.as_str(),
            job.failure
        );
        let result = job.result.context("no result")?;
        ensure!(result.steps == 3, "job {index} made {} steps", result.steps);
        // The weights' file has the numbers of this width, and a header.
        let bytes = 4 * (64 * width + width + 10 * width + 10) as u64;
        let weights = result
            .artifacts
            .iter()
            .find(|a| a.name == "weights.safetensors");
        let size = weights.context("no weights")?.size_bytes;
        ensure!(
            (bytes..bytes + 4096).contains(&size),
            "job {index}: {size} bytes of weights for {width} units"
        );
        if index >= WARM_UP {
            measured.post_ms.push(post_ms);
            measured
                .first_step_ms
                .push(result.submit_to_first_step_ms.context("no first step")?);
        }
        if index % 100 == 0 {
            eprintln!("{name}: {index} of {}", WARM_UP + jobs);
        }
    }
    Ok(measured)
}

async fn upload(client: &Client) -> anyhow::Result<()> {
    use stoker_sdk::{Header, NewDataset, Upload, dataset::DataFormat};
    let new = NewDataset {
        name: "digits".to_owned(),
        format: DataFormat::CsvGz,
        header: Header::No,
    };
    client
        .create_dataset(&new, &Upload::from_bytes(stoker::digits::DATA))
        .await?;
    Ok(())
}

fn spec(seed: usize, width: usize) -> String {
    format!(
        "name = \"start\"\ndata = {{ dataset = \"digits@1\", target = \"column_64\" }}\n\
         model = {{ family = \"mlp\", hidden = [{width}] }}\n\
         train = {{ steps = 3, batch_size = 64, loss = \"cross_entropy\", seed = {seed} }}\n"
    )
}

/// Median and 99th percentile.
fn quantiles(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.99))
}
