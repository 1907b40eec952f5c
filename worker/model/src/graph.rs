//! From layers to the forward graph: shapes are inferred, parameters made, errors named.

use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::family::{Layer, Layers};
use crate::input::InputDescription;
use crate::limits::{PARAMETERS_MAX, product};
use crate::op::{Conv, Op, ParameterId, Pool, Tile, ValueId};
use crate::plan::{Init, Order, Parameter};
use crate::shape::Shape;

/// The name by which a layer may take the rows themselves.
const INPUT: &str = "input";

/// A graph in the making: values with shapes, parameters, and operations in order.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) values: Vec<GraphValue>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) forward: Vec<Node>,
    pub(crate) backward: Vec<Node>,
    pub(crate) features: usize,
    pub(crate) scores: usize,
    pub(crate) score_gradient: usize,
}

/// A value: so many numbers per row.
#[derive(Debug, Clone)]
pub(crate) struct GraphValue {
    pub(crate) name: String,
    pub(crate) row_floats: usize,
}

/// An operation of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) layer: String,
    pub(crate) op: Op,
}

impl Graph {
    pub(crate) fn value(&mut self, name: &str, row_floats: usize) -> ValueId {
        self.values.push(GraphValue {
            name: name.to_owned(),
            row_floats,
        });
        ValueId(self.values.len() - 1)
    }

    fn parameter(
        &mut self,
        name: String,
        shape: Vec<usize>,
        order: Order,
        fan_in: usize,
    ) -> Option<ParameterId> {
        let floats = product(&shape)?;
        #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
        let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
        self.parameters.push(Parameter {
            name,
            shape,
            order,
            offset: 0,
            floats,
            init: Init::Uniform { bound },
        });
        Some(ParameterId(self.parameters.len() - 1))
    }
}

/// What a layer gives, for the layers that take it.
struct Output {
    name: String,
    value: ValueId,
    shape: Shape,
    used: bool,
    field: String,
}

/// Builds the forward graph.
///
/// # Errors
/// The first layer whose input doesn't fit, at its field under `model`.
pub(crate) fn build(model: &Layers, input: &InputDescription) -> Result<Graph, FieldError> {
    let mut graph = Graph::default();
    let features = graph.value(INPUT, input.width);
    graph.features = features.0;
    let mut first = Output {
        name: INPUT.to_owned(),
        value: features,
        shape: model.input,
        used: false,
        field: "layers".to_owned(),
    };
    if let Shape::Image {
        channels,
        height,
        width,
    } = model.input
        && channels > 1
        && height * width > 1
    {
        let (x, positions) = (first.value, height * width);
        let y = graph.value(INPUT, input.width);
        let op = Op::ToChannelsLast {
            x,
            y,
            channels,
            positions,
        };
        graph.forward.push(node(INPUT, op));
        first.value = y;
    }
    let mut outputs = vec![first];
    for layer in &model.layers {
        let taken = find_input(layer, &outputs)?;
        outputs[taken].used = true;
        let (shape, value) = (outputs[taken].shape, outputs[taken].value);
        let from = outputs[taken].name.clone();
        let (value, shape) = add_layer(&mut graph, layer, value, shape).map_err(|message| {
            FieldError::new(&layer.field, format!("`{from}` gives {shape}; {message}"))
        })?;
        outputs.push(Output {
            name: layer.name.clone(),
            value,
            shape,
            used: false,
            field: layer.field.clone(),
        });
    }
    finish(graph, outputs, model, input)
}

fn node(layer: &str, op: Op) -> Node {
    Node {
        layer: layer.to_owned(),
        op,
    }
}

fn find_input(layer: &Layer, outputs: &[Output]) -> Result<usize, FieldError> {
    if outputs.iter().any(|output| output.name == layer.name) {
        let message = format!("the name `{}` is taken by an earlier layer", layer.name);
        return Err(FieldError::new(format!("{}.name", layer.field), message));
    }
    let Some(names) = &layer.inputs else {
        return Ok(outputs.len() - 1);
    };
    let field = format!("{}.inputs", layer.field);
    let [name] = names.as_slice() else {
        let (kind, count) = (layer.block.type_name(), names.len());
        let message = format!("{count} inputs given, `{kind}` takes 1");
        return Err(FieldError::new(field, message));
    };
    outputs
        .iter()
        .position(|output| output.name == *name)
        .ok_or_else(|| {
            let known: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            let message = format!("no layer `{name}` before it, only {}", known.join(", "));
            FieldError::new(field, message)
        })
}

