//! Nodes and constants of a model in the making.

use super::proto::{
    AttributeProto, Dimension, FLOAT, INT64, NodeProto, Size, TensorProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};
use crate::shape::Shape;

/// How the numbers of a row lie in an ONNX value, after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[n]`.
    Flat(usize),
    /// `[length, features]`.
    Sequence {
        /// Positions.
        length: usize,
        /// Numbers of each.
        features: usize,
    },
    /// `[channels, height, width]`.
    Image([usize; 3]),
}

impl Layout {
    pub(super) const fn of(shape: Shape) -> Self {
        match shape {
            Shape::Flat { features, .. } => Self::Flat(features),
            Shape::Sequence { length, features } => Self::Sequence { length, features },
            Shape::Image {
                channels,
                height,
                width,
            } => Self::Image([channels, height, width]),
        }
    }

    fn sizes(self) -> Vec<usize> {
        match self {
            Self::Flat(features) => vec![features],
            Self::Sequence { length, features } => vec![length, features],
            Self::Image(sizes) => sizes.to_vec(),
        }
    }
}

/// A setting of a node.
pub(super) enum Setting<'a> {
    Int(&'a str, i64),
    Ints(&'a str, Vec<i64>),
    Float(&'a str, f32),
}

/// What a model is made of.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) tensors: Vec<TensorProto>,
    made: usize,
}

impl Writer {
    /// A parameter, by its own name.
    pub(super) fn parameter(&mut self, name: &str, shape: &[usize], numbers: Vec<u8>) {
        self.tensor(name, shape, FLOAT, numbers);
    }

    fn tensor(&mut self, name: &str, shape: &[usize], kind: i32, raw: Vec<u8>) {
        self.tensors.push(TensorProto {
            dims: shape.iter().map(|&size| long(size)).collect(),
            data_type: Some(kind),
            name: Some(name.to_owned()),
            raw_data: Some(raw),
        });
    }

    fn constant(&mut self, shape: &[usize], kind: i32, raw: Vec<u8>) -> String {
        let name = format!("constant.{}", self.tensors.len());
        // Two of the same are one.
        let found = self.tensors.iter().find(|tensor| {
            let sizes = tensor.dims.iter().copied();
            tensor.data_type == Some(kind)
                && tensor.raw_data.as_deref() == Some(raw.as_slice())
                && sizes.eq(shape.iter().map(|&size| long(size)))
                && tensor
                    .name
                    .as_ref()
                    .is_some_and(|name| name.starts_with("constant."))
        });
        if let Some(name) = found.and_then(|tensor| tensor.name.clone()) {
            return name;
        }
        self.tensor(&name, shape, kind, raw);
        name
    }

    /// Constant numbers.
    pub(super) fn floats(&mut self, shape: &[usize], numbers: &[f32]) -> String {
        let raw = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.constant(shape, FLOAT, raw.collect())
    }

    /// Constant whole numbers, in one dimension.
    pub(super) fn longs(&mut self, numbers: &[i64]) -> String {
        let raw = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.constant(&[numbers.len()], INT64, raw.collect())
    }

    /// Adds a node; gives the name of its output, which begins with the layer's.
    pub(super) fn node(
        &mut self,
        layer: &str,
        kind: &str,
        inputs: &[&str],
        settings: &[Setting<'_>],
    ) -> String {
        let name = format!("{layer}.{}.{}", kind.to_lowercase(), self.made);
        self.made += 1;
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(kind.to_owned()),
            attribute: settings.iter().map(attribute).collect(),
        });
        name
    }

    pub(super) fn transpose(&mut self, layer: &str, x: &str, order: &[i64]) -> String {
        let order = Setting::Ints("perm", order.to_vec());
        self.node(layer, "Transpose", &[x], &[order])
    }

    /// Lays out the same numbers anew; a size of 0 stays as it is.
    pub(super) fn reshape(&mut self, layer: &str, x: &str, sizes: &[i64]) -> String {
        let sizes = self.longs(sizes);
        self.node(layer, "Reshape", &[x, &sizes], &[])
    }

    /// Gives the last node one more input, where it made `x` and is of that kind with two.
    pub(super) fn extend(&mut self, x: &str, kinds: &[&str], input: &str) -> bool {
        let Some(node) = self.nodes.last_mut() else {
            return false;
        };
        let kind = node.op_type.as_deref().unwrap_or_default();
        let fits = kinds.contains(&kind) && node.input.len() == 2;
        let made = node.output.first().is_some_and(|output| output == x);
        if fits && made {
            node.input.push(input.to_owned());
        }
        fits && made
    }
}

fn attribute(setting: &Setting<'_>) -> AttributeProto {
    let empty = AttributeProto::default();
    match setting {
        Setting::Int(name, value) => AttributeProto {
            name: Some((*name).to_owned()),
            i: Some(*value),
            kind: Some(2),
            ..empty
        },
        Setting::Ints(name, values) => AttributeProto {
            name: Some((*name).to_owned()),
            ints: values.clone(),
            kind: Some(7),
            ..empty
        },
        Setting::Float(name, value) => AttributeProto {
            name: Some((*name).to_owned()),
            f: Some(*value),
            kind: Some(1),
            ..empty
        },
    }
}

/// An input or output: a batch of any size.
pub(super) fn describe(name: &str, kind: i32, layout: Layout) -> ValueInfoProto {
    let batch = Size::Param("batch".to_owned());
    let sizes = layout
        .sizes()
        .into_iter()
        .map(|size| Size::Value(long(size)));
    let dim = std::iter::once(batch).chain(sizes);
    let dim = dim.map(|size| Dimension { size: Some(size) }).collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        kind: Some(TypeProto {
            tensor: Some(TensorType {
                elem_type: Some(kind),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}

/// Sizes are far below the limit: parameters have at most 2^34 numbers.
pub(super) fn long(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
