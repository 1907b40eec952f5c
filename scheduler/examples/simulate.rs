//! Seeded events through the scheduler's decisions, with every fault: `simulate [events] [seed]`.
//! The last line is the result; the exit code is 0 when every promise was kept.
#![expect(clippy::print_stdout, reason = "printing the result is what it is for")]

use std::process::ExitCode;

#[path = "../tests/world/mod.rs"]
mod world;

fn main() -> ExitCode {
    let argument = |place: usize, default: u64| {
        let given = std::env::args().nth(place);
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (events, seed) = (argument(1, 1_000_000), argument(2, 1));
    let report = world::simulate(events, seed);
    for violation in &report.violations {
        println!("violation: {violation}");
    }
    let coverage = report.forecasts_held as f64 / (report.forecasts as f64).max(1.0);
    println!(
        "{} starts, {} of them on several workers; {} forecasts, {} of which named a time after the start",
        report.dispatches, report.gangs, report.forecasts, report.early
    );
    println!(
        "{{\"events\":{},\"jobs\":{},\"violations\":{},\"eta_coverage\":{coverage:.3},\"max_wait_s\":{},\
         \"preemptions_per_job\":{:.3},\"seed\":{seed}}}",
        report.events,
        report.jobs,
        report.violations.len(),
        report.max_wait_ms / 1_000,
        report.preemptions as f64 / (report.jobs as f64).max(1.0),
    );
    let is_calibrated = report.forecasts < 200 || (0.75..=0.9).contains(&coverage);
    match report.violations.is_empty() && is_calibrated {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