fn finish(
    mut graph: Graph,
    outputs: Vec<Output>,
    model: &Layers,
    input: &InputDescription,
) -> Result<Graph, FieldError> {
    let needed = input.target.outputs();
    if let Some(lost) = outputs.iter().rev().skip(1).find(|output| !output.used) {
        let message = format!("`{}` is not used by any later layer", lost.name);
        return Err(FieldError::new(&lost.field, message));
    }
    let Some(last) = outputs.last() else {
        return Err(FieldError::new("layers", "at least 1 layer needed"));
    };
    let Shape::Flat { features, image } = last.shape else {
        let message = format!(
            "gives {}, the target needs [{needed}]: add a `flatten`",
            last.shape
        );
        return Err(FieldError::new(&model.output_field, message));
    };
    if features != needed {
        let message = format!("gives [{features}], the target needs [{needed}]");
        return Err(FieldError::new(&model.output_field, message));
    }
    if graph.parameters.is_empty() {
        return Err(FieldError::new(
            "layers",
            "no layer has parameters to train",
        ));
    }
    let mut scores = last.value;
    if let Some((channels, positions)) = image {
        let (x, y) = (scores, graph.value(&last.name, features));
        let op = Op::ToChannelsFirst {
            x,
            y,
            channels,
            positions,
        };
        graph.forward.push(node(&last.name, op));
        scores = y;
    }
    let parameters: u64 = graph.parameters.iter().map(|p| p.floats as u64).sum();
    if parameters > PARAMETERS_MAX {
        let message = format!("{parameters} parameters, at most {PARAMETERS_MAX} allowed");
        return Err(FieldError::new("", message));
    }
    graph.scores = scores.0;
    Ok(graph)
}

type Added = Result<(ValueId, Shape), String>;

fn too_large() -> String {
    "too large: a tensor would hold more than 2^34 numbers".to_owned()
}

fn add_layer(graph: &mut Graph, layer: &Layer, x: ValueId, shape: Shape) -> Added {
    let same = graph.values[x.0].row_floats;
    let path = layer.path.as_str();
    match &layer.block {
        Block::Linear { units, bias } => {
            let outputs = *units as usize;
            add_linear(graph, path, x, shape, outputs, *bias)
        }
        Block::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            bias,
        } => {
            let sizes = [*channels, *kernel, *stride, *padding].map(|n| n as usize);
            let conv = conv_geometry(shape, sizes)?;
            add_conv(graph, path, x, conv, *bias)
        }
        Block::MaxPool2d { kernel, stride } => {
            let (kernel, stride) = (*kernel as usize, stride.unwrap_or(*kernel) as usize);
            add_pool(graph, path, x, shape, kernel, stride)
        }
        Block::Flatten {} => Ok((x, shape.flatten())),
        Block::Activation { function } => {
            let (y, function) = (graph.value(path, same), *function);
            graph
                .forward
                .push(node(path, Op::Activate { x, y, function }));
            Ok((y, shape))
        }
        Block::Dropout { rate } if *rate == 0.0 => Ok((x, shape)),
        Block::Dropout { rate } => {
            let y = graph.value(path, same);
            let (rate, site) = (
                *rate,
                u16::try_from(graph.forward.len()).unwrap_or(u16::MAX),
            );
            graph
                .forward
                .push(node(path, Op::Dropout { x, y, rate, site }));
            Ok((y, shape))
        }
    }
}

fn add_bias(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    columns: usize,
    fan_in: usize,
) -> Option<ValueId> {
    let bias = graph.parameter(
        format!("{path}.bias"),
        vec![columns],
        Order::RowMajor,
        fan_in,
    )?;
    let row_floats = graph.values[x.0].row_floats;
    let y = graph.value(path, row_floats);
    graph.forward.push(node(
        path,
        Op::AddBias {
            x,
            y,
            bias,
            columns,
        },
    ));
    Some(y)
}

