//! Measures the held-out rows.

use stoker_domain::job::FailureKind;
use stoker_model::Plan;

use crate::device::{Bad, LossSum, Session};
use crate::error::EngineError;
use crate::explain::explain;
use crate::feed::{Feed, Pass, Place};
use crate::gang::Gang;
use crate::lengths::There;
use crate::metric::{Metric, Sources};
use crate::table::TargetRows;

/// The sums over all batches of a virtual shard, or of a subtree of them.
struct Part {
    metrics: Vec<Box<dyn Metric>>,
    loss: LossSum,
}

impl Part {
    /// Takes in its right neighbour.
    fn merge(&mut self, loss: LossSum, states: &[Vec<u8>]) -> Result<(), EngineError> {
        self.loss += loss;
        let mut metrics = self.metrics.iter_mut().zip(states);
        metrics.try_for_each(|(metric, state)| metric.merge(state))
    }

    fn save(&mut self) -> Result<(LossSum, Vec<Vec<u8>>), EngineError> {
        let states = self.metrics.iter_mut().map(|metric| metric.save());
        Ok((self.loss, states.collect::<Result<_, _>>()?))
    }
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Measured {
    /// `test.loss` and `test.<metric>`, but for those that are undefined.
    pub(crate) values: Vec<(String, f64)>,
    /// The names of these.
    pub(crate) undefined: Vec<String>,
    /// The metrics over all rows, on the first rank.
    pub(crate) metrics: Vec<Box<dyn Metric>>,
}

/// What a rank measures with.
pub(crate) struct Evaluation<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) session: &'a mut dyn Session,
    pub(crate) feed: &'a mut Feed,
    pub(crate) sources: &'a Sources,
    pub(crate) gang: &'a mut Gang,
    /// The rows, and the steps made.
    pub(crate) order: &'a [u64],
    pub(crate) step: u64,
}

