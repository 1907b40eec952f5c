//! What is compared: every family and block, and each setting of the training once where it isn't
//! the default. Sizes are small and odd, a batch is prime, and an epoch's last batch isn't full.

mod models;
mod training;

use serde_json::{Value, json};
use stoker_model::Target;

use crate::task::{Features, Task};

const BATCH: usize = 7;
/// 6 rows of these are held out, and an epoch's last batch has 3.
const ROWS: usize = 30;

impl Task {
    fn new(
        name: &'static str,
        model: &'static str,
        input: &'static [usize],
        target: Target,
    ) -> Self {
        Self {
            name,
            model,
            input,
            features: Features::Numbers,
            target,
            rows: ROWS,
            test: 0.2,
            train: json!({
                "steps": 20, "batch_size": BATCH, "loss": "cross_entropy", "seed": 5,
                "optimizer": {"name": "adamw", "learning_rate": 0.01},
            }),
        }
    }

    fn tokens(self, count: usize) -> Self {
        Self {
            features: Features::Tokens(count),
            ..self
        }
    }

    fn loss(mut self, loss: Value) -> Self {
        self.train["loss"] = loss;
        self
    }

    /// Sets or adds a field of `train`.
    fn with(mut self, field: &str, value: Value) -> Self {
        self.train[field] = value;
        self
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Task> {
    [models::models(), training::training()].concat()
}

/// A class at each of a row's positions.
const fn sequence(classes: usize, positions: usize) -> Target {
    Target::Sequence { classes, positions }
}
