//! Operations of the graph as nodes.

use std::collections::BTreeMap;

use stoker_domain::spec::Activation;

use super::OnnxError;
use super::attention::add_attention;
use super::writer::{Layout, Setting, Writer, long};
use crate::geometry::{Conv, Pool};
use crate::graph::{Graph, Node};
use crate::op::{Op, ParameterId, ValueId};

/// A graph on its way to nodes: where each value is, and how it lies there.
pub(super) struct Translation<'a> {
    graph: &'a Graph,
    pub(super) writer: Writer,
    values: BTreeMap<usize, (String, Layout)>,
}

impl<'a> Translation<'a> {
    pub(super) fn new(graph: &'a Graph, writer: Writer) -> Self {
        Self {
            graph,
            writer,
            values: BTreeMap::new(),
        }
    }

    /// The rows come in.
    pub(super) fn start(&mut self, features: usize, layout: Layout) {
        let name = super::INPUT.to_owned();
        self.values.insert(features, (name, layout));
    }

    /// The scores go out.
    pub(super) fn finish(mut self, scores: usize, layout: Layout) -> Writer {
        let x = match layout {
            Layout::Sequence { length, features } => {
                self.sequence("", ValueId(scores), length, features)
            }
            _ => self.flat("", ValueId(scores)),
        };
        self.writer.node("", "Identity", &[&x], &[]);
        if let Some(node) = self.writer.nodes.last_mut() {
            node.output = vec![super::OUTPUT.to_owned()];
        }
        self.writer
    }

    fn get(&self, x: ValueId) -> (String, Layout) {
        // Every value is written before it is read.
        let found = self.values.get(&x.0).cloned();
        found.unwrap_or_else(|| (super::INPUT.to_owned(), Layout::Flat(0)))
    }

    fn put(&mut self, y: ValueId, name: String, layout: Layout) {
        self.values.insert(y.0, (name, layout));
    }

