//! Puts into words where a number stopped being finite.

use stoker_domain::job::FailureKind;

use crate::device::Bad;
use crate::error::EngineError;

/// The error for what a session found in a shard whose rows are `ids`.
pub(crate) fn explain(bad: Bad, ids: &[u64]) -> EngineError {
    let rows: Vec<u64> = bad
        .rows
        .iter()
        .filter_map(|&row| ids.get(row))
        .copied()
        .collect();
    let (kind, message) = if bad.layer == "input" {
        let message = "a feature isn't a finite number after preprocessing".to_owned();
        (FailureKind::Data, message)
    } else {
        let what = if bad.backward { "gradient" } else { "output" };
        let message = format!(
            "a number stopped being finite: the {what} of `{}`",
            bad.layer
        );
        (FailureKind::Numeric, message)
    };
    let rows = if rows.is_empty() {
        ids
    } else {
        rows.as_slice()
    };
    EngineError {
        layer: Some(bad.layer),
        ..EngineError::new(kind, message).about(rows)
    }
}
