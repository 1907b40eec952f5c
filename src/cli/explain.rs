//! `stoker job explain`: why a job is where it is.

use clap::Args;
use stoker_domain::explain::Explanation;
use stoker_domain::spec::Priority;
use stoker_domain::{JobId, PoolName};
use stoker_sdk::ExplainQuery;
use stoker_sdk::view::JobExplanation;

use super::exit::Failure;
use super::table::{Table, duration};
use super::{Session, argument};

const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

/// Which job, and what if.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The job.
    id: JobId,
    /// What if it had this priority.
    #[arg(long, value_parser = argument::one_of(&PRIORITIES, Priority::as_str))]
    priority: Option<Priority>,
    /// What if it needed so many devices.
    #[arg(long, value_name = "N")]
    devices: Option<u32>,
    /// What if it were in this pool.
    #[arg(long)]
    pool: Option<PoolName>,
}

/// Tells.
pub(super) async fn run(explain: Explain, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let query = ExplainQuery {
        priority: explain.priority,
        devices: explain.devices,
        pool: explain.pool,
    };
    let told = client.explain_job(explain.id, &query).await?;
    match output.json() {
        true => output.document(&told)?,
        false => output.line(&show(&told)),
    }
    Ok(())
}

fn show(told: &JobExplanation) -> String {
    let mut text = format!("{}: {}", told.state.as_str(), told.sentence);
    if let Some(queue) = &told.queue {
        text = format!("{text}\n{}", place(queue));
    }
    if let Some(eta_ms) = told.progress.as_ref().and_then(|progress| progress.eta_ms) {
        text = format!("{text}\n{} left at this speed", duration(eta_ms));
    }
    if let Some(what_if) = &told.what_if {
        text = format!("{text}\n\nthen: {}\n{}", what_if.rule, place(what_if));
    }
    text
}

fn place(queue: &Explanation) -> String {
    let mut fields = Table::of_fields();
    if let Some(position) = queue.position {
        fields.field("place in the queue", position.to_string());
    }
    if let Some(ahead) = queue.ahead {
        let told = format!(
            "{} of a higher class, {} older ones of yours, {} of others",
            ahead.higher_class, ahead.own, ahead.other_tenants
        );
        fields.field("jobs ahead", told);
    }
    let start = match queue.start {
        Some(start) if start.latest_ms == 0 => "now".to_owned(),
        Some(start) => format!(
            "in {} to {}, in eight of ten cases",
            duration(start.earliest_ms),
            duration(start.latest_ms)
        ),
        None => "not known".to_owned(),
    };
    fields.field("starts", start);
    fields.render()
}
