//! Weights and checkpoints as safetensors.
//!
//! The header is written here, with its fields in order, so that equal runs give equal bytes; the
//! `safetensors` crate reads it back and checks it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use stoker_domain::job::FailureKind;
use stoker_model::{Parameter, Plan};

use crate::error::EngineError;
use crate::monitor::MonitorState;
use crate::normalise::{Fitted, Statistics};

/// Version tag of a checkpoint.
pub(crate) const VERSION: u16 = 1;
/// Key of our own metadata.
const METADATA: &str = "stoker";

/// What a checkpoint holds besides tensors. The position in the data and of the random numbers
/// follows from the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) version: u16,
    pub(crate) plan: String,
    /// Steps made.
    pub(crate) step: u64,
    /// Rows of the data set, and how they were split: a resumed run must see the same ones.
    pub(crate) rows: u64,
    pub(crate) split: String,
    /// Of each `normalise` step, in order.
    pub(crate) normalise: Vec<Statistics>,
    /// Of the target, where it is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Statistics>,
    /// Mean loss of the last step.
    pub(crate) train_loss: Option<f64>,
    /// What was best so far, where the run goes by a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor: Option<MonitorState>,
    /// Whether the weights of the best evaluation are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) best: bool,
}

impl Metadata {
    /// What the `normalise` steps took from the training rows.
    pub(crate) fn fitted(&self) -> Fitted {
        Fitted {
            features: self.normalise.clone(),
            target: self.target.clone(),
        }
    }
}

/// The finished weights: PyTorch's names and shapes.
pub(crate) fn write_weights(plan: &Plan, metadata: &Metadata, weights: &[f32]) -> Vec<u8> {
    // Loaders of PyTorch models look for this key.
    write(plan, metadata, Some(("format", "pt")), &[weights])
}

/// Weights, then the optimiser's buffers as `optimizer.<index>.<parameter>`, then the best weights
/// as `best.<parameter>`, where they are kept and there was an evaluation.
pub(crate) fn write_checkpoint(plan: &Plan, metadata: &Metadata, buffers: &[&[f32]]) -> Vec<u8> {
    write(plan, metadata, None, buffers)
}

/// A buffer's parameters: the optimiser's hold the trained ones.
fn parameters(plan: &Plan, buffer: usize) -> impl Iterator<Item = &Parameter> {
    let all = !(1..=plan.optimizer_slots()).contains(&buffer);
    plan.parameters.iter().filter(move |p| all || p.trained)
}

/// What PyTorch's `BatchNorm` keeps besides its statistics: the number of steps that they saw.
fn counters(plan: &Plan) -> impl Iterator<Item = String> {
    let statistics = plan.parameters.iter().filter(|p| !p.trained);
    statistics.filter_map(|p| {
        let layer = p.name.strip_suffix("running_var")?;
        Some(format!("{layer}num_batches_tracked"))
    })
}

