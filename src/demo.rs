//! `stoker demo`: the main job from nothing to a trained model, on a platform of its own that is
//! gone afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use stoker_domain::JobState;
use stoker_domain::view::JobView;
use stoker_infra::testing::Services;
use stoker_sdk::Client;

use crate::cli::Output;
use crate::digits;
use crate::launch::{Platform, Role};

/// Runs the main job on a platform of its own, and leaves nothing behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Over own RabbitMQ, Redis and S3 servers, with the roles apart, rather than in one process.
    #[arg(long)]
    services: bool,
    /// Where `make plugins` put the sample plugins.
    #[arg(long, default_value = "target/plugins")]
    plugins: PathBuf,
}

/// What the demo shows.
#[derive(Debug, Serialize)]
struct Report {
    state: JobState,
    test_accuracy: Option<f64>,
    macro_f1: Option<f64>,
    submit_to_first_step_ms: Option<f64>,
    samples_per_s: Option<f64>,
    weights_blake3: Option<String>,
}

impl Report {
    fn new(job: &JobView) -> Self {
        let result = job.result.as_ref();
        let none = BTreeMap::new();
        let metrics = result.map_or(&none, |result| &result.metrics);
        let weights = result.and_then(|result| {
            result
                .artifacts
                .iter()
                .find(|artifact| artifact.name == "weights.safetensors")
        });
        Self {
            state: job.state,
            test_accuracy: metrics.get("test.accuracy").copied(),
            macro_f1: metrics.get("test.macro-f1").copied(),
            submit_to_first_step_ms: result.and_then(|result| result.submit_to_first_step_ms),
            samples_per_s: result.map(|result| result.samples_per_s),
            weights_blake3: weights.map(|weights| weights.blake3.clone()),
        }
    }
}

/// Runs the demo.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let bar = bar(output.json());
    bar.set_message("starting the platform");
    let services = match arguments.services {
        true => Some(tokio::task::spawn_blocking(Services::start).await??),
        false => None,
    };
    let data_dir = scratch.path().join("stoker");
    let platform = match &services {
        Some(services) => Platform::apart(&program, &data_dir, services, &[]).await?,
        None => Platform::embedded(&program, &data_dir, &[]).await?,
    };
    let job = train(platform.client()?, &arguments.plugins, &bar).await;
    if job.is_err() {
        for role in [Role::Up, Role::Api, Role::Scheduler, Role::Worker] {
            let log = std::fs::read_to_string(platform.log(role)).unwrap_or_default();
            bar.suspend(|| output.error(&log));
        }
    }
    let job = job?;
    bar.finish_and_clear();
    let report = Report::new(&job);
    platform.stop().await?;
    tokio::task::spawn_blocking(move || drop(services)).await?;
    if !output.json() {
        output.line(&table(&job, &report));
    }
    output.line(&serde_json::to_string(&report)?);
    ensure!(job.state == JobState::Succeeded, "the job {}", why(&job));
    Ok(())
}

fn bar(quiet: bool) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    } else {
        ProgressBar::new_spinner()
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

async fn train(
    client: &Client,
    plugins: &std::path::Path,
    bar: &ProgressBar,
) -> anyhow::Result<JobView> {
    bar.set_message("uploading the digits and two plugins");
    digits::upload(client, plugins).await?;
    bar.set_message("submitting the job");
    let mut job = client.create_job_toml(digits::SPEC).await?;
    while !job.state.is_final() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        job = client.get_job(job.id).await?;
        bar.set_message(progress(&job));
    }
    Ok(job)
}

fn progress(job: &JobView) -> String {
    let Some(progress) = job.progress.as_ref().filter(|progress| progress.steps > 0) else {
        return job.state.as_str().to_owned();
    };
    let loss = progress
        .loss
        .map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
    let eta = progress
        .eta_ms
        .map_or_else(String::new, |ms| format!(", {:.1} s left", ms as f64 / 1e3));
    format!(
        "{}: step {} of {}{loss}{eta}",
        job.state.as_str(),
        progress.step,
        progress.steps
    )
}

fn why(job: &JobView) -> String {
    let cause = job
        .failure
        .as_ref()
        .map_or("", |failure| failure.message.as_str());
    format!("{}: {cause}", job.state.as_str())
}

fn table(job: &JobView, report: &Report) -> String {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut lines = vec![
        format!(
            "job                       {} {}",
            job.id,
            job.state.as_str()
        ),
        format!(
            "test accuracy             {} (of the 25 % held out)",
            number(report.test_accuracy, 4)
        ),
        format!("macro-F1 (plugin)         {}", number(report.macro_f1, 4)),
        format!(
            "POST to first step        {} ms",
            number(report.submit_to_first_step_ms, 0)
        ),
        format!(
            "samples/s                 {}",
            number(report.samples_per_s, 0)
        ),
    ];
    let artifacts = job.result.iter().flat_map(|result| &result.artifacts);
    lines.extend(artifacts.map(|file| {
        format!(
            "  {:<24}{:>9} B  blake3 {}",
            file.name, file.size_bytes, file.blake3
        )
    }));
    lines.push("to look again: `stoker up`, then the tour in README.md".to_owned());
    lines.join("\n")
}
