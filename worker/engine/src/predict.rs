//! Predicts with finished weights.

use std::sync::Arc;

use stoker_domain::job::FailureKind;
use stoker_model::{Plan, Target};

use crate::device::{Device, Session};
use crate::error::EngineError;
use crate::feed::{Feed, Pass, Place};
use crate::lengths::Lengths;
use crate::normalise::Statistics;
use crate::table::{Table, Targets};
use crate::tensors::Checkpoint;
use crate::transform::Preprocess;

/// A model with its weights, and the steps that the engine does for it.
pub struct Predictor {
    plan: Arc<Plan>,
    session: Box<dyn Session>,
    feed: Feed,
    scaled: Option<Arc<Statistics>>,
}

impl Predictor {
    /// Loads finished weights of a plan. `preprocess` is what it was trained with.
    ///
    /// # Errors
    /// `user` when the weights are another plan's, or the model predicts tokens that are masked in
    /// training; `data` when they aren't whole; `capacity` when the memory isn't there.
    pub fn new(
        device: &dyn Device,
        plan: Arc<Plan>,
        weights: &[u8],
        preprocess: Vec<Preprocess>,
    ) -> Result<Self, EngineError> {
        if plan.masking.is_some() {
            let message = "this model was trained to find masked tokens, and predicts nothing else";
            return Err(EngineError::new(FailureKind::User, message));
        }
        let saved = Checkpoint::read_weights(&plan, weights)?;
        let mut session = device.open(Arc::clone(&plan), 1)?;
        session.write(0, &mut |buffer| saved.copy(&plan, 0, buffer));
        let empty = rows_of(&plan, vec![0.0; plan.input.width])?;
        let feed = Feed::new(
            Arc::new(empty),
            plan.train.seed,
            (plan.rows, plan.shards),
            preprocess,
            (&[], &plan.ids()),
            Some(&saved.metadata.fitted()),
            None,
        )?;
        Ok(Self {
            scaled: feed.scaled(),
            plan,
            session,
            feed,
        })
    }

    /// What the model predicts.
    #[must_use]
    pub fn target(&self) -> Target {
        self.plan.input.target
    }

    /// The outputs of each of the rows in `features`, `[rows, width]` row-major: scores of classes
    /// (before the softmax), or values, scaled back where the target was scaled. A row of a sequence
    /// that ends early may have fewer.
    ///
    /// # Errors
    /// What a preprocessing step gave; `data` when there are no whole rows.
    pub fn predict(&mut self, features: Vec<f32>) -> Result<Vec<Vec<f32>>, EngineError> {
        let table = Arc::new(rows_of(&self.plan, features)?);
        let order: Vec<u64> = (0..table.rows() as u64).collect();
        let lengths = Lengths::new(&self.plan, &table)?;
        let mut feed = self.feed.of(table, lengths);
        let mut predictions = vec![Vec::new(); order.len()];
        let batches = order.len().div_ceil(self.plan.rows * self.plan.shards);
        for batch in 0..batches as u64 {
            for shard in 0..self.plan.shards {
                let place = Place {
                    pass: Pass::Test,
                    epoch: 0,
                    batch,
                    shard,
                    step: 0,
                };
                let rows = feed.load(&order, place)?;
                if rows.features.is_empty() {
                    continue;
                }
                let (scores, _) = self.session.evaluate_shard(&rows);
                let width = scores.len() / feed.ids().len();
                for (scores, &row) in scores.chunks_exact(width).zip(feed.ids()) {
                    let into = &mut predictions[crate::normalise::index_of(row)];
                    match &self.scaled {
                        None => into.extend_from_slice(scores),
                        Some(scaled) => {
                            let each = width / self.plan.input.target.numbers().max(1);
                            scaled.undo(scores, each, into);
                        }
                    }
                }
            }
        }
        Ok(predictions)
    }
}

/// Rows whose targets aren't known.
fn rows_of(plan: &Plan, features: Vec<f32>) -> Result<Table, EngineError> {
    let width = plan.input.width;
    let rows = features.len() / width.max(1);
    let numbers = rows * plan.input.target.numbers();
    let targets = match plan.input.target {
        Target::Classes(_) | Target::Sequence { .. } => Targets::Classes(vec![0; numbers]),
        Target::Masked { .. } => Targets::Features,
        Target::Values(_) | Target::Quantiles { .. } => Targets::Values {
            values: vec![0.0; numbers],
            width: plan.input.target.numbers(),
        },
    };
    Table::new(features, width, targets)
}