    fn parameter(&self, id: ParameterId) -> &'a str {
        &self.graph.parameters[id.0].name
    }

    /// A value as `[batch, n]`.
    fn flat(&mut self, layer: &str, x: ValueId) -> String {
        match self.get(x) {
            (name, Layout::Flat(_)) => name,
            (name, _) => {
                let axis = [Setting::Int("axis", 1)];
                self.writer.node(layer, "Flatten", &[&name], &axis)
            }
        }
    }

    /// A value as `[batch, length, features]`.
    fn sequence(&mut self, layer: &str, x: ValueId, length: usize, features: usize) -> String {
        match self.get(x) {
            (name, Layout::Sequence { .. }) => name,
            (name, Layout::Flat(_)) => {
                let sizes = [0, long(length), long(features)];
                self.writer.reshape(layer, &name, &sizes)
            }
            (name, Layout::Image(_)) => {
                let last = self.writer.transpose(layer, &name, &[0, 2, 3, 1]);
                let sizes = [0, long(length), long(features)];
                self.writer.reshape(layer, &last, &sizes)
            }
        }
    }

    /// Adds nodes for one operation.
    ///
    /// # Errors
    /// When it has no translation.
    #[expect(clippy::too_many_lines, reason = "a table with a line per operation")]
    pub(super) fn translate(&mut self, node: &Node) -> Result<(), OnnxError> {
        let layer = node.layer.as_str();
        match node.op {
            // Channels come first there.
            Op::ToChannelsLast { x, y, .. } | Op::Dropout { x, y, .. } | Op::Copy { x, y } => {
                let (name, layout) = self.get(x);
                self.put(y, name, layout);
            }
            Op::ToChannelsFirst { x, y, .. } => {
                let floats = self.graph.values[x.0].row_floats;
                let name = self.flat(layer, x);
                self.put(y, name, Layout::Flat(floats));
            }
            Op::Linear { .. } => self.linear(layer, &node.op),
            Op::AddBias { x, y, bias, .. } => self.add_bias(layer, (x, y), bias),
            Op::Activate { x, y, function } => {
                let (x, layout) = self.get(x);
                let name = self.activate(layer, &x, function);
                self.put(y, name, layout);
            }
            Op::Conv2d {
                x, y, weight, conv, ..
            } => self.convolve(layer, (x, y), weight, &conv),
            Op::MaxPool { x, y, pool } => self.pool(layer, (x, y), &pool, true),
            Op::AveragePool { x, y, pool } => self.pool(layer, (x, y), &pool, false),
            Op::Mean { x, y, columns, .. } => self.mean(layer, (x, y), columns),
            Op::Embedding {
                x,
                y,
                weight,
                units,
                ..
            } => {
                let ids = self.flat(layer, x);
                let inputs = [self.parameter(weight), &ids];
                let name = self
                    .writer
                    .node(layer, "Gather", &inputs, &[Setting::Int("axis", 0)]);
                let length = self.graph.values[x.0].row_floats;
                let layout = Layout::Sequence {
                    length,
                    features: units,
                };
                self.put(y, name, layout);
            }
            Op::Norm {
                x,
                y,
                gain,
                bias,
                epsilon,
                ..
            } => {
                self.norm(layer, (x, y), (gain, bias), epsilon);
            }
            Op::BatchNorm { .. } => self.batch_norm(layer, &node.op),
            Op::Attention {
                x,
                y,
                ref attention,
                rotary,
                ..
            } => {
                let (name, _) = self.get(x);
                let turned = rotary.is_some();
                let name = add_attention(&mut self.writer, layer, &name, attention, turned);
                let layout = Layout::Sequence {
                    length: attention.length,
                    features: attention.out_features(),
                };
                self.put(y, name, layout);
            }
            // Attention has them as constants.
            Op::Angles { .. } => {}
            Op::Last {
                x,
                y,
                positions,
                columns,
            } => {
                let (name, _) = self.get(x);
                let last = self.writer.longs(&[long(positions) - 1]);
                let axis = [Setting::Int("axis", 1)];
                let name = self.writer.node(layer, "Gather", &[&name, &last], &axis);
                let name = self.writer.node(layer, "Flatten", &[&name], &axis);
                self.put(y, name, Layout::Flat(columns));
            }
            Op::Add { a, b, y } => {
                let ((a, layout), (b, _)) = (self.get(a), self.get(b));
                let name = self.writer.node(layer, "Add", &[&a, &b], &[]);
                self.put(y, name, layout);
            }
            ref other => {
                return Err(OnnxError::Operation {
                    operation: name_of(other),
                    layer: layer.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn linear(&mut self, layer: &str, op: &Op) {
        let Op::Linear {
            x,
            y,
            weight,
            positions,
            inputs,
            outputs,
            ..
        } = *op
        else {
            return;
        };
        let weight = self.parameter(weight);
        if positions == 1 && !matches!(self.get(x).1, Layout::Sequence { length: 1, .. }) {
            let x = self.flat(layer, x);
            let transposed = [Setting::Int("transB", 1)];
            let name = self.writer.node(layer, "Gemm", &[&x, weight], &transposed);
            self.put(y, name, Layout::Flat(outputs));
        } else {
            let x = self.sequence(layer, x, positions, inputs);
            let weight = self.writer.transpose(layer, weight, &[1, 0]);
            let name = self.writer.node(layer, "MatMul", &[&x, &weight], &[]);
            let layout = Layout::Sequence {
                length: positions,
                features: outputs,
            };
            self.put(y, name, layout);
        }
    }

    fn add_bias(&mut self, layer: &str, (x, y): (ValueId, ValueId), bias: ParameterId) {
        let bias = self.parameter(bias);
        let (x, layout) = self.get(x);
        if self.writer.extend(&x, &["Gemm", "Conv"], bias) {
            return self.put(y, x, layout);
        }
        let bias = match layout {
            Layout::Image(_) => self.writer.reshape(layer, bias, &[-1, 1, 1]),
            _ => bias.to_owned(),
        };
        let name = self.writer.node(layer, "Add", &[&x, &bias], &[]);
        self.put(y, name, layout);
    }

    fn activate(&mut self, layer: &str, x: &str, function: Activation) -> String {
        let writer = &mut self.writer;
        match function {
            Activation::Relu => writer.node(layer, "Relu", &[x], &[]),
            Activation::Tanh => writer.node(layer, "Tanh", &[x], &[]),
            Activation::Sigmoid => writer.node(layer, "Sigmoid", &[x], &[]),
            Activation::Silu => {
                let gate = writer.node(layer, "Sigmoid", &[x], &[]);
                writer.node(layer, "Mul", &[x, &gate], &[])
            }
            // x (1 + erf(x / √2)) / 2.
            Activation::Gelu => {
                let [root, one, half] =
                    [std::f32::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|n| writer.floats(&[], &[n]));
                let inner = writer.node(layer, "Mul", &[x, &root], &[]);
                let inner = writer.node(layer, "Erf", &[&inner], &[]);
                let gate = writer.node(layer, "Add", &[&inner, &one], &[]);
                let gated = writer.node(layer, "Mul", &[x, &gate], &[]);
                writer.node(layer, "Mul", &[&gated, &half], &[])
            }
        }
    }

    fn convolve(
        &mut self,
        layer: &str,
        (x, y): (ValueId, ValueId),
        weight: ParameterId,
        conv: &Conv,
    ) {
        let weight = self.parameter(weight);
        let dimensions = if conv.line { 1 } else { 2 };
        let dilation = conv.gap + 1;
        let after = |size: usize, windows: usize| {
            let reach = (windows - 1) * conv.stride + (conv.kernel - 1) * dilation + 1;
            reach.saturating_sub(size + conv.padding)
        };
        let sides = [
            (conv.in_height, conv.out_height),
            (conv.in_width, conv.out_width),
        ];
        let ends = sides
            .iter()
            .take(dimensions)
            .map(|&(size, windows)| after(size, windows));
        let pads = std::iter::repeat_n(conv.padding, dimensions).chain(ends);
        let all = |size: usize| vec![long(size); dimensions];
        let settings = [
            Setting::Ints("kernel_shape", all(conv.kernel)),
            Setting::Ints("strides", all(conv.stride)),
            Setting::Ints("dilations", all(dilation)),
            Setting::Ints("pads", pads.map(long).collect()),
            Setting::Int("group", long(conv.cuts + 1)),
        ];
        let (x, _) = self.get(x);
        if !conv.line {
            let name = self.writer.node(layer, "Conv", &[&x, weight], &settings);
            let sizes = [conv.out_channels, conv.out_height, conv.out_width];
            return self.put(y, name, Layout::Image(sizes));
        }
        let x = self.writer.transpose(layer, &x, &[0, 2, 1]);
        let name = self.writer.node(layer, "Conv", &[&x, weight], &settings);
        let name = self.writer.transpose(layer, &name, &[0, 2, 1]);
        let layout = Layout::Sequence {
            length: conv.out_height,
            features: conv.out_channels,
        };
        self.put(y, name, layout);
    }

    fn pool(&mut self, layer: &str, (x, y): (ValueId, ValueId), pool: &Pool, maximum: bool) {
        let (x, layout) = self.get(x);
        let line = matches!(layout, Layout::Sequence { .. });
        let x = if line {
            self.writer.transpose(layer, &x, &[0, 2, 1])
        } else {
            x
        };
        let whole = pool.padding == 0 && pool.kernel >= pool.in_height.max(pool.in_width);
        let name = if whole {
            let kind = if maximum {
                "GlobalMaxPool"
            } else {
                "GlobalAveragePool"
            };
            self.writer.node(layer, kind, &[&x], &[])
        } else {
            let dimensions = if line { 1 } else { 2 };
            let all = |size: usize, times: usize| vec![long(size); dimensions * times];
            let mut settings = vec![
                Setting::Ints("kernel_shape", all(pool.kernel, 1)),
                Setting::Ints("strides", all(pool.stride, 1)),
                Setting::Ints("pads", all(pool.padding, 2)),
            ];
            if !maximum {
                settings.push(Setting::Int("count_include_pad", 1));
            }
            let kind = if maximum { "MaxPool" } else { "AveragePool" };
            self.writer.node(layer, kind, &[&x], &settings)
        };
        if !line {
            let sizes = [pool.channels, pool.out_height, pool.out_width];
            return self.put(y, name, Layout::Image(sizes));
        }
        let name = self.writer.transpose(layer, &name, &[0, 2, 1]);
        let layout = Layout::Sequence {
            length: pool.out_height,
            features: pool.channels,
        };
        self.put(y, name, layout);
    }

    fn mean(&mut self, layer: &str, (x, y): (ValueId, ValueId), columns: usize) {
        let (x, layout) = self.get(x);
        let axes = match layout {
            Layout::Image(_) => vec![2, 3],
            _ => vec![1],
        };
        let settings = [Setting::Ints("axes", axes), Setting::Int("keepdims", 0)];
        let name = self.writer.node(layer, "ReduceMean", &[&x], &settings);
        self.put(y, name, Layout::Flat(columns));
    }

    fn norm(
        &mut self,
        layer: &str,
        (x, y): (ValueId, ValueId),
        (gain, bias): (ParameterId, Option<ParameterId>),
        epsilon: f32,
    ) {
        let gain = self.parameter(gain);
        let (name, layout) = match self.get(x).1 {
            Layout::Image(_) => (
                self.flat(layer, x),
                Layout::Flat(self.graph.values[x.0].row_floats),
            ),
            layout => (self.get(x).0, layout),
        };
        if let Some(bias) = bias {
            let bias = self.parameter(bias);
            let settings = [Setting::Int("axis", -1), Setting::Float("epsilon", epsilon)];
            let name =
                self.writer
                    .node(layer, "LayerNormalization", &[&name, gain, bias], &settings);
            return self.put(y, name, layout);
        }
        let writer = &mut self.writer;
        let epsilon = writer.floats(&[], &[epsilon]);
        let settings = [Setting::Ints("axes", vec![-1]), Setting::Int("keepdims", 1)];
        let square = writer.node(layer, "Mul", &[&name, &name], &[]);
        let mean = writer.node(layer, "ReduceMean", &[&square], &settings);
        let mean = writer.node(layer, "Add", &[&mean, &epsilon], &[]);
        let root = writer.node(layer, "Sqrt", &[&mean], &[]);
        let scaled = writer.node(layer, "Div", &[&name, &root], &[]);
        let name = writer.node(layer, "Mul", &[&scaled, gain], &[]);
        self.put(y, name, layout);
    }

    fn batch_norm(&mut self, layer: &str, op: &Op) {
        let Op::BatchNorm {
            x,
            y,
            gain,
            bias,
            running,
            epsilon,
            ..
        } = *op
        else {
            return;
        };
        let (mut x, layout) = self.get(x);
        let line = matches!(layout, Layout::Sequence { .. });
        if line {
            x = self.writer.transpose(layer, &x, &[0, 2, 1]);
        }
        let [mean, variance] = running;
        let parameters = [gain, bias, mean, variance].map(|id| self.parameter(id));
        let inputs: Vec<&str> = std::iter::once(x.as_str()).chain(parameters).collect();
        let settings = [Setting::Float("epsilon", epsilon)];
        let mut name = self
            .writer
            .node(layer, "BatchNormalization", &inputs, &settings);
        if line {
            name = self.writer.transpose(layer, &name, &[0, 2, 1]);
        }
        self.put(y, name, layout);
    }
}

/// An operation's name, as plans have it.
fn name_of(op: &Op) -> String {
    let form = serde_json::to_value(op).unwrap_or_default();
    let name = form
        .as_object()
        .and_then(|form| form.keys().next().cloned());
    name.unwrap_or_default()
}
