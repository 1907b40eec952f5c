//! `stoker job`: the verbs, and those that are one call and one table.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use stoker_domain::{JobId, JobState};
use stoker_sdk::view::{BatchAction, JobList, JobView};
use stoker_sdk::{JobQuery, MetricQuery};

use super::act::{self, Which};
use super::exit::Failure;
use super::{Session, argument, create, download, explain, follow, replay, show, wait};

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Create a job from a spec.
    Create(create::Arguments),
    /// Show what a job would take, without creating it.
    Quote(create::Source),
    /// Show a job.
    Get {
        /// The job.
        id: JobId,
    },
    /// Show why a job is where it is, when it will start, and what if it were different.
    Explain(explain::Explain),
    /// List jobs, newest first.
    List(List),
    /// Wait until a job has ended.
    Wait {
        /// The job.
        id: JobId,
        /// Give up after this long, as in 30s or 2h; the job goes on.
        #[arg(long, value_parser = argument::duration, value_name = "DURATION")]
        timeout: Option<Duration>,
    },
    /// End jobs: those named, or all that a filter finds.
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Running jobs save a checkpoint first.
        #[arg(long)]
        checkpoint: bool,
    },
    /// Have jobs save a checkpoint and let go of their workers; queued ones wait.
    Pause(Which),
    /// Queue paused jobs again.
    Resume(Which),
    /// Remove jobs that have ended, with all they produced.
    Delete(Which),
    /// Show what a job wrote, also after it has ended.
    Logs(Tail),
    /// Show what was measured: a summary, or one metric's points.
    Metrics {
        /// The job.
        id: JobId,
        /// One metric, such as train.loss.
        #[arg(long, value_name = "NAME")]
        metric: Option<String>,
        /// From this optimiser step on.
        #[arg(long, default_value_t = 0, value_name = "STEP")]
        from_step: u64,
        /// Up to this optimiser step.
        #[arg(long, value_name = "STEP")]
        to_step: Option<u64>,
        /// Most points.
        #[arg(long, value_name = "N", conflicts_with = "sample")]
        limit: Option<u32>,
        /// Thin the curve to so many points: the first, the last, and what stands out.
        #[arg(long, value_name = "N")]
        sample: Option<u32>,
    },
    /// Show what happened to a job.
    Events(Tail),
    /// Run a finished job again, on the same data and plugins, and compare the weights.
    Replay {
        /// The job.
        id: JobId,
        /// Don't wait for it to end: `stoker job diff` compares later.
        #[arg(long)]
        no_wait: bool,
    },
    /// Show what differs between two jobs.
    Diff {
        /// The job; a replay is compared with what it replays.
        a: JobId,
        /// The other one.
        b: Option<JobId>,
    },
    /// List what a job produced.
    Artifacts {
        /// The job.
        id: JobId,
    },
    /// Fetch what a job produced, and check it.
    Download {
        /// The job.
        id: JobId,
        /// Names of artifacts; all when none is given.
        names: Vec<String>,
        /// Where to put them; made when it isn't there.
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
        /// Replace files that are there.
        #[arg(long)]
        force: bool,
    },
}

/// A stream of a job's.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The job.
    pub(super) id: JobId,
    /// Go on until the job has ended.
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Begin here: the position of an event, or the number of a line.
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    pub(super) from: u64,
}

/// Which jobs to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// In this state.
    #[arg(long, value_parser = argument::one_of(&JobState::ALL, JobState::as_str))]
    state: Option<JobState>,
    /// In this project.
    #[arg(long)]
    project: Option<String>,
    /// With this name.
    #[arg(long)]
    name: Option<String>,
    /// With this tag; may be given again.
    #[arg(long, value_parser = |text: &str| argument::pair(text, ':'), value_name = "KEY:VALUE")]
    tag: Vec<(String, String)>,
    /// Older than this job.
    #[arg(long, value_name = "ID")]
    after: Option<JobId>,
    /// Most jobs to list.
    #[arg(long, default_value_t = 50, value_name = "N", conflicts_with = "all")]
    limit: usize,
    /// List all of them.
    #[arg(long)]
    all: bool,
}

