//! From layers to the forward graph: shapes are inferred, parameters made, errors named.

use stoker_domain::FieldError;
use stoker_domain::spec::Block;

use crate::columns;
use crate::ends::Ends;
use crate::family::{Layer, Layers};
use crate::input::{InputDescription, Target};
use crate::limits::{PARAMETERS_MAX, product};
use crate::norm;
use crate::op::{Op, ParameterId, ValueId};
use crate::plan::{Init, Order, Parameter};
use crate::sequence;
use crate::shape::Shape;
use crate::{concat, enlarge, image};

/// The name by which a layer may take the rows themselves.
const INPUT: &str = "input";
/// Most inputs of one layer.
const INPUTS_MAX: usize = 16;
/// Most inputs of a layer that pairs vectors.
const VECTORS_MAX: usize = 64;

/// A graph in the making: values with shapes, parameters, and operations in order.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) values: Vec<GraphValue>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) forward: Vec<Node>,
    pub(crate) backward: Vec<Node>,
    pub(crate) features: usize,
    /// What was selected of the features, and its vocabulary.
    pub(crate) selected: Vec<(ValueId, Option<usize>)>,
    pub(crate) scores: usize,
    pub(crate) score_gradient: usize,
}

/// A value: so many numbers per row.
#[derive(Debug, Clone)]
pub(crate) struct GraphValue {
    pub(crate) name: String,
    pub(crate) row_floats: usize,
    /// Where its rows end, where it holds positions of rows that do.
    pub(crate) ends: Option<Ends>,
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
            ends: None,
        });
        ValueId(self.values.len() - 1)
    }

    /// The vocabulary of the features or what was selected of them: nothing for another value, and
    /// `Some(None)` where they are no token ids.
    fn vocabulary_of(&self, x: ValueId, input: &InputDescription) -> Option<Option<usize>> {
        if x.0 == self.features {
            return Some(input.vocabulary);
        }
        let mut selected = self.selected.iter();
        selected.find(|(y, _)| *y == x).map(|&(_, held)| held)
    }

    /// Nothing when it would be too large.
    pub(crate) fn parameter(
        &mut self,
        name: String,
        shape: Vec<usize>,
        order: Order,
        init: Init,
    ) -> Option<ParameterId> {
        let floats = product(&shape)?;
        self.parameters.push(Parameter {
            name,
            shape,
            order,
            offset: 0,
            floats,
            init,
            trained: true,
        });
        Some(ParameterId(self.parameters.len() - 1))
    }

    /// x, dropped.
    pub(crate) fn dropout(&mut self, layer: &str, x: ValueId, rate: f32) -> ValueId {
        let y = self.value(layer, self.values[x.0].row_floats);
        let site = u16::try_from(self.forward.len()).unwrap_or(u16::MAX);
        self.push(layer, Op::Dropout { x, y, rate, site });
        y
    }

    pub(crate) fn push(&mut self, layer: &str, op: Op) {
        self.forward.push(Node {
            layer: layer.to_owned(),
            op,
        });
    }
}

