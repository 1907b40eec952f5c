//! Plugins as steps and metrics of the engine: tensors on one side, slices on the other.

use std::sync::Arc;

use stoker_domain::Ref;
use stoker_domain::job::FailureKind;
use stoker_engine::{EngineError, Metric, NOT_COUNTED, TargetRows, Transform};
use stoker_plugins::{Batch, Plugin, PluginError, PluginErrorKind, Tensor, Values};

/// The tensor that a preprocessing plugin gets and gives back: `[rows, width]`, f32.
const FEATURES: &str = "features";
/// The tensors that a metric plugin gets: scores `[rows, outputs]`, f32, and targets `[rows]`, i64,
/// or `[rows, width]`, f32.
const PREDICTIONS: &str = "predictions";
const TARGETS: &str = "targets";

/// A preprocessing plugin.
pub(crate) struct PluginTransform {
    name: Ref,
    instance: stoker_plugins::Preprocess,
}

impl PluginTransform {
    pub(crate) fn new(name: &Ref, plugin: &Arc<Plugin>, config: &str) -> Result<Self, EngineError> {
        let instance = plugin
            .preprocess(config)
            .map_err(|error| failed(name, &error))?;
        Ok(Self {
            name: name.clone(),
            instance,
        })
    }
}

impl Transform for PluginTransform {
    fn apply(
        &mut self,
        features: &mut Vec<f32>,
        rows: &[u64],
        seed: u64,
    ) -> Result<(), EngineError> {
        if rows.is_empty() {
            return Ok(());
        }
        let length = features.len();
        let values = Values::Float32(std::mem::take(features));
        let batch = batch(FEATURES, rows.len(), length / rows.len(), values);
        let told = |message: String| {
            EngineError::new(
                FailureKind::Plugin,
                format!("plugin {}: {message}", self.name),
            )
            .about(rows)
        };
        let result = self.instance.run(batch, seed);
        let result = result.map_err(|error| failed(&self.name, &error).about(rows))?;
        match result
            .tensors
            .into_iter()
            .find(|tensor| tensor.name == FEATURES)
        {
            Some(Tensor {
                values: Values::Float32(values),
                ..
            }) if values.len() == length => {
                *features = values;
                Ok(())
            }
            Some(tensor) => Err(told(format!(
                "gave back `{FEATURES}` of shape {:?}; {length} f32 values are needed",
                tensor.shape
            ))),
            None => Err(told(format!("gave back no tensor `{FEATURES}`"))),
        }
    }
}

/// A metric plugin.
pub(crate) struct PluginMetric {
    name: Ref,
    instance: stoker_plugins::Metric,
}

impl PluginMetric {
    pub(crate) fn new(name: &Ref, plugin: &Arc<Plugin>, config: &str) -> Result<Self, EngineError> {
        let instance = plugin
            .metric(config)
            .map_err(|error| failed(name, &error))?;
        Ok(Self {
            name: name.clone(),
            instance,
        })
    }
}

impl Metric for PluginMetric {
    fn update(
        &mut self,
        scores: &[f32],
        outputs: usize,
        targets: TargetRows<'_>,
    ) -> Result<(), EngineError> {
        let (scores, classes) = counted(scores, outputs, targets);
        let rows = scores.len() / outputs;
        let predictions = batch(PREDICTIONS, rows, outputs, Values::Float32(scores));
        let targets = match targets {
            TargetRows::Classes(_) => {
                let values = classes.into_iter().map(i64::from).collect();
                let rows = small(rows);
                let tensor = Tensor {
                    name: TARGETS.to_owned(),
                    shape: vec![rows],
                    values: Values::Int64(values),
                };
                Batch {
                    rows,
                    tensors: vec![tensor],
                }
            }
            TargetRows::Values(values) => {
                let width = values.len().checked_div(rows).unwrap_or(0);
                batch(TARGETS, rows, width, Values::Float32(values.to_vec()))
            }
        };
        self.instance
            .update(predictions, targets)
            .map_err(|error| failed(&self.name, &error))
    }

    fn save(&mut self) -> Result<Vec<u8>, EngineError> {
        self.instance
            .save()
            .map_err(|error| failed(&self.name, &error))
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.instance
            .merge(state)
            .map_err(|error| failed(&self.name, &error))
    }

    fn finish(&mut self) -> Result<f64, EngineError> {
        self.instance
            .finish()
            .map_err(|error| failed(&self.name, &error))
    }
}

/// The scores and classes of the rows that count; no classes where there are values.
fn counted(scores: &[f32], outputs: usize, targets: TargetRows<'_>) -> (Vec<f32>, Vec<u32>) {
    let TargetRows::Classes(classes) = targets else {
        return (scores.to_vec(), Vec::new());
    };
    let rows = scores.chunks_exact(outputs).zip(classes);
    let rows = rows.filter(|(_, class)| **class != NOT_COUNTED);
    let (scores, classes): (Vec<&[f32]>, Vec<u32>) = rows.map(|(row, &class)| (row, class)).unzip();
    (scores.concat(), classes)
}

fn batch(name: &str, rows: usize, width: usize, values: Values) -> Batch {
    let (rows, width) = (small(rows), small(width));
    Batch {
        rows,
        tensors: vec![Tensor {
            name: name.to_owned(),
            shape: vec![rows, width],
            values,
        }],
    }
}

/// Extents of a shard fit: batches are limited to 2^20 rows, rows to 2^28 numbers.
fn small(extent: usize) -> u32 {
    u32::try_from(extent).unwrap_or(u32::MAX)
}

fn failed(name: &Ref, error: &PluginError) -> EngineError {
    let kind = match error.kind {
        PluginErrorKind::Platform => FailureKind::Platform,
        _ => FailureKind::Plugin,
    };
    EngineError::new(kind, format!("plugin {name}: {error}"))
}