fn add_linear(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    shape: Shape,
    outputs: usize,
    bias: bool,
) -> Added {
    let Shape::Flat {
        features: inputs,
        image,
    } = shape
    else {
        return Err("`linear` takes [n]: add a `flatten` before it".to_owned());
    };
    let order = match image {
        Some((channels, positions)) => Order::ChannelsLast {
            channels,
            positions,
        },
        None => Order::RowMajor,
    };
    let weight = graph
        .parameter(
            format!("{path}.weight"),
            vec![outputs, inputs],
            order,
            inputs,
        )
        .ok_or_else(too_large)?;
    let mut y = graph.value(path, outputs);
    graph.forward.push(node(
        path,
        Op::Linear {
            x,
            y,
            weight,
            bias: None,
            activation: None,
            pre: None,
            transposed: None,
            inputs,
            outputs,
        },
    ));
    if bias {
        y = add_bias(graph, path, y, outputs, inputs).ok_or_else(too_large)?;
    }
    Ok((y, Shape::flat(outputs)))
}

fn conv_geometry(shape: Shape, sizes: [usize; 4]) -> Result<Conv, String> {
    let [out_channels, kernel, stride, padding] = sizes;
    let Shape::Image {
        channels: in_channels,
        height: in_height,
        width: in_width,
    } = shape
    else {
        return Err(
            "`conv2d` takes [channels, height, width]: set `input` to the shape of a row"
                .to_owned(),
        );
    };
    let out_height = windows(in_height, kernel, stride, padding);
    let out_width = windows(in_width, kernel, stride, padding);
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        return Err(format!(
            "a kernel of {kernel} x {kernel} doesn't fit with padding {padding}"
        ));
    };
    Ok(Conv {
        in_channels,
        in_height,
        in_width,
        out_channels,
        out_height,
        out_width,
        kernel,
        stride,
        padding,
        tile: Tile {
            images: 1,
            rows: out_height,
        },
    })
}

/// How often a window fits along one side.
fn windows(size: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    let room = (size + 2 * padding).checked_sub(kernel)?;
    Some(room / stride + 1)
}

fn add_conv(graph: &mut Graph, path: &str, x: ValueId, conv: Conv, bias: bool) -> Added {
    let shape = Shape::Image {
        channels: conv.out_channels,
        height: conv.out_height,
        width: conv.out_width,
    };
    let floats = shape.floats().ok_or_else(too_large)?;
    let fan_in = product(&[conv.kernel, conv.kernel, conv.in_channels]).ok_or_else(too_large)?;
    product(&[fan_in, conv.out_width]).ok_or_else(too_large)?;
    let order = Order::ChannelsLast {
        channels: conv.in_channels,
        positions: conv.kernel * conv.kernel,
    };
    let dimensions = vec![
        conv.out_channels,
        conv.in_channels,
        conv.kernel,
        conv.kernel,
    ];
    let weight = graph
        .parameter(format!("{path}.weight"), dimensions, order, fan_in)
        .ok_or_else(too_large)?;
    let mut y = graph.value(path, floats);
    graph.forward.push(node(
        path,
        Op::Conv2d {
            x,
            y,
            weight,
            bias: None,
            activation: None,
            pre: None,
            transposed: None,
            conv,
            columns: None,
        },
    ));
    if bias {
        y = add_bias(graph, path, y, conv.out_channels, fan_in).ok_or_else(too_large)?;
    }
    Ok((y, shape))
}

fn add_pool(
    graph: &mut Graph,
    path: &str,
    x: ValueId,
    shape: Shape,
    kernel: usize,
    stride: usize,
) -> Added {
    let Shape::Image {
        channels,
        height: in_height,
        width: in_width,
    } = shape
    else {
        return Err("`max_pool2d` takes [channels, height, width]".to_owned());
    };
    let out_height = windows(in_height, kernel, stride, 0);
    let out_width = windows(in_width, kernel, stride, 0);
    let (Some(out_height), Some(out_width)) = (out_height, out_width) else {
        return Err(format!("a window of {kernel} x {kernel} doesn't fit"));
    };
    let pool = Pool {
        channels,
        in_height,
        in_width,
        out_height,
        out_width,
        kernel,
        stride,
    };
    let shape = Shape::Image {
        channels,
        height: out_height,
        width: out_width,
    };
    let y = graph.value(path, shape.floats().ok_or_else(too_large)?);
    graph.forward.push(node(path, Op::MaxPool { x, y, pool }));
    Ok((y, shape))
}
