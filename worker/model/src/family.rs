//! From a model spec to a list of named layers.

mod resnet;
mod sequences;
mod unet;

use stoker_domain::FieldError;
use stoker_domain::spec::{Activation, Block, Family, LayerSpec, ModelSpec};

use crate::input::{InputDescription, Target};
use crate::shape::Shape;

pub(crate) use sequences::masking;

/// A model as layers, and what its first layer sees.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    pub(crate) input: Shape,
    pub(crate) layers: Vec<Layer>,
    /// Field to blame when the last layer's shape isn't the target's.
    pub(crate) output_field: String,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Where its parameters are in a state dict: its own name, or `layers.<index>`.
    pub(crate) path: String,
    /// The name that other layers use.
    pub(crate) name: String,
    pub(crate) inputs: Option<Vec<String>>,
    pub(crate) block: Block,
    /// The field of the spec that asked for it, under `model`.
    pub(crate) field: String,
}

/// Expands a family to its layers, with the output layer that the target needs.
pub(crate) fn expand(model: &ModelSpec, input: &InputDescription) -> Result<Layers, FieldError> {
    let outputs = input.target.outputs();
    if let (Target::Masked { .. }, None) = (input.target, masking(model, input)) {
        let message = "this model doesn't predict its own features: name data.target";
        return Err(FieldError::new("", message));
    }
    match model {
        ModelSpec::Layers {
            input: shape,
            layers,
        } => {
            let given: Option<Vec<usize>> =
                (shape.as_ref()).map(|s| s.iter().map(|&n| n as usize).collect());
            let natural = (input.shape.len() == 3).then(|| input.shape.clone());
            let input = match given.or(natural) {
                Some(shape) => row_shape(&shape, input.width)?,
                None => Shape::flat(input.width),
            };
            Ok(Layers {
                input,
                output_field: match layers.len().checked_sub(1) {
                    Some(last) => format!("layers[{last}]"),
                    None => "layers".to_owned(),
                },
                layers: (layers.iter().enumerate())
                    .map(|(index, layer)| named_layer(index, layer))
                    .collect(),
            })
        }
        ModelSpec::Family(Family::Mlp {
            hidden,
            activation,
            dropout,
        }) => {
            let mut builder = Builder::default();
            builder.dense("hidden", hidden, *activation, *dropout);
            builder.output(outputs)?;
            Ok(builder.finish(Shape::flat(input.width)))
        }
        ModelSpec::Family(family @ Family::Cnn { input: shape, .. }) => {
            let shape = image_shape(shape, input.width)?;
            let mut builder = Builder::default();
            builder.cnn(family);
            builder.output(outputs)?;
            Ok(builder.finish(shape))
        }
        ModelSpec::Family(family @ Family::Resnet { input: shape, .. }) => {
            let shape = image_shape(shape, input.width)?;
            let mut builder = Builder::default();
            builder.resnet(family, outputs);
            Ok(builder.finish(shape))
        }
        ModelSpec::Family(family @ Family::Unet { .. }) => unet::expand(family, input),
        ModelSpec::Family(
            family @ (Family::Gpt { .. }
            | Family::Encoder { .. }
            | Family::Lstm { .. }
            | Family::Tcn { .. }),
        ) => sequences::expand(family, input),
    }
}

fn named_layer(index: usize, layer: &LayerSpec) -> Layer {
    let own = layer.name.clone();
    Layer {
        path: own.clone().unwrap_or_else(|| format!("layers.{index}")),
        name: own.unwrap_or_else(|| format!("{}{index}", layer.block.type_name())),
        inputs: layer.inputs.clone(),
        block: layer.block.clone(),
        field: format!("layers[{index}]"),
    }
}

/// The shape of a row that must be an image.
fn image_shape(shape: &[u32], width: usize) -> Result<Shape, FieldError> {
    let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    if shape.len() != 3 {
        let message = format!("{shape:?} given, [channels, height, width] needed");
        return Err(FieldError::new("input", message));
    }
    row_shape(&shape, width)
}

