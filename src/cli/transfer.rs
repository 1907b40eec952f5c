//! How far an upload or download is: a bar on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use stoker_sdk::Progress;

use super::Output;

/// Wait between pictures of a spinner.
const TICK: Duration = Duration::from_millis(100);

/// A bar that shows a transfer named `what`; hidden where none can be drawn.
pub(super) fn bar(output: &Output, what: &str) -> ProgressBar {
    if !output.progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(super::output::one_line(what));
    bar
}

/// A sign that something goes on, and for how long, where its length isn't known.
pub(super) fn spinner(output: &Output, what: &str) -> ProgressBar {
    if !output.progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(super::output::one_line(what));
    bar.enable_steady_tick(TICK);
    bar
}

/// Shows a transfer's progress on the bar.
pub(super) fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total_bytes);
    bar.set_position(progress.bytes);
}