impl Evaluation<'_> {
    /// Each rank measures the shards that it owns; the states are merged in the tree over all
    /// shards, and all ranks have the values.
    ///
    /// # Errors
    /// What a metric or a preprocessing step gave; `numeric` when the loss isn't finite.
    pub(crate) fn run(&mut self) -> Result<Measured, EngineError> {
        let part = self.measure();
        let mut part = self.merge_ranks(part)?;
        let values = match &mut part {
            Ok(part) if self.gang.is_first() => finish(part),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error.clone()),
        };
        let bytes = values.as_deref().map(|values| {
            let bytes = values.iter().flat_map(|value: &f64| value.to_le_bytes());
            bytes.collect::<Vec<u8>>()
        });
        let mut all = Vec::new();
        let told = bytes.as_deref().map_err(|error| *error);
        self.gang.agree(told, &mut |rank, bytes| {
            if rank == 0 {
                let (values, _) = bytes.as_chunks::<8>();
                all.extend(values.iter().map(|value| f64::from_le_bytes(*value)));
            }
        })?;
        let names = self.sources.names().iter();
        let names = names.map(|name| name.as_ref().map(|name| format!("test.{name}")));
        let names = std::iter::once(Some("test.loss".to_owned())).chain(names);
        let named = names
            .zip(all)
            .filter_map(|(name, value)| Some((name?, value)));
        let (values, undefined): (Vec<_>, Vec<_>) = named.partition(|(_, value)| value.is_finite());
        Ok(Measured {
            values,
            undefined: undefined.into_iter().map(|(name, _)| name).collect(),
            metrics: part
                .map(|part| part.metrics)
                .ok()
                .filter(|_| self.gang.is_first())
                .unwrap_or_default(),
        })
    }

    /// The rank's own shards, merged in a binary tree as soon as there are two of a kind: shards
    /// are a power of two.
    fn measure(&mut self) -> Result<Part, EngineError> {
        let mut parts = Vec::new();
        for (index, shard) in self.gang.owned(self.plan.shards).enumerate() {
            let mut part = self.measure_shard(shard)?;
            for _ in 0..index.trailing_ones() {
                let mut left: Part = parts.pop().ok_or_else(no_shard)?;
                let (loss, states) = part.save()?;
                left.merge(loss, &states)?;
                part = left;
            }
            parts.push(part);
        }
        parts.pop().ok_or_else(no_shard)
    }

    fn measure_shard(&mut self, shard: usize) -> Result<Part, EngineError> {
        let mut part = Part {
            metrics: self.sources.make()?,
            loss: LossSum::default(),
        };
        let (mut there, scaled) = (There::default(), self.feed.scaled());
        let mut unscaled = Vec::new();
        let mut groups = vec![Vec::new(); part.metrics.len()];
        let batches = self.order.len().div_ceil(self.plan.rows * self.plan.shards);
        for batch in 0..batches as u64 {
            let place = Place {
                pass: Pass::Test,
                epoch: 0,
                batch,
                shard,
                step: self.step,
            };
            for (groups, feature) in groups.iter_mut().zip(self.sources.groups()) {
                if let Some(feature) = feature {
                    (self.feed).copy_column(self.order, place, *feature, groups)?;
                }
            }
            let rows = self.feed.load(self.order, place)?;
            if rows.features.is_empty() {
                continue;
            }
            let (scores, loss) = self.session.evaluate_shard(&rows);
            if !loss.loss.is_finite() {
                let found = self.session.diagnose(&rows);
                return Err(explain_loss(found, self.feed.ids()));
            }
            part.loss += loss;
            let outputs = self.plan.outputs / self.plan.input.target.positions();
            let (scores, targets) = match &scaled {
                None => there.of((scores, outputs), rows.targets, rows.lengths),
                Some(scaled) => {
                    let values = self.feed.originals();
                    scaled.undo(scores, scores.len() / values.len().max(1), &mut unscaled);
                    (unscaled.as_slice(), TargetRows::Values(values))
                }
            };
            for (metric, groups) in part.metrics.iter_mut().zip(&groups) {
                metric.update_groups(scores, outputs, targets, groups)?;
            }
        }
        Ok(part)
    }

    /// Merges neighbouring ranks until the first has all.
    fn merge_ranks(
        &mut self,
        mut part: Result<Part, EngineError>,
    ) -> Result<Result<Part, EngineError>, EngineError> {
        let (rank, mut apart) = (self.gang.rank(), 1);
        while apart < self.gang.ranks() {
            let place = rank % (2 * apart);
            let message = part.as_mut().map_err(|error| error.clone());
            let message = message.and_then(|part| match place == apart {
                true => part.save().map(|saved| write_state(&saved)),
                false => Ok(Vec::new()),
            });
            let mut right = Vec::new();
            self.gang.agree(message.as_deref(), &mut |from, bytes| {
                if place == 0 && from == rank + apart {
                    right.extend_from_slice(bytes);
                }
            })?;
            if place == 0 {
                part = part.and_then(|mut part| {
                    let (loss, states) = read_state(&right)?;
                    part.merge(loss, &states)?;
                    Ok(part)
                });
            }
            apart *= 2;
        }
        Ok(part)
    }
}

/// The loss, then the metrics.
fn finish(total: &mut Part) -> Result<Vec<f64>, EngineError> {
    let metrics = total.metrics.iter_mut().map(|metric| metric.finish());
    std::iter::once(Ok(total.loss.mean()))
        .chain(metrics)
        .collect()
}

/// A part as bytes: its loss and weight, then each metric's state after its length.
fn write_state((loss, states): &(LossSum, Vec<Vec<u8>>)) -> Vec<u8> {
    let mut bytes = loss.to_bytes().to_vec();
    for state in states {
        bytes.extend_from_slice(&(state.len() as u64).to_le_bytes());
        bytes.extend_from_slice(state);
    }
    bytes
}

fn read_state(bytes: &[u8]) -> Result<(LossSum, Vec<Vec<u8>>), EngineError> {
    let cut = || broken("a rank's metrics were cut short");
    let (loss, mut rest) = bytes.split_first_chunk::<16>().ok_or_else(cut)?;
    let mut states = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (state, more) = more.split_at_checked(length).ok_or_else(cut)?;
        states.push(state.to_vec());
        rest = more;
    }
    Ok((LossSum::from_bytes(*loss), states))
}

fn no_shard() -> EngineError {
    broken("there is no shard")
}

fn broken(message: &str) -> EngineError {
    EngineError::new(FailureKind::Platform, message)
}

fn explain_loss(found: Option<Bad>, ids: &[u64]) -> EngineError {
    match found {
        Some(bad) => explain(bad, ids),
        None => {
            let message = "the loss of held-out rows isn't finite";
            EngineError::new(FailureKind::Numeric, message).about(ids)
        }
    }
}
