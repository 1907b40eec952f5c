//! Measures the held-out rows.

use stoker_domain::job::FailureKind;
use stoker_model::Plan;

use crate::device::{Bad, LossSum, Session};
use crate::error::EngineError;
use crate::explain::explain;
use crate::feed::{Feed, Pass, Place};
use crate::lengths::There;
use crate::metric::{Metric, MetricSource};

/// One virtual shard's sums over all batches.
struct Part {
    metrics: Vec<Box<dyn Metric>>,
    loss: LossSum,
}

/// `test.loss` and `test.<metric>` over the rows in `order`.
///
/// # Errors
/// What a metric or a preprocessing step gave; `numeric` when the loss isn't finite.
pub(crate) fn evaluate(
    plan: &Plan,
    session: &mut dyn Session,
    feed: &mut Feed,
    sources: &mut [MetricSource],
    order: &[u64],
    step: u64,
) -> Result<Vec<(String, f64)>, EngineError> {
    let batches = order.len().div_ceil(plan.rows * plan.shards);
    let mut there = There::default();
    let mut parts: Vec<Part> = Vec::with_capacity(plan.shards);
    for shard in 0..plan.shards {
        let mut part = Part {
            metrics: (sources.iter_mut().map(|source| (source.make)()))
                .collect::<Result<_, _>>()?,
            loss: LossSum::default(),
        };
        for batch in 0..batches as u64 {
            let place = Place {
                pass: Pass::Test,
                epoch: 0,
                batch,
                shard,
                step,
            };
            let rows = feed.load(order, place)?;
            if rows.features.is_empty() {
                continue;
            }
            let (scores, loss) = session.evaluate_shard(&rows);
            if !loss.loss.is_finite() {
                let found = session.diagnose(&rows);
                return Err(explain_loss(found, feed.ids()));
            }
            part.loss += loss;
            let outputs = plan.outputs / plan.input.target.positions();
            let (scores, targets) = there.of((scores, outputs), rows.targets, rows.lengths);
            for metric in &mut part.metrics {
                metric.update(scores, outputs, targets)?;
            }
        }
        parts.push(part);
    }
    let total = merge(parts)?;
    finish(total, sources)
}

/// Merges neighbours until one is left: a binary tree, since shards are a power of two.
fn merge(mut parts: Vec<Part>) -> Result<Option<Part>, EngineError> {
    while parts.len() > 1 {
        let mut merged = Vec::with_capacity(parts.len() / 2);
        let mut rest = parts.into_iter();
        while let Some(mut left) = rest.next() {
            if let Some(right) = rest.next() {
                left.loss += right.loss;
                for (metric, mut other) in left.metrics.iter_mut().zip(right.metrics) {
                    metric.merge(&other.save()?)?;
                }
            }
            merged.push(left);
        }
        parts = merged;
    }
    Ok(parts.pop())
}

fn finish(
    total: Option<Part>,
    sources: &[MetricSource],
) -> Result<Vec<(String, f64)>, EngineError> {
    let Some(mut total) = total else {
        return Ok(Vec::new());
    };
    let mut results = vec![("test.loss".to_owned(), total.loss.mean())];
    for (source, metric) in sources.iter().zip(&mut total.metrics) {
        results.push((format!("test.{}", source.name), metric.finish()?));
    }
    Ok(results)
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
