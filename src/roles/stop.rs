//! SIGINT and SIGTERM ask a role to end in good order.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true when the process is asked to stop.
pub(crate) fn until_asked() -> anyhow::Result<watch::Receiver<bool>> {
    let (asked, stop) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.send_replace(true);
        // The sender lives as long as somebody waits.
        asked.closed().await;
    });
    Ok(stop)
}
