//! What is done with jobs: with those that are named, or with all that a filter finds.

use clap::Args;
use stoker_domain::{JobId, JobState};
use stoker_sdk::view::{BatchAction, BatchRequest, BatchResult};

use super::exit::Failure;
use super::{Session, argument};

/// One or more jobs.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The jobs.
    #[arg(required_unless_present_any = ["state", "project", "name", "tag"], conflicts_with_all = ["state", "project", "name", "tag"])]
    ids: Vec<JobId>,
    /// All jobs in this state.
    #[arg(long, value_parser = argument::one_of(&JobState::ALL, JobState::as_str))]
    state: Option<JobState>,
    /// All jobs of this project.
    #[arg(long)]
    project: Option<String>,
    /// All jobs with this name.
    #[arg(long)]
    name: Option<String>,
    /// All jobs with this tag; may be given again.
    #[arg(long, value_parser = |text: &str| argument::pair(text, ':'), value_name = "KEY:VALUE")]
    tag: Vec<(String, String)>,
    /// Only say which jobs it would be.
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
}

/// Does it, and tells of each job.
pub(super) async fn run(
    action: BatchAction,
    which: Which,
    session: &Session,
) -> Result<(), Failure> {
    if which.ids.is_empty() {
        return with_all(action, which, session).await;
    }
    let Session { client, output, .. } = session;
    let mut failed = First::default();
    for id in which.ids {
        let outcome = match action {
            BatchAction::Cancel => client.cancel_job(id).await.map(Some),
            BatchAction::CancelGently => client.cancel_job_gently(id).await.map(Some),
            BatchAction::Pause => client.pause_job(id).await.map(Some),
            BatchAction::Resume => client.resume_job(id).await.map(Some),
            BatchAction::Delete => client.delete_job(id).await.map(|()| None),
        };
        match outcome {
            Ok(Some(view)) if output.json() => output.record(&view)?,
            Ok(Some(view)) => output.line(&format!("{id} {}", view.state.as_str())),
            Ok(None) if output.json() => output.record(&serde_json::json!({ "deleted": id }))?,
            Ok(None) => output.line(&format!("{id} deleted")),
            Err(error) => failed.add(id, error.into(), session),
        }
    }
    failed.into_result()
}

async fn with_all(action: BatchAction, which: Which, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let mut request = BatchRequest {
        action,
        state: which.state,
        project: which.project,
        name: which.name,
        tags: which.tag.into_iter().collect(),
        after: None,
        dry_run: which.dry_run,
    };
    let mut all = BatchResult {
        done: Vec::new(),
        left: Vec::new(),
        next: None,
    };
    loop {
        let page = client.batch_jobs(&request).await?;
        if !output.json() {
            page.done.iter().for_each(|id| output.line(&id.to_string()));
        }
        all.done.extend(page.done);
        all.left.extend(page.left);
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    if output.json() {
        return output.document(&all);
    }
    let told = match action {
        BatchAction::Cancel | BatchAction::CancelGently => "cancelled",
        BatchAction::Pause => "asked to pause",
        BatchAction::Resume => "queued again",
        BatchAction::Delete => "deleted",
    };
    let would = if which.dry_run { "would be " } else { "" };
    let (done, left) = (all.done.len(), all.left.len());
    output.note(&format!(
        "{done} jobs {would}{told}; {left} are in a state that doesn't allow it"
    ));
    Ok(())
}

/// The first failure of several: the others are told when they happen.
#[derive(Default)]
struct First(Option<Failure>);

impl First {
    fn add(&mut self, id: JobId, mut failure: Failure, session: &Session) {
        failure.message = format!("{id}: {}", failure.message);
        match self.0 {
            None => self.0 = Some(failure),
            Some(_) => session.output.failure(&failure),
        }
    }

    fn into_result(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
