//! `stoker job replay` and `stoker job diff`.

use serde_json::Value;
use stoker_domain::JobId;
use stoker_domain::diff::{Differing, JobDiff};
use stoker_sdk::IdempotencyKey;

use super::exit::{Exit, Failure};
use super::table::Table;
use super::{Session, show, wait};

/// Runs a job again, waits for it and compares; fails when the weights aren't the same.
pub(super) async fn run(id: JobId, no_wait: bool, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let replay = client.replay_job(id, &IdempotencyKey::generate()).await?;
    if no_wait {
        match output.json() {
            true => output.document(&replay)?,
            false => output.line(&show::job(&replay)),
        }
        return Ok(());
    }
    output.note(&format!("{} runs {id} again", replay.id));
    wait::until_ended(replay.id, session).await?;
    diff(replay.id, None, session).await
}

/// Compares two jobs; fails when both have weights that aren't the same.
pub(super) async fn diff(a: JobId, b: Option<JobId>, session: &Session) -> Result<(), Failure> {
    let diff = session.client.diff_jobs(a, b).await?;
    match session.output.json() {
        true => session.output.document(&diff)?,
        false => session.output.line(&text(&diff)),
    }
    match diff.equal {
        Some(false) => {
            let told = format!("the weights of {} and {} differ", diff.a, diff.b);
            Err(Failure::new(Exit::JobFailed, told))
        }
        _ => Ok(()),
    }
}

fn text(diff: &JobDiff) -> String {
    let mut summary = Table::of_fields();
    let weights = match diff.equal {
        Some(true) => "equal to the bit",
        Some(false) => "different",
        None => "not there yet: a job hasn't succeeded",
    };
    summary.field("weights", weights);
    if let Some(interval) = &diff.diverged {
        summary.field(
            "came apart",
            format!(
                "after step {}, up to step {}",
                interval.equal_after, interval.different_after
            ),
        );
    }
    let kinds = [
        ("spec", diff.spec.as_slice()),
        ("data", diff.data.as_slice()),
        ("plugins", &diff.plugins),
        ("tokenizers", &diff.tokenizers),
        ("build", diff.build.as_slice()),
        ("device class", diff.device_class.as_slice()),
        ("metrics", &diff.metrics),
    ];
    let same: Vec<&str> = kinds
        .iter()
        .filter(|(_, all)| all.is_empty())
        .map(|(k, _)| *k)
        .collect();
    if !same.is_empty() {
        summary.field("the same", same.join(", "));
    }
    let mut text = summary.render();
    if kinds.iter().any(|(_, all)| !all.is_empty()) {
        let (a, b) = (diff.a.to_string(), diff.b.to_string());
        let mut table = Table::new(["DIFFERS", &a, &b]);
        for (kind, all) in kinds {
            for Differing { name, a, b } in all {
                let name = match kind == name.as_str() {
                    true => name.clone(),
                    false => format!("{kind}: {name}"),
                };
                table.row([name, cell(a), cell(b)]);
            }
        }
        text.push_str("\n\n");
        text.push_str(&table.render());
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.len() == 64 => show::short(text),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