/// The initial weights of linear and convolution layers.
pub(crate) fn by_fan_in(fan_in: usize) -> Init {
    #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
    Init::Uniform { bound }
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
        graph.push(INPUT, op);
        first.value = y;
    }
    let mut outputs = vec![first];
    for layer in &model.layers {
        let taken = find_inputs(layer, &outputs)?;
        let mut given = Vec::with_capacity(taken.len());
        for &index in &taken {
            outputs[index].used = true;
            given.push((outputs[index].value, outputs[index].shape));
        }
        let (value, shape) =
            add_layer(&mut graph, layer, &given, input).map_err(|error| match error {
                Refusal::Layer(message) => {
                    let from = &outputs[taken[0]];
                    let message = format!("`{}` gives {}; {message}", from.name, from.shape);
                    FieldError::new(&layer.field, message)
                }
                Refusal::Field(error) => error.under(&layer.field),
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

/// Where the inputs of a layer are among the outputs so far: at least one.
fn find_inputs(layer: &Layer, outputs: &[Output]) -> Result<Vec<usize>, FieldError> {
    if outputs.iter().any(|output| output.name == layer.name) {
        let message = format!("the name `{}` is taken by an earlier layer", layer.name);
        return Err(FieldError::new(format!("{}.name", layer.field), message));
    }
    let before = [outputs[outputs.len() - 1].name.clone()];
    let names = layer.inputs.as_deref().unwrap_or(&before);
    let field = format!("{}.inputs", layer.field);
    let (kind, count) = (layer.block.type_name(), names.len());
    let takes = match layer.block {
        Block::Add {} | Block::Concat {} if !(2..=INPUTS_MAX).contains(&count) => "2 to 16",
        Block::Add {} | Block::Concat {} => "",
        Block::Dot {} | Block::Sample { .. } if count != 2 => "2",
        Block::Interact {} if !(1..=VECTORS_MAX).contains(&count) => "1 to 64",
        Block::Dot {} | Block::Sample { .. } | Block::Interact {} => "",
        _ if count != 1 => "1",
        _ => "",
    };
    if !takes.is_empty() {
        let message = format!("{count} inputs given, `{kind}` takes {takes}");
        return Err(FieldError::new(field, message));
    }
    let find = |name: &String| {
        let found = outputs.iter().position(|output| output.name == *name);
        found.ok_or_else(|| {
            let known: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            let message = format!("no layer `{name}` before it, only {}", known.join(", "));
            FieldError::new(&field, message)
        })
    };
    names.iter().map(find).collect()
}

fn finish(
    mut graph: Graph,
    outputs: Vec<Output>,
    model: &Layers,
    input: &InputDescription,
) -> Result<Graph, FieldError> {
    if let Some(lost) = outputs.iter().rev().skip(1).find(|output| !output.used) {
        let message = format!("`{}` is not used by any later layer", lost.name);
        return Err(FieldError::new(&lost.field, message));
    }
    let Some(last) = outputs.last() else {
        return Err(FieldError::new("layers", "at least 1 layer needed"));
    };
    let needed = match input.target {
        Target::Classes(_) | Target::Values(_) | Target::Quantiles { .. } => {
            Shape::flat(input.target.outputs())
        }
        Target::Sequence { classes, positions } | Target::Masked { classes, positions } => {
            Shape::Sequence {
                length: positions,
                features: classes,
            }
        }
    };
    let image = match (last.shape, needed) {
        (Shape::Flat { features, image }, Shape::Flat { features: n, .. }) if features == n => {
            image
        }
        (shape, needed) if shape == needed => None,
        // A class or more numbers at each position of an image.
        (shape @ Shape::Image { .. }, Shape::Flat { .. }) if takes_image(shape, input.target) => {
            match shape.flatten() {
                Shape::Flat { image, .. } => image,
                _ => None,
            }
        }
        (shape, Shape::Sequence { .. }) if takes_image(shape, input.target) => None,
        (shape @ Shape::Image { .. }, Shape::Sequence { length, features }) => {
            let message = format!(
                "gives {shape}, the target needs {features} scores at each of {length} positions"
            );
            return Err(FieldError::new(&model.output_field, message));
        }
        (shape, needed) => {
            let flat = matches!(needed, Shape::Flat { .. }) && !matches!(shape, Shape::Flat { .. });
            let hint = if flat { ": add a `flatten`" } else { "" };
            let message = format!("gives {shape}, the target needs {needed}{hint}");
            return Err(FieldError::new(&model.output_field, message));
        }
    };
    if graph.parameters.is_empty() {
        return Err(FieldError::new(
            "layers",
            "no layer has parameters to train",
        ));
    }
    let mut scores = last.value;
    if let Some((channels, positions)) = image {
        let (x, y) = (scores, graph.value(&last.name, channels * positions));
        let op = Op::ToChannelsFirst {
            x,
            y,
            channels,
            positions,
        };
        graph.push(&last.name, op);
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

/// Whether an image is what is predicted: a score per class at each position, or numbers.
fn takes_image(shape: Shape, target: Target) -> bool {
    let Shape::Image {
        channels,
        height,
        width,
    } = shape
    else {
        return false;
    };
    match target {
        Target::Sequence { classes, positions } => {
            (channels, height * width) == (classes, positions)
        }
        Target::Values(count) => shape.floats() == Some(count),
        Target::Classes(_) | Target::Masked { .. } | Target::Quantiles { .. } => false,
    }
}

/// What a layer gives, or why it can't be.
pub(crate) type Added = Result<(ValueId, Shape), Refusal>;

/// Why a layer can't be added.
pub(crate) enum Refusal {
    /// Its input doesn't fit.
    Layer(String),
    /// One of its own fields is wrong.
    Field(FieldError),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Layer(message)
    }
}

pub(crate) fn too_large() -> String {
    "too large: a tensor would hold more than 2^34 numbers".to_owned()
}

fn add_layer(
    graph: &mut Graph,
    layer: &Layer,
    given: &[(ValueId, Shape)],
    input: &InputDescription,
) -> Added {
    let (x, shape) = given[0];
    let same = graph.values[x.0].row_floats;
    let path = layer.path.as_str();
    match &layer.block {
        Block::Embedding {
            units,
            vocabulary,
            deviation,
        } => {
            let held = graph.vocabulary_of(x, input);
            let vocabulary = sequence::vocabulary(*vocabulary, held)?;
            let sizes = [vocabulary, *units as usize];
            sequence::add_embedding(graph, path, (x, shape), sizes, *deviation)
        }
        Block::Select { .. }
        | Block::Dot {}
        | Block::Interact {}
        | Block::Bias { .. }
        | Block::Sample { .. } => columns::add(graph, path, &layer.block, given, input),
        Block::Position { deviation } => {
            sequence::add_position(graph, path, (x, shape), *deviation)
        }
        Block::LayerNorm { epsilon } => sequence::add_norm(graph, path, (x, shape), *epsilon, true),
        Block::RmsNorm { epsilon } => sequence::add_norm(graph, path, (x, shape), *epsilon, false),
        Block::BatchNorm { .. } | Block::GroupNorm { .. } => {
            norm::add_norm(graph, path, (x, shape), &layer.block)
        }
        Block::Attention { .. }
        | Block::Lstm { .. }
        | Block::Gru { .. }
        | Block::LastPosition {} => sequence::add_block(graph, path, (x, shape), &layer.block),
        Block::Add {} => add_sum(graph, path, given),
        Block::Concat {} => concat::add_concat(graph, path, given),
        Block::Linear { units, bias } => {
            let outputs = *units as usize;
            add_linear(graph, path, x, shape, outputs, *bias)
        }
        Block::Conv1d { .. } | Block::Conv2d { .. } => {
            let (window, bias) = image::window_of(&layer.block);
            let conv = image::conv_geometry(shape, &window)?;
            image::add_conv(graph, path, x, conv, bias)
        }
        Block::MaxPool1d { .. }
        | Block::AvgPool1d { .. }
        | Block::MaxPool2d { .. }
        | Block::AvgPool2d { .. } => image::add_pool(graph, path, (x, shape), &layer.block),
        Block::GlobalAvgPool {} => image::add_mean(graph, path, (x, shape)),
        Block::GlobalMaxPool {} => image::add_maximum(graph, path, (x, shape)),
        Block::ConvTranspose1d { .. } | Block::ConvTranspose2d { .. } => {
            enlarge::add_conv_transpose(graph, path, (x, shape), &layer.block)
        }
        Block::Upsample { factor, mode } => {
            enlarge::add_upsample(graph, path, (x, shape), *factor as usize, *mode)
        }
        Block::Flatten {} => Ok((x, shape.flatten())),
        Block::Activation { function } => {
            let (y, function) = (graph.value(path, same), *function);
            graph.push(path, Op::Activate { x, y, function });
            Ok((y, shape))
        }
        Block::Dropout { rate } if *rate == 0.0 => Ok((x, shape)),
        Block::Dropout { rate } => Ok((graph.dropout(path, x, *rate), shape)),
    }
}

/// The sum of two values or more, from the left.
fn add_sum(graph: &mut Graph, path: &str, given: &[(ValueId, Shape)]) -> Added {
    let (mut sum, shape) = given[0];
    for &(b, other) in &given[1..] {
        if other != shape {
            return Err(format!("`add` needs inputs of one shape, another gives {other}").into());
        }
        let (a, row_floats) = (sum, graph.values[sum.0].row_floats);
        sum = graph.value(path, row_floats);
        graph.push(path, Op::Add { a, b, y: sum });
    }
    Ok((sum, shape))
}

/// Adds a bias along the last dimension.
pub(crate) fn add_bias(
    graph: &mut Graph,
    layer: &str,
    name: String,
    x: ValueId,
    columns: usize,
    init: Init,
) -> Option<ValueId> {
    let bias = graph.parameter(name, vec![columns], Order::RowMajor, init)?;
    let row_floats = graph.values[x.0].row_floats;
    let y = graph.value(layer, row_floats);
    let op = Op::AddBias {
        x,
        y,
        bias,
        columns,
    };
    graph.push(layer, op);
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
    let (positions, inputs, order, out) = match shape {
        Shape::Flat { features, .. } => (1, features, shape.order(), Shape::flat(outputs)),
        Shape::Sequence { length, features } => {
            let out = Shape::Sequence {
                length,
                features: outputs,
            };
            (length, features, Order::RowMajor, out)
        }
        Shape::Image { .. } => {
            let message = "`linear` takes [n] or [length, n]: add a `flatten` before it";
            return Err(message.to_owned().into());
        }
    };
    let weight = graph
        .parameter(
            format!("{path}.weight"),
            vec![outputs, inputs],
            order,
            by_fan_in(inputs),
        )
        .ok_or_else(too_large)?;
    let sizes = [positions, inputs, outputs];
    let mut y = push_linear(graph, path, x, weight, sizes).ok_or_else(too_large)?;
    if bias {
        let name = format!("{path}.bias");
        let init = by_fan_in(inputs);
        y = add_bias(graph, path, name, y, outputs, init).ok_or_else(too_large)?;
    }
    Ok((y, out))
}

/// y = x Wᵀ for `[positions, inputs, outputs]`.
pub(crate) fn push_linear(
    graph: &mut Graph,
    layer: &str,
    x: ValueId,
    weight: ParameterId,
    [positions, inputs, outputs]: [usize; 3],
) -> Option<ValueId> {
    let y = graph.value(layer, product(&[positions, outputs])?);
    let op = Op::Linear {
        x,
        y,
        weight,
        bias: None,
        activation: None,
        pre: None,
        transposed: None,
        positions,
        inputs,
        outputs,
    };
    graph.push(layer, op);
    Some(y)
}
