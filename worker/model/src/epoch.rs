//! Steps that follow from the rows: one rule for quote and run.

use stoker_domain::spec::TrainSpec;

/// Optimiser steps per epoch, and in all, with `rows` training rows. `None` when they make no step.
#[must_use]
pub fn count_steps(train: &TrainSpec, rows: u64) -> Option<(u64, u64)> {
    let batch = train.step_rows().max(1);
    let per_epoch = match train.drop_last {
        true => rows / batch,
        false => rows.div_ceil(batch),
    };
    let epochs = u64::from(train.epochs.unwrap_or(1));
    let steps = train.steps.unwrap_or(epochs.saturating_mul(per_epoch));
    (per_epoch > 0).then_some((per_epoch, steps))
}