/// Runs a verb.
pub(super) async fn run(command: JobCommand, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    match command {
        JobCommand::Create(arguments) => create::run(&arguments, session).await,
        JobCommand::Quote(source) => {
            let quote = client.quote_job(create::spec_of(&source.text()?)).await?;
            match output.json() {
                true => output.document(&quote)?,
                false => output.line(&show::quote(&quote)),
            }
            Ok(())
        }
        JobCommand::Get { id } => {
            let view = client.get_job(id).await?;
            match output.json() {
                true => output.document(&view)?,
                false => output.line(&show::job(&view)),
            }
            Ok(())
        }
        JobCommand::Explain(which) => explain::run(which, session).await,
        JobCommand::List(which) => list(which, session).await,
        JobCommand::Wait { id, timeout } => wait::run(id, timeout, session).await,
        JobCommand::Cancel { which, checkpoint } => {
            let action = match checkpoint {
                true => BatchAction::CancelGently,
                false => BatchAction::Cancel,
            };
            act::run(action, which, session).await
        }
        JobCommand::Pause(which) => act::run(BatchAction::Pause, which, session).await,
        JobCommand::Resume(which) => act::run(BatchAction::Resume, which, session).await,
        JobCommand::Delete(which) => act::run(BatchAction::Delete, which, session).await,
        JobCommand::Logs(tail) => follow::logs(&tail, session).await,
        JobCommand::Events(tail) => follow::events(&tail, session).await,
        JobCommand::Metrics {
            id,
            metric,
            from_step,
            to_step,
            limit,
            sample,
        } => {
            let query = MetricQuery {
                metric,
                from_step,
                to_step,
                limit,
                sample,
            };
            metrics(id, query, session).await
        }
        JobCommand::Replay { id, no_wait } => replay::run(id, no_wait, session).await,
        JobCommand::Diff { a, b } => replay::diff(a, b, session).await,
        JobCommand::Artifacts { id } => {
            let artifacts = client.list_artifacts(id).await?;
            match output.json() {
                true => output.document(&artifacts)?,
                false => output.line(&show::artifacts(&artifacts)),
            }
            Ok(())
        }
        JobCommand::Download {
            id,
            names,
            out,
            force,
        } => download::run(id, &names, &out, force, session).await,
    }
}

async fn list(which: List, session: &Session) -> Result<(), Failure> {
    let query = JobQuery {
        state: which.state,
        project: which.project,
        name: which.name,
        tags: which.tag,
        after: which.after,
        limit: None,
    };
    let limit = if which.all { usize::MAX } else { which.limit };
    // One more than asked for tells whether there are more.
    let found = session.client.jobs(query).take(limit.saturating_add(1));
    let mut jobs: Vec<JobView> = found.try_collect().await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().map(|job| job.id).filter(|_| more);
    if session.output.json() {
        return session.output.document(&JobList { jobs, next });
    }
    session.output.line(&show::jobs(&jobs));
    if let Some(next) = next {
        session.output.note(&format!(
            "there are more: --after {next}, --limit N or --all"
        ));
    }
    Ok(())
}

/// Points of a metric from which its summary is made: the last, the least and the greatest are
/// among them.
const SUMMARY_POINTS: u32 = 4;

async fn metrics(id: JobId, mut query: MetricQuery, session: &Session) -> Result<(), Failure> {
    let summary = !session.output.json() && query.metric.is_none();
    if summary && query.limit.is_none() {
        query.sample.get_or_insert(SUMMARY_POINTS);
    }
    let list = session.client.list_metrics(id, &query).await?;
    match (session.output.json(), query.metric) {
        (true, _) => session.output.document(&list)?,
        (false, Some(_)) => session.output.line(&show::points(&list.points)),
        (false, None) => session.output.line(&show::metrics(&list)),
    }
    Ok(())
}
