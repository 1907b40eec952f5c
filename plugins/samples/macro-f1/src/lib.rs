//! The mean over classes of F1, the harmonic mean of precision and recall. A class that occurs
//! neither among targets nor among predictions is left out.

use serde::Deserialize;
use stoker_guest::{Batch, Better, Element, Error, Metric, MetricDescription, TensorSpec};

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "predictions": { "type": "string", "default": "predictions", "description": "the tensor of class scores, [rows, classes]" },
    "targets": { "type": "string", "default": "targets", "description": "the tensor of class numbers, [rows]" }
  },
  "examples": [{ "predictions": "predictions", "targets": "targets" }]
}"#;

/// The configuration; see `SCHEMA`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    predictions: String,
    targets: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            predictions: "predictions".into(),
            targets: "targets".into(),
        }
    }
}

/// How often a class was predicted, was right, and was the target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    predicted: u64,
    hits: u64,
    targets: u64,
}

const COUNTS_BYTES: usize = 24;

/// The plugin.
pub struct MacroF1 {
    config: Config,
    /// One entry a class; empty until the first update or merge.
    classes: Vec<Counts>,
}

impl MacroF1 {
    fn set_classes(&mut self, classes: usize) -> Result<(), Error> {
        if self.classes.is_empty() {
            self.classes = vec![Counts::default(); classes];
        }
        if self.classes.len() == classes {
            return Ok(());
        }
        Err(Error::InvalidBatch(format!(
            "there are scores of {classes} classes, but there were {} before",
            self.classes.len()
        )))
    }
}

impl Metric for MacroF1 {
    type Config = Config;

    fn describe() -> MetricDescription {
        let spec = |name: &str, element, example| TensorSpec {
            name: name.into(),
            element,
            example,
        };
        MetricDescription {
            name: "macro F1".into(),
            predictions: vec![spec("predictions", Element::Float32, vec![10])],
            targets: vec![spec("targets", Element::Int64, vec![])],
            better: Better::Larger,
            config_schema: SCHEMA.into(),
        }
    }

    fn new(config: Config) -> Result<Self, Error> {
        Ok(Self {
            config,
            classes: Vec::new(),
        })
    }

    fn update(&mut self, predictions: Batch, targets: Batch) -> Result<(), Error> {
        let scores = predictions.tensor(&self.config.predictions)?;
        let targets = targets.tensor(&self.config.targets)?.int64()?;
        let &[rows, classes] = scores.shape.as_slice() else {
            return Err(Error::InvalidBatch(format!(
                "tensor `{}` must have shape [rows, classes], not {:?}",
                scores.name, scores.shape
            )));
        };
        if classes == 0 || rows as usize != targets.len() {
            return Err(Error::InvalidBatch(format!(
                "scores have shape {:?}, but there are {} targets",
                scores.shape,
                targets.len()
            )));
        }
        let count = classes as usize;
        // All targets are checked before any is counted, so that an error changes nothing.
        if let Some(target) = targets
            .iter()
            .find(|target| !(0..i64::from(classes)).contains(target))
        {
            return Err(Error::InvalidBatch(format!(
                "target {target} is not a class: there are scores of 0 to {}",
                classes - 1
            )));
        }
        let values = scores.float32()?;
        self.set_classes(count)?;
        for (scores, &target) in values.chunks_exact(count).zip(targets) {
            let (guess, target) = (first_largest(scores), target as usize);
            self.classes[guess].predicted += 1;
            self.classes[target].targets += 1;
            self.classes[target].hits += u64::from(guess == target);
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let fields = |c: &Counts| [c.predicted, c.hits, c.targets];
        self.classes
            .iter()
            .flat_map(fields)
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    fn merge(&mut self, state: Vec<u8>) -> Result<(), Error> {
        if state.is_empty() {
            return Ok(());
        }
        if !state.len().is_multiple_of(COUNTS_BYTES) {
            return Err(Error::Failed(format!(
                "a state of {} bytes is not ours",
                state.len()
            )));
        }
        self.set_classes(state.len() / COUNTS_BYTES)?;
        for (counts, bytes) in self
            .classes
            .iter_mut()
            .zip(state.chunks_exact(COUNTS_BYTES))
        {
            let field = |at: usize| {
                let mut field = [0; 8];
                field.copy_from_slice(&bytes[at..at + 8]);
                u64::from_le_bytes(field)
            };
            counts.predicted = counts.predicted.saturating_add(field(0));
            counts.hits = counts.hits.saturating_add(field(8));
            counts.targets = counts.targets.saturating_add(field(16));
        }
        Ok(())
    }

    fn finish(&self) -> Result<f64, Error> {
        let seen = self.classes.iter().filter(|c| c.predicted + c.targets > 0);
        let (sum, classes) = seen.fold((0.0, 0_u64), |(sum, classes), c| {
            // F1 = 2 precision recall / (precision + recall) = 2 hits / (predicted + targets).
            (
                sum + 2.0 * c.hits as f64 / (c.predicted + c.targets) as f64,
                classes + 1,
            )
        });
        if classes == 0 {
            return Err(Error::Failed("no row was counted".into()));
        }
        Ok(sum / classes as f64)
    }
}

/// The index of the largest score, the first of equals. NaN is never the largest.
fn first_largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] || scores[best].is_nan() && !score.is_nan() {
            best = index;
        }
    }
    best
}

stoker_guest::metric!(MacroF1);
