//! A short run of `make simulate`.

mod world;

#[test]
fn a_pool_with_every_fault_keeps_its_promises() {
    let report = world::simulate(20_000, 1);
    assert!(
        report.violations.is_empty(),
        "seed 1: {:#?}",
        report.violations
    );
    assert!(report.jobs > 1_000 && report.gangs > 50 && report.preemptions > 0);
    assert!(report.forecasts >= report.forecasts_held + report.early);
    assert!(report.events > 20_000 && report.dispatches > 1_000 && report.max_wait_ms > 0);
}
