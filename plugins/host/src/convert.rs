//! Between our types and the engine's. Lists are moved, never copied.

use crate::batch::{Batch, Element, Strings, Tensor, Values};
use crate::bindings::types;
use crate::description::TensorSpec;

impl From<Batch> for types::Batch {
    fn from(batch: Batch) -> Self {
        let tensors = batch.tensors.into_iter().map(Into::into).collect();
        Self {
            rows: batch.rows,
            tensors,
        }
    }
}

impl From<types::Batch> for Batch {
    fn from(batch: types::Batch) -> Self {
        let tensors = batch.tensors.into_iter().map(Into::into).collect();
        Self {
            rows: batch.rows,
            tensors,
        }
    }
}

impl From<Tensor> for types::Tensor {
    fn from(
        Tensor {
            name,
            shape,
            values,
        }: Tensor,
    ) -> Self {
        let values = match values {
            Values::Float32(values) => types::Values::Float32(values),
            Values::Int64(values) => types::Values::Int64(values),
            Values::Uint8(values) => types::Values::Uint8(values),
            Values::Text(Strings { offsets, bytes }) => {
                types::Values::Text(types::Strings { offsets, bytes })
            }
        };
        Self {
            name,
            shape,
            values,
        }
    }
}

impl From<types::Tensor> for Tensor {
    fn from(
        types::Tensor {
            name,
            shape,
            values,
        }: types::Tensor,
    ) -> Self {
        let values = match values {
            types::Values::Float32(values) => Values::Float32(values),
            types::Values::Int64(values) => Values::Int64(values),
            types::Values::Uint8(values) => Values::Uint8(values),
            types::Values::Text(types::Strings { offsets, bytes }) => {
                Values::Text(Strings { offsets, bytes })
            }
        };
        Self {
            name,
            shape,
            values,
        }
    }
}

impl From<types::TensorSpec> for TensorSpec {
    fn from(spec: types::TensorSpec) -> Self {
        let element = match spec.element {
            types::Element::Float32 => Element::Float32,
            types::Element::Int64 => Element::Int64,
            types::Element::Uint8 => Element::Uint8,
            types::Element::Text => Element::Text,
        };
        Self {
            name: spec.name,
            element,
            example: spec.example,
        }
    }
}

pub(crate) fn specs(specs: Vec<types::TensorSpec>) -> Vec<TensorSpec> {
    specs.into_iter().map(Into::into).collect()
}
