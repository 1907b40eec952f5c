//! Everything breaks, at random, and nothing is lost and nothing done twice: `make chaos`.
//!
//! An API, two schedulers and two workers run as processes over a RabbitMQ, a Redis and an S3 server
//! of their own, which they reach through proxies. While a client submits jobs and repeats what
//! failed, processes and servers are killed and stopped, connections are cut, slowed and cut on one
//! side, and processes' clocks jump. Then all is let be, and once every job has ended it is counted
//! what came of them. The last line is one JSON object; the exit status tells whether it is as it
//! should be. Arguments: the number of jobs, the seed.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it waits for real processes, and prints what it does"
)]

mod faults;
mod fleet;
mod proxy;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stoker_domain::{JobId, JobState};
use stoker_sdk::{Client, IdempotencyKey, SpecText};
use tokio::time::{Instant, sleep, timeout};

use faults::Faults;
use fleet::Fleet;

/// Different jobs: each has weights of its own.
const SPECS: u64 = 8;
/// How long jobs may take to end once nothing breaks any more.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many jobs are submitted a second, about.
const RATE: u32 = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let jobs: u64 = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let seed = match arguments.next() {
        Some(text) => text.parse()?,
        None => fastrand::u64(..1_000_000),
    };
    println!("{jobs} jobs, seed {seed}");
    let here = std::env::current_exe()?;
    let program = here
        .parent()
        .and_then(Path::parent)
        .context("target/debug/examples")?
        .join("stoker");
    let scratch = tempfile::tempdir()?;
    let mut fleet = Fleet::start(&program, scratch.path()).await?;
    let client = fleet.client()?;
    upload(&client).await?;
    let mut references = BTreeMap::new();
    for number in 0..SPECS {
        let job = client.create_job_toml(&spec(number)).await?;
        let job = client.wait_job(job.id).await?;
        references.insert(
            number,
            verdict::weights(&job).context("the undisturbed job failed")?,
        );
    }
    println!("{SPECS} jobs ran undisturbed; now it begins");

    let over = Arc::new(AtomicBool::new(false));
    let submitting = tokio::spawn(submit_all(client.clone(), jobs, seed));
    let mut faults = Faults::new(seed);
    let done = over.clone();
    let submitted = async {
        let submitted = submitting.await;
        done.store(true, Ordering::Relaxed);
        submitted
    };
    let breaking = faults.run(&mut fleet, &over);
    let (submitted, broken) = tokio::join!(submitted, breaking);
    let submitted = submitted??;
    println!("all {} jobs are submitted; {}", submitted.len(), broken?);
    fleet.mend().await?;
    wait_for_ends(&client, &submitted).await?;
    let verdict = verdict::of(&fleet, &client, jobs, &submitted, &references).await?;
    fleet.stop().await?;
    println!("{}", serde_json::to_string(&verdict)?);
    ensure!(verdict.is_clean(), "seed {seed} broke a promise");
    Ok(())
}

fn spec(number: u64) -> String {
    format!(
        "name = \"chaos-{number}\"\ndata = {{ dataset = \"digits@1\", target = \"column_64\" }}\n\
         model = {{ family = \"mlp\", hidden = [32] }}\n\
         train = {{ steps = 300, batch_size = 64, loss = \"cross_entropy\", seed = {number}, \
         checkpoint = {{ every_steps = 50 }} }}\n"
    )
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

/// Submits the jobs one after the other, each under a key of its own, until it is answered; the ids
/// with the number of their spec.
async fn submit_all(client: Client, jobs: u64, seed: u64) -> anyhow::Result<BTreeMap<JobId, u64>> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let mut submitted = BTreeMap::new();
    for index in 0..jobs {
        let number = index % SPECS;
        let key: IdempotencyKey = format!("chaos-{index}").parse()?;
        let text = spec(number);
        let id = loop {
            match client.create_job_under(SpecText::Toml(&text), &key).await {
                Ok(job) => break job.id,
                Err(error) if error.retryable() => sleep(Duration::from_millis(200)).await,
                Err(error) => return Err(error).with_context(|| format!("job {index}")),
            }
        };
        // Some clients never hear the answer and ask again.
        if random.u8(..) < 32
            && let Ok(again) = client.create_job_under(SpecText::Toml(&text), &key).await
        {
            ensure!(again.id == id, "{key} gave {id} and then {}", again.id);
        }
        let before = submitted.insert(id, number);
        ensure!(before.is_none(), "two submits gave {id}");
        if index % 100 == 99 {
            println!("{} submitted", index + 1);
        }
        sleep(Duration::from_secs(1) / RATE).await;
    }
    Ok(submitted)
}

async fn wait_for_ends(client: &Client, jobs: &BTreeMap<JobId, u64>) -> anyhow::Result<()> {
    let began = Instant::now();
    let all = async {
        for id in jobs.keys() {
            loop {
                let job = client.get_job(*id).await;
                if job.is_ok_and(|job| job.state.is_final()) {
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    if timeout(PATIENCE, all).await.is_err() {
        let query = stoker_sdk::JobQuery {
            state: Some(JobState::Queued),
            limit: Some(5),
            ..stoker_sdk::JobQuery::default()
        };
        let queued = client.list_jobs(&query).await;
        println!("after {PATIENCE:?} some jobs have no end, such as {queued:?}");
    }
    println!("quiet after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
