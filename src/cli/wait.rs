//! Waiting for a job: shows how far it is, and ends as it ended.

use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use stoker_domain::{JobId, JobState};
use stoker_sdk::view::JobView;

use super::exit::{Exit, Failure};
use super::output::one_line;
use super::{Output, Session, show, table};

/// Between two looks at how far the job is.
const LOOK: Duration = Duration::from_millis(500);
/// Share of the steps after which a line is written where no bar can be drawn: 1 / this.
const LINES: u64 = 10;

/// Waits for a job, shows it, and fails as it failed.
pub(super) async fn run(
    id: JobId,
    timeout: Option<Duration>,
    session: &Session,
) -> Result<(), Failure> {
    let mut shown = Shown::new(&session.output);
    let outcome = watch(id, timeout, session, &mut shown).await;
    shown.clear();
    let view = outcome?;
    match session.output.json() {
        true => session.output.document(&view)?,
        false => session.output.line(&show::job(&view)),
    }
    ended(&view)
}

/// Waits for a job, which must end well.
pub(super) async fn until_ended(id: JobId, session: &Session) -> Result<(), Failure> {
    let mut shown = Shown::new(&session.output);
    let outcome = watch(id, None, session, &mut shown).await;
    shown.clear();
    ended(&outcome?)
}

async fn watch(
    id: JobId,
    timeout: Option<Duration>,
    session: &Session,
    shown: &mut Shown<'_>,
) -> Result<JobView, Failure> {
    let mut views = session.client.watch_job(id, LOOK);
    let mut last = None;
    let mut watching = std::pin::pin!(async {
        while let Some(view) = views.next().await {
            let view = view?;
            shown.show(&view);
            last = Some(view);
        }
        let none = || Failure::new(Exit::Internal, "the job was never seen");
        last.ok_or_else(none)
    });
    let too_late = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = &mut watching => outcome.map_err(|failure| still_going(failure, id)),
        () = too_late => {
            let told = format!("{id} hasn't ended in the time given");
            Err(still_going(Failure::new(Exit::Unavailable, told), id))
        }
        _ = tokio::signal::ctrl_c() => {
            let told = format!("stopped watching {id}");
            Err(still_going(Failure::new(Exit::Interrupted, told), id))
        }
    }
}

/// Adds what to do next to a failure that says nothing about the job.
fn still_going(mut failure: Failure, id: JobId) -> Failure {
    if matches!(failure.exit, Exit::Unavailable | Exit::Interrupted) {
        failure.message = format!(
            "{}; the job goes on without being watched. \
             Watch it again: stoker job wait {id}. End it: stoker job cancel {id}",
            failure.message
        );
    }
    failure
}

/// How a job that ended makes its command end.
fn ended(view: &JobView) -> Result<(), Failure> {
    match view.state {
        JobState::Failed => {
            let why = view
                .failure
                .as_ref()
                .map_or_else(String::new, show::failure);
            Err(Failure::new(
                Exit::JobFailed,
                format!("{} failed: {why}", view.id),
            ))
        }
        JobState::Cancelled => Err(Failure::new(
            Exit::Cancelled,
            format!("{} was cancelled", view.id),
        )),
        _ => Ok(()),
    }
}

/// What the one who waits sees: a bar on a terminal, else a line now and then.
struct Shown<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    told: Option<(JobState, u64)>,
}

impl<'a> Shown<'a> {
    fn new(output: &'a Output) -> Self {
        Self {
            output,
            bar: output.progress().then(bar),
            told: None,
        }
    }