fn row_shape(shape: &[usize], width: usize) -> Result<Shape, FieldError> {
    let holds = shape
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size));
    if holds != Some(width) {
        let holds = holds.map_or_else(|| "too many".to_owned(), |n| n.to_string());
        let message = format!("{shape:?} holds {holds} numbers, but a row has {width}");
        return Err(FieldError::new("input", message));
    }
    match *shape {
        [features] => Ok(Shape::flat(features)),
        [length, features] => Ok(Shape::Sequence { length, features }),
        [channels, height, width] => Ok(Shape::Image {
            channels,
            height,
            width,
        }),
        _ => {
            let message = format!(
                "{shape:?} given, [features], [length, features] or [channels, height, width] needed"
            );
            Err(FieldError::new("input", message))
        }
    }
}

#[derive(Default)]
struct Builder {
    layers: Vec<Layer>,
}

impl Builder {
    fn push(&mut self, field: String, block: Block) {
        let index = self.layers.len();
        self.layers.push(Layer {
            path: format!("layers.{index}"),
            name: format!("{}{index}", block.type_name()),
            inputs: None,
            block,
            field,
        });
    }

    fn dense(&mut self, field: &str, widths: &[u32], function: Activation, dropout: f32) {
        for (index, &units) in widths.iter().enumerate() {
            let field = format!("{field}[{index}]");
            self.push(field.clone(), Block::Linear { units, bias: true });
            self.push(field, Block::Activation { function });
            if dropout > 0.0 {
                self.push("dropout".to_owned(), Block::Dropout { rate: dropout });
            }
        }
    }

    fn cnn(&mut self, family: &Family) {
        let Family::Cnn {
            channels,
            kernel,
            pool,
            dense,
            activation,
            dropout,
            ..
        } = family
        else {
            return;
        };
        for (index, &channels) in channels.iter().enumerate() {
            let field = format!("channels[{index}]");
            let block = Block::Conv2d {
                channels,
                kernel: *kernel,
                stride: 1,
                padding: kernel / 2,
                dilation: 1,
                groups: 1,
                bias: true,
            };
            self.push(field.clone(), block);
            self.push(
                field,
                Block::Activation {
                    function: *activation,
                },
            );
            if *pool > 1 {
                let block = Block::MaxPool2d {
                    kernel: *pool,
                    stride: None,
                    padding: 0,
                };
                self.push("pool".to_owned(), block);
            }
        }
        self.push("input".to_owned(), Block::Flatten {});
        self.dense("dense", dense, *activation, *dropout);
    }

    /// A layer with a name of its own, which takes `inputs` or else the layer before it.
    fn named(&mut self, name: String, inputs: &[&str], field: &str, block: Block) {
        self.layers.push(Layer {
            path: name.clone(),
            name,
            inputs: (!inputs.is_empty()).then(|| inputs.iter().map(|&i| i.to_owned()).collect()),
            block,
            field: field.to_owned(),
        });
    }

    /// Adds the last layer's output, dropped, to that of `from`. Returns the sum's name.
    fn residual(&mut self, from: &str, dropped: String, sum: String, rate: f32) -> String {
        if rate > 0.0 {
            self.named(dropped, &[], "dropout", Block::Dropout { rate });
        }
        let last = self.layers.last().map(|layer| layer.name.clone());
        let last = last.unwrap_or_default();
        self.named(sum.clone(), &[from, &last], "", Block::Add {});
        sum
    }

    fn output(&mut self, outputs: usize) -> Result<(), FieldError> {
        let units = u32::try_from(outputs)
            .map_err(|_| FieldError::new("", format!("{outputs} outputs are too many")))?;
        self.push(String::new(), Block::Linear { units, bias: true });
        Ok(())
    }

    fn finish(self, input: Shape) -> Layers {
        Layers {
            input,
            layers: self.layers,
            output_field: String::new(),
        }
    }
}
