//! A job's log and events, as they are or as they come.

use std::time::Duration;

use futures::TryStreamExt;
use stoker_domain::job::Event;
use stoker_sdk::view::{EventList, LogLine};

use super::Session;
use super::exit::{Exit, Failure};
use super::job::Tail;
use super::show;

/// Between two looks for new lines.
const LOOK: Duration = Duration::from_millis(500);

/// Shows a job's log; a line of JSON each when programs read it, for a log may be long.
pub(super) async fn logs(tail: &Tail, session: &Session) -> Result<(), Failure> {
    tokio::select! {
        outcome = print_logs(tail, session) => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted(tail)),
    }
}

async fn print_logs(tail: &Tail, session: &Session) -> Result<(), Failure> {
    let mut from = tail.from;
    loop {
        // Asked before the log is read: what a job wrote before it ended is then in the log.
        let ended = !tail.follow || session.client.get_job(tail.id).await?.state.is_final();
        loop {
            let page = session.client.list_logs(tail.id, from, None).await?;
            if page.lines.is_empty() || page.next <= from {
                break;
            }
            from = page.next;
            for line in &page.lines {
                print_line(line, session)?;
            }
        }
        if ended {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn print_line(line: &LogLine, session: &Session) -> Result<(), Failure> {
    if session.output.json() {
        return session.output.record(line);
    }
    session.output.line(&show::log_line(line));
    Ok(())
}

/// Shows a job's events.
pub(super) async fn events(tail: &Tail, session: &Session) -> Result<(), Failure> {
    if !tail.follow {
        return list_events(tail, session).await;
    }
    let follow = async {
        let mut events = session.client.events(tail.id, tail.from);
        while let Some(event) = events.try_next().await? {
            match session.output.json() {
                true => session.output.record(&event)?,
                false => session.output.line(&show::event(&event)),
            }
        }
        Ok(())
    };
    tokio::select! {
        outcome = follow => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted(tail)),
    }
}

async fn list_events(tail: &Tail, session: &Session) -> Result<(), Failure> {
    let mut events: Vec<Event> = Vec::new();
    let mut next = tail.from;
    loop {
        let page = session.client.list_events(tail.id, next, None).await?;
        let moved = page.next > next && !page.events.is_empty();
        next = next.max(page.next);
        events.extend(page.events);
        if !moved {
            break;
        }
    }
    if session.output.json() {
        return session.output.document(&EventList { events, next });
    }
    for event in &events {
        session.output.line(&show::event(event));
    }
    Ok(())
}

fn interrupted(tail: &Tail) -> Failure {
    let told = format!("stopped watching {}; the job goes on", tail.id);
    Failure::new(Exit::Interrupted, told)
}
