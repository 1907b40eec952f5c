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
use crate::normalise::Statistics;

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
    /// Mean loss of the last step.
    pub(crate) train_loss: Option<f64>,
    /// What was best so far, where the run goes by a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor: Option<MonitorState>,
    /// Whether the weights of the best evaluation are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) best: bool,
}

/// A state to go on from, in the plan's layout.
pub(crate) struct State {
    pub(crate) metadata: Metadata,
    pub(crate) weights: Vec<f32>,
    pub(crate) optimizer: Vec<Vec<f32>>,
    /// The weights of the best evaluation, where they are kept and there was one.
    pub(crate) best: Option<Vec<f32>>,
}

/// The finished weights: PyTorch's names and shapes.
pub(crate) fn write_weights(plan: &Plan, metadata: &Metadata, weights: &[f32]) -> Vec<u8> {
    // Loaders of PyTorch models look for this key.
    write(plan, metadata, Some(("format", "pt")), &[weights])
}

/// Weights, then the optimiser's buffers as `optimizer.<index>.<parameter>`, then the best weights
/// as `best.<parameter>`.
pub(crate) fn write_checkpoint(plan: &Plan, state: &State) -> Vec<u8> {
    let optimizer = state.optimizer.iter().map(Vec::as_slice);
    let buffers: Vec<&[f32]> = std::iter::once(state.weights.as_slice())
        .chain(optimizer)
        .chain(state.best.as_deref())
        .collect();
    write(plan, &state.metadata, None, &buffers)
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

/// Reads a checkpoint of this plan.
///
/// # Errors
/// `user` when it is another plan's, `data` when it isn't whole.
pub(crate) fn read_checkpoint(plan: &Plan, bytes: &[u8]) -> Result<State, EngineError> {
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
    if metadata.version != VERSION || metadata.plan != plan.hash() {
        let message = format!(
            "the checkpoint is of plan {} (version {}), this is plan {} (version {VERSION})",
            metadata.plan,
            metadata.version,
            plan.hash()
        );
        return Err(EngineError::new(FailureKind::User, message));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
    let count = 1 + plan.optimizer_slots() + usize::from(metadata.best);
    let mut buffers = Vec::with_capacity(count);
    for index in 0..count {
        let trained = (1..=plan.optimizer_slots()).contains(&index);
        let floats = if trained {
            plan.trained_floats()
        } else {
            plan.parameter_floats
        };
        let mut buffer = vec![0.0; floats];
        for parameter in parameters(plan, index) {
            let name = tensor_name(plan, index, &parameter.name);
            let tensor = tensors.tensor(&name).map_err(|error| broken(&error))?;
            let (numbers, rest) = tensor.data().as_chunks::<4>();
            if tensor.shape() != parameter.shape
                || !rest.is_empty()
                || numbers.len() != parameter.floats
            {
                return Err(broken(&format!("`{name}` has another shape")));
            }
            let stored = &mut buffer[parameter.offset..][..parameter.floats];
            for (index, number) in numbers.iter().enumerate() {
                stored[parameter.order.stored_index(index)] = f32::from_le_bytes(*number);
            }
        }
        buffers.push(buffer);
    }
    let weights = buffers.remove(0);
    let best = metadata.best.then(|| buffers.pop()).flatten();
    Ok(State {
        metadata,
        best,
        weights,
        optimizer: buffers,
    })
}