/// `finished` is a pair of metadata that makes a file one of weights, for other programs to read.
fn write(
    plan: &Plan,
    metadata: &Metadata,
    finished: Option<(&str, &str)>,
    buffers: &[&[f32]],
) -> Vec<u8> {
    let step = metadata.step;
    let metadata = serde_json::to_string(metadata).unwrap_or_default();
    let mut pairs: BTreeMap<&str, &str> = finished.into_iter().collect();
    pairs.insert(METADATA, &metadata);
    let mut header = format!("{{\"__metadata__\":{}", json(&pairs));
    let mut offset = 0;
    let mut describe = |name: &str, (kind, shape): (&str, &[usize]), size: usize| {
        let end = offset + size;
        let (name, shape) = (json(&name), json(&shape));
        let _ = write!(
            header,
            ",{name}:{{\"dtype\":\"{kind}\",\"shape\":{shape},\"data_offsets\":[{offset},{end}]}}"
        );
        offset = end;
    };
    // The longer numbers come first, so that all are aligned.
    let counters: Vec<String> = counters(plan).filter(|_| finished.is_some()).collect();
    for name in &counters {
        describe(name, ("I64", &[]), 8);
    }
    for index in 0..buffers.len() {
        for parameter in parameters(plan, index) {
            let name = tensor_name(plan, index, &parameter.name);
            describe(&name, ("F32", &parameter.shape), 4 * parameter.floats);
        }
    }
    header.push('}');
    // The data starts at a multiple of 8.
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut bytes = Vec::with_capacity(8 + header.len() + offset);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    for _ in &counters {
        bytes.extend_from_slice(&step.to_le_bytes());
    }
    for (index, buffer) in buffers.iter().enumerate() {
        for parameter in parameters(plan, index) {
            let stored = &buffer[parameter.offset..][..parameter.floats];
            for index in 0..parameter.floats {
                let number = stored[parameter.order.stored_index(index)];
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    bytes
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Buffer 0 holds the weights, then come the optimiser's state and the best weights.
fn tensor_name(plan: &Plan, buffer: usize, parameter: &str) -> String {
    match buffer.checked_sub(1) {
        None => parameter.to_owned(),
        Some(index) if index == plan.optimizer_slots() => format!("best.{parameter}"),
        Some(index) => format!("optimizer.{index}.{parameter}"),
    }
}

/// A state to go on from.
pub(crate) struct Checkpoint<'a> {
    pub(crate) metadata: Metadata,
    tensors: SafeTensors<'a>,
}

impl<'a> Checkpoint<'a> {
    /// Reads a checkpoint of this plan, and checks all of it.
    ///
    /// # Errors
    /// `user` when it is another plan's, `data` when it isn't whole.
    pub(crate) fn read(plan: &Plan, bytes: &'a [u8]) -> Result<Self, EngineError> {
        let state = Self::read_buffers(plan, bytes, 1 + plan.optimizer_slots())?;
        let Metadata {
            version, plan: of, ..
        } = &state.metadata;
        if *version != VERSION || *of != plan.hash() {
            let message = format!(
                "the checkpoint is of plan {of} (version {version}), this is plan {} (version {VERSION})",
                plan.hash()
            );
            return Err(EngineError::new(FailureKind::User, message));
        }
        Ok(state)
    }

    /// Reads finished weights of this plan, or of an older one of the same model: names and shapes
    /// count.
    ///
    /// # Errors
    /// `data` when they aren't whole.
    pub(crate) fn read_weights(plan: &Plan, bytes: &'a [u8]) -> Result<Self, EngineError> {
        Self::read_buffers(plan, bytes, 1)
    }

    fn read_buffers(plan: &Plan, bytes: &'a [u8], buffers: usize) -> Result<Self, EngineError> {
        let broken = |what: &dyn std::fmt::Display| {
            EngineError::new(
                FailureKind::Data,
                format!("the checkpoint isn't whole: {what}"),
            )
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let metadata = (header.metadata().as_ref())
            .and_then(|pairs| pairs.get(METADATA))
            .ok_or_else(|| broken(&"its metadata is missing"))?;
        let metadata: Metadata = serde_json::from_str(metadata).map_err(|error| broken(&error))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let buffers = buffers + usize::from(metadata.best);
        for buffer in 0..buffers {
            for parameter in parameters(plan, buffer) {
                let name = tensor_name(plan, buffer, &parameter.name);
                let tensor = tensors.tensor(&name).map_err(|error| broken(&error))?;
                let bytes = 4 * parameter.floats;
                if tensor.shape() != parameter.shape || tensor.data().len() != bytes {
                    return Err(broken(&format!("`{name}` has another shape")));
                }
            }
        }
        Ok(Self { metadata, tensors })
    }

    /// Writes a buffer over zeros, in the plan's layout: as a session counts them, then the best
    /// weights.
    pub(crate) fn copy(&self, plan: &Plan, buffer: usize, into: &mut [f32]) {
        for parameter in parameters(plan, buffer) {
            let name = tensor_name(plan, buffer, &parameter.name);
            // All were there when it was read.
            let Ok(tensor) = self.tensors.tensor(&name) else {
                continue;
            };
            let (numbers, _) = tensor.data().as_chunks::<4>();
            let stored = &mut into[parameter.offset..][..parameter.floats];
            for (index, number) in numbers.iter().enumerate() {
                stored[parameter.order.stored_index(index)] = f32::from_le_bytes(*number);
            }
        }
    }

    /// The weights of the best evaluation, where they are kept and there was one.
    pub(crate) fn best(&self, plan: &Plan) -> Option<Vec<f32>> {
        self.metadata.best.then(|| {
            let mut best = vec![0.0; plan.parameter_floats];
            self.copy(plan, 1 + plan.optimizer_slots(), &mut best);
            best
        })
    }
}

/// What tests look for in a checkpoint.
#[cfg(test)]
pub(crate) struct State {
    pub(crate) weights: Vec<f32>,
    pub(crate) optimizer: Vec<Vec<f32>>,
}

/// Reads a checkpoint's buffers.
#[cfg(test)]
pub(crate) fn read_checkpoint(plan: &Plan, bytes: &[u8]) -> Result<State, EngineError> {
    let checkpoint = Checkpoint::read(plan, bytes)?;
    let mut buffers = (0..=plan.optimizer_slots()).map(|index| {
        let floats = match index {
            0 => plan.parameter_floats,
            _ => plan.trained_floats(),
        };
        let mut buffer = vec![0.0; floats];
        checkpoint.copy(plan, index, &mut buffer);
        buffer
    });
    Ok(State {
        weights: buffers.next().unwrap_or_default(),
        optimizer: buffers.collect(),
    })
}
