//! `stoker audit` and `stoker usage`: who changed what, and what it used.

use clap::Args;
use stoker_domain::Timestamp;
use stoker_sdk::view::UsageBy;
use stoker_sdk::{AuditQuery, UsageQuery};

use super::exit::Failure;
use super::show::number;
use super::table::{Table, duration, time};
use super::{Session, argument};

/// Which changes to list.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// At this time or later, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// By this subject.
    #[arg(long, value_name = "SUBJECT")]
    actor: Option<String>,
    /// By this operation, as in `cancel_job`.
    #[arg(long, value_name = "OPERATION")]
    action: Option<String>,
    /// Of this thing, as in `pool default`.
    #[arg(long, value_name = "THING")]
    target: Option<String>,
    /// Most changes to list.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    limit: usize,
}

/// Which use to sum.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// What to sum by.
    #[arg(long, default_value = "project", value_parser = argument::one_of(&UsageBy::ALL, UsageBy::as_str))]
    by: UsageBy,
    /// Of attempts that ended at this time or later, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Of attempts that ended before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
}

/// Lists changes, oldest first.
pub(super) async fn list(which: Audit, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let mut query = AuditQuery {
        from: which.from,
        actor: which.actor,
        action: which.action,
        target: which.target,
        after: None,
        limit: None,
    };
    let mut entries = Vec::new();
    loop {
        let page = client.list_audit(&query).await?;
        entries.extend(page.entries);
        query.after = page.next;
        if query.after.is_none() || entries.len() >= which.limit {
            break;
        }
    }
    let more = query.after.is_some() || entries.len() > which.limit;
    entries.truncate(which.limit);
    if output.json() {
        return entries.iter().try_for_each(|entry| output.record(entry));
    }
    let mut table = Table::new(["AT", "WHO", "ROLE", "ACTION", "WHAT", "BEFORE", "AFTER"]);
    for entry in entries {
        table.row([
            time(entry.at),
            entry.actor.subject,
            entry.actor.role.as_str().to_owned(),
            entry.action,
            entry.target,
            short(&entry.before),
            short(&entry.after),
        ]);
    }
    output.line(&table.render());
    if more {
        output.note("there are more: --from TIME, --limit N, or --json for whole entries");
    }
    Ok(())
}

/// The begin of a value; `-` for nothing.
fn short(value: &serde_json::Value) -> String {
    const SHOWN_MAX: usize = 60;
    if value.is_null() {
        return "-".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Sums what attempts used.
pub(super) async fn usage(which: Usage, session: &Session) -> Result<(), Failure> {
    let Session { client, output, .. } = session;
    let query = UsageQuery {
        from: which.from,
        to: which.to,
    };
    let sums = client.sum_usage(which.by, &query).await?;
    if output.json() {
        return output.document(&sums);
    }
    let name = which.by.as_str().to_uppercase();
    let header = [&name, "ATTEMPTS", "RUN", "DEVICE HOURS", "COST"].map(str::to_owned);
    let mut table = Table::of_rows(header.to_vec());
    for group in sums.groups {
        table.row([
            group.name,
            group.attempts.to_string(),
            duration(group.used.run_ms),
            number(group.used.device_ms as f64 / 3_600_000.0),
            number(group.used.cost),
        ]);
    }
    output.line(&table.render());
    Ok(())
}
