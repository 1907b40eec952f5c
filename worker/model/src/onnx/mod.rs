//! Models as ONNX, for other programs to run: in inference, by running statistics and without
//! dropout, for batches of any size.
//!
//! Made of the forward graph as it is before anything is fused, in PyTorch's layout: images have
//! their channels first, and parameters their names and shapes from the state dict.

mod attention;
mod proto;
mod translate;
mod writer;

use prost::Message as _;
use stoker_domain::spec::ModelSpec;
use thiserror::Error;

use crate::family;
use crate::graph;
use crate::input::{InputDescription, Target};
use crate::op::Op;
use crate::shape::Shape;

use proto::{GraphProto, ModelProto, OperatorSetIdProto};
use translate::Translation;
use writer::{Layout, Writer};

/// Names of the one input and the one output.
pub(crate) const INPUT: &str = "features";
/// The output.
pub(crate) const OUTPUT: &str = "scores";
/// The operators' version, that of ONNX 1.12.
const OPSET: i64 = 17;
/// The form's version, that of ONNX 1.12 too.
const IR_VERSION: i64 = 8;
/// Most bytes of a model: what Protocol Buffers allow.
const BYTES_MAX: usize = (1 << 31) - 1;

/// Why a model can't be written as ONNX.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OnnxError {
    /// An operation has no translation.
    #[error("`{operation}` of layer `{layer}` has no translation to ONNX")]
    Operation {
        /// The operation.
        operation: String,
        /// Its layer.
        layer: String,
    },
    /// A parameter isn't among the weights, or has another size.
    #[error("the weights hold no `{0}` of the right size")]
    Weights(String),
    /// It is larger than a file of this kind can be.
    #[error("{0} bytes of weights, ONNX files hold up to 2 GiB")]
    TooLarge(usize),
    /// The model doesn't fit its input: it was never compiled.
    #[error("{0}")]
    Model(String),
}

/// Writes a model as ONNX: input `features`, `[batch, …]` in the shape that the model sees (token
/// ids as 64-bit integers), output `scores`, `[batch, outputs]` or `[batch, positions, classes]`.
/// `weights` gives a parameter's numbers by its name in the state dict, as little-endian single
/// precision in PyTorch's order.
///
/// # Errors
/// When an operation has no translation, or a parameter isn't there.
pub fn write_onnx<'a>(
    model: &ModelSpec,
    input: &InputDescription,
    weights: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, OnnxError> {
    let refused = |error: stoker_domain::FieldError| OnnxError::Model(error.to_string());
    let layers = family::expand(model, input).map_err(refused)?;
    let graph = graph::build(&layers, input).map_err(refused)?;
    let bytes: usize = graph
        .parameters
        .iter()
        .map(|parameter| 4 * parameter.floats)
        .sum();
    if bytes > BYTES_MAX {
        return Err(OnnxError::TooLarge(bytes));
    }
    let mut writer = Writer::default();
    for parameter in &graph.parameters {
        let numbers = weights(&parameter.name).filter(|bytes| bytes.len() == 4 * parameter.floats);
        let numbers = numbers.ok_or_else(|| OnnxError::Weights(parameter.name.clone()))?;
        writer.parameter(&parameter.name, &parameter.shape, numbers.to_vec());
    }
    let tokens = graph.forward.iter().any(|node| match node.op {
        Op::Embedding { x, .. } => x.0 == graph.features,
        _ => false,
    });
    let mut translation = Translation::new(&graph, writer);
    translation.start(graph.features, Layout::of(layers.input));
    for node in &graph.forward {
        translation.translate(node)?;
    }
    let layout = match input.target {
        Target::Sequence { classes, positions } | Target::Masked { classes, positions } => {
            Layout::Sequence {
                length: positions,
                features: classes,
            }
        }
        target => Layout::Flat(target.outputs()),
    };
    let writer = translation.finish(graph.scores, layout);
    Ok(finish(writer, (layers.input, tokens), layout).encode_to_vec())
}

fn finish(writer: Writer, (shape, tokens): (Shape, bool), scores: Layout) -> ModelProto {
    let kind = if tokens { proto::INT64 } else { proto::FLOAT };
    ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("stoker".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        graph: Some(GraphProto {
            name: Some("model".to_owned()),
            node: writer.nodes,
            initializer: writer.tensors,
            input: vec![writer::describe(INPUT, kind, Layout::of(shape))],
            output: vec![writer::describe(OUTPUT, proto::FLOAT, scores)],
        }),
    }
}

#[cfg(test)]
mod tests;