    fn show(&mut self, view: &JobView) {
        let text = progress(view);
        if let Some(bar) = &self.bar {
            let (step, steps) = view.progress.as_ref().map_or((0, 0), |p| (p.step, p.steps));
            bar.set_length(steps.max(1));
            bar.set_position(step);
            bar.set_message(text);
            return;
        }
        let part = view.progress.as_ref().map_or(0, |p| part(p.step, p.steps));
        if self.told != Some((view.state, part)) {
            self.told = Some((view.state, part));
            self.output.note(&format!("{} {text}", view.id));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn part(step: u64, steps: u64) -> u64 {
    step.saturating_mul(LINES).checked_div(steps).unwrap_or(0)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// How far a job is, in one line.
fn progress(view: &JobView) -> String {
    let state = view.state.as_str();
    let attempt = view.attempt.as_ref().filter(|attempt| attempt.number > 1);
    let attempt = attempt.map_or_else(String::new, |a| format!(" (attempt {})", a.number));
    // A requeued job's reason is worth more than its old progress.
    if matches!(view.state, JobState::Queued | JobState::Dispatched) {
        let why = view
            .failure
            .as_ref()
            .map(|f| format!(": {}", show::failure(f)));
        return one_line(&format!("{state}{attempt}{}", why.unwrap_or_default()));
    }
    let Some(progress) = view.progress.as_ref().filter(|p| p.steps > 0) else {
        return format!("{state}{attempt}");
    };
    let loss = progress
        .loss
        .map_or_else(String::new, |loss| format!(", loss {}", show::number(loss)));
    let left = progress.eta_ms.filter(|_| !view.state.is_final());
    let left = left.map_or_else(String::new, |ms| format!(", {} left", table::duration(ms)));
    format!(
        "{state}{attempt} step {}/{}{loss}{left}",
        progress.step, progress.steps
    )
}

#[cfg(test)]
mod tests {
    use stoker_domain::job::{Failure as JobFailure, FailureKind};
    use stoker_domain::worker::Progress;

    use super::*;
    use crate::cli::tests::job;

    #[test]
    fn a_job_ends_its_command_as_it_ended() {
        assert_eq!(ended(&job(JobState::Succeeded)), Ok(()));
        assert_eq!(
            ended(&job(JobState::Cancelled)).unwrap_err().exit,
            Exit::Cancelled
        );
        let mut failed = job(JobState::Failed);
        failed.failure = Some(JobFailure {
            step: Some(7),
            layer: Some("hidden0".to_owned()),
            samples: vec![3, 9],
            ..JobFailure::new(FailureKind::Numeric, "the loss is NaN")
        });
        let failure = ended(&failed).unwrap_err();
        assert_eq!(failure.exit, Exit::JobFailed);
        let told = "failed: the loss is NaN (numeric, step 7, layer hidden0, rows 3, 9)";
        assert!(failure.message.ends_with(told), "{}", failure.message);
    }

    #[test]
    fn progress_is_one_line() {
        let mut view = job(JobState::Running);
        view.progress = Some(Progress {
            step: 120,
            steps: 500,
            loss: Some(0.25),
            eta_ms: Some(61_000),
            ..Progress::default()
        });
        assert_eq!(
            progress(&view),
            "running step 120/500, loss 0.25, 1 min 1 s left"
        );
        view.state = JobState::Queued;
        view.failure = Some(JobFailure::new(FailureKind::Platform, "the worker died"));
        assert_eq!(progress(&view), "queued: the worker died (platform)");
    }

    #[test]
    fn lost_contact_is_not_the_jobs_failure() {
        let id = job(JobState::Running).id;
        let failure = still_going(Failure::new(Exit::Unavailable, "no answer"), id);
        assert!(
            failure.message.contains("the job goes on"),
            "{}",
            failure.message
        );
        assert!(failure.message.contains(&format!("stoker job wait {id}")));
        let gone = Failure::new(Exit::NotFound, "gone");
        assert_eq!(still_going(gone.clone(), id), gone);
    }

    #[test]
    fn lines_come_at_tenths() {
        assert_eq!(
            [0, 9, 10, 99, 100].map(|step| part(step, 100)),
            [0, 0, 1, 9, 10]
        );
        assert_eq!(part(5, 0), 0);
    }
}
