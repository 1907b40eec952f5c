//! The settings of housekeeping.

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::time::Millis;

/// The settings of housekeeping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two sweeps.
    pub every: Millis,
    /// Time between two sweeps that look for objects that nothing names.
    pub collect_every: Millis,
    /// How long after its end a job's metric points are moved to files.
    pub compact_after: Millis,
    /// How old an object that nothing names must be to be removed: longer than anything takes from
    /// its first object to the record that names it.
    pub garbage_after: Millis,
    /// How long things are kept.
    pub keep: Keep,
}

/// How long things are kept; for ever where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Ended jobs, with all that they left, from their end on.
    pub jobs: Option<Millis>,
    /// Audit entries.
    pub audit: Option<Millis>,
    /// What attempts used.
    pub usage: Option<Millis>,
}

/// The least that anything is kept: a slip of the pen in a setting shouldn't empty a platform.
const KEEP_MIN: Millis = Millis(3_600_000);

impl Default for Config {
    fn default() -> Self {
        Self {
            every: Millis(60_000),
            collect_every: Millis(3_600_000),
            compact_after: Millis(60_000),
            garbage_after: Millis(24 * 3_600_000),
            keep: Keep::default(),
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut at_least = |field: &str, value: Millis, least: Millis| {
            if value < least {
                let message = format!("{value} given, at least {least} needed");
                errors.push(FieldError::new(field, message));
            }
        };
        at_least("every", self.every, Millis(100));
        at_least("collect_every", self.collect_every, self.every);
        let Keep { jobs, audit, usage } = self.keep;
        for (field, kept) in [
            ("keep.jobs", jobs),
            ("keep.audit", audit),
            ("keep.usage", usage),
            ("garbage_after", Some(self.garbage_after)),
        ] {
            at_least(field, kept.unwrap_or(KEEP_MIN), KEEP_MIN);
        }
        errors
    }
}
