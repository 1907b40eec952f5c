//! The model part of a spec: a family with its parameters, or a graph of named blocks.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::id::check_name;

/// Most layers in one model.
const LAYERS_MAX: usize = 1024;
/// Largest width of a layer: units or channels.
const WIDTH_MAX: u32 = 1 << 20;

/// What to train: `family = "…"` with its parameters, or `layers = […]`.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSpec {
    /// A preset, which expands to layers.
    Family(Family),
    /// A graph of named blocks. `input` is the shape of one row when it isn't flat.
    Layers {
        /// Shape of one row as the first layer sees it, as in `[1, 8, 8]` (channels, height, width).
        input: Option<Vec<u32>>,
        /// The blocks, each before those that take it as input.
        layers: Vec<LayerSpec>,
    },
}

/// The preset families.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum Family {
    /// A multi-layer perceptron.
    Mlp {
        /// Units of each hidden layer.
        #[serde(default = "default_hidden")]
        hidden: Vec<u32>,
        /// After each hidden layer.
        #[serde(default)]
        activation: Activation,
        /// Share of hidden activations dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
    /// A convolutional network: per entry of `channels` a convolution with "same" padding and the
    /// activation, then max pooling; then the dense layers.
    Cnn {
        /// Shape of one row: channels, height, width.
        input: Vec<u32>,
        /// Output channels of each convolution.
        #[serde(default = "default_channels")]
        channels: Vec<u32>,
        /// Height and width of each kernel; odd.
        #[serde(default = "default_kernel")]
        kernel: u32,
        /// Height, width and stride of the max pooling after each convolution; 1 for none.
        #[serde(default = "default_pool")]
        pool: u32,
        /// Units of each dense layer before the output.
        #[serde(default = "default_dense")]
        dense: Vec<u32>,
        /// After each convolution and dense layer.
        #[serde(default)]
        activation: Activation,
        /// Share of dense activations dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
}

fn default_hidden() -> Vec<u32> {
    vec![128]
}
fn default_channels() -> Vec<u32> {
    vec![32, 64]
}
const fn default_kernel() -> u32 {
    3
}
const fn default_pool() -> u32 {
    2
}
fn default_dense() -> Vec<u32> {
    vec![128]
}

/// Element-wise non-linearities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Exact GELU: x Φ(x) (Hendrycks & Gimpel 2016).
    Gelu,
    /// x σ(x) (Elfwing et al. 2017).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

/// One block of a graph: a name, its inputs, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// Unique name; `<type><index>` when absent.
    pub name: Option<String>,
    /// Names of the blocks it takes; the one before it when absent.
    pub inputs: Option<Vec<String>>,
    /// What it does.
    pub block: Block,
}

/// What a block does. Shapes are per row: `[features]` or `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// y = x Wᵀ + b; `[n]` to `[units]`. Weight `[units, n]`, as PyTorch has it.
    Linear {
        /// Output features.
        units: u32,
        /// Whether b is there.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// 2-D cross-correlation; `[c, h, w]` to `[channels, h', w']`. Weight `[channels, c, k, k]`.
    Conv2d {
        /// Output channels.
        channels: u32,
        /// Height and width of the kernel.
        kernel: u32,
        /// Step of the window.
        #[serde(default = "default_one")]
        stride: u32,
        /// Zeros added on each side.
        #[serde(default)]
        padding: u32,
        /// Whether a bias per channel is added.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// Maximum over windows.
    MaxPool2d {
        /// Height and width of the window.
        kernel: u32,
        /// Step of the window; the kernel's size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<u32>,
    },
    /// Any shape to `[n]`.
    Flatten {},
    /// An element-wise non-linearity.
    Activation {
        /// Which.
        function: Activation,
    },
    /// Drops each element with probability `rate` in training and scales the rest by 1 / (1 - rate).
    Dropout {
        /// 0 up to, not including, 1.
        rate: f32,
    },
}

const fn default_true() -> bool {
    true
}
const fn default_one() -> u32 {
    1
}

impl Block {
    /// The block's type as it is written in a spec.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::Flatten {} => "flatten",
            Self::Activation { .. } => "activation",
            Self::Dropout { .. } => "dropout",
        }
    }
}

impl ModelSpec {
    /// Checks the limits that don't depend on the data. Shapes are checked by the compiler.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut checks = Checks::default();
        match self {
            Self::Family(family) => family.validate(&mut checks),
            Self::Layers { layers, .. } => {
                checks.count("layers", layers.len());
                for (index, layer) in layers.iter().enumerate() {
                    layer
                        .block
                        .validate(&format!("layers[{index}]"), &mut checks);
                }
            }
        }
        checks.0
    }
}

/// What is wrong so far.
#[derive(Default)]
struct Checks(Vec<FieldError>);

impl Checks {
    fn count(&mut self, field: &str, count: usize) {
        if count > LAYERS_MAX {
            let message = format!("{count} given, at most {LAYERS_MAX} allowed");
            self.0.push(FieldError::new(field, message));
        }
    }

    fn width(&mut self, field: String, value: u32) {
        if !(1..=WIDTH_MAX).contains(&value) {
            self.0.push(FieldError::new(
                field,
                format!("{value} is not in 1 to {WIDTH_MAX}"),
            ));
        }
    }

    fn widths(&mut self, field: &str, values: &[u32]) {
        self.count(field, values.len());
        for (index, &value) in values.iter().enumerate() {
            self.width(format!("{field}[{index}]"), value);
        }
    }

    fn share(&mut self, field: String, value: f32) {
        if !(0.0..1.0).contains(&value) {
            let message = format!("{value} is not a share: from 0 up to, not including, 1");
            self.0.push(FieldError::new(field, message));
        }
    }
}

impl Family {
    fn validate(&self, checks: &mut Checks) {
        match self {
            Self::Mlp {
                hidden, dropout, ..
            } => {
                checks.widths("hidden", hidden);
                checks.share("dropout".to_owned(), *dropout);
            }
            Self::Cnn {
                channels,
                kernel,
                pool,
                dense,
                dropout,
                ..
            } => {
                checks.widths("channels", channels);
                checks.widths("dense", dense);
                checks.share("dropout".to_owned(), *dropout);
                checks.width("kernel".to_owned(), *kernel);
                checks.width("pool".to_owned(), *pool);
                if kernel % 2 == 0 {
                    let message = format!("{kernel} is even; \"same\" padding needs an odd kernel");
                    checks.0.push(FieldError::new("kernel", message));
                }
            }
        }
    }
}

impl Block {
    fn validate(&self, at: &str, checks: &mut Checks) {
        match self {
            Self::Linear { units, .. } => checks.width(format!("{at}.units"), *units),
            Self::Conv2d {
                channels,
                kernel,
                stride,
                ..
            } => {
                checks.width(format!("{at}.channels"), *channels);
                checks.width(format!("{at}.kernel"), *kernel);
                checks.width(format!("{at}.stride"), *stride);
            }
            Self::MaxPool2d { kernel, stride } => {
                checks.width(format!("{at}.kernel"), *kernel);
                checks.width(format!("{at}.stride"), stride.unwrap_or(1));
            }
            Self::Dropout { rate } => checks.share(format!("{at}.rate"), *rate),
            Self::Flatten {} | Self::Activation { .. } => {}
        }
    }
}

/// The OpenAPI document shows the families; `layers` is described in the text.
impl utoipa::PartialSchema for ModelSpec {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        Family::schema()
    }
}
impl ToSchema for ModelSpec {
    fn schemas(
        schemas: &mut Vec<(
            String,
            utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>,
        )>,
    ) {
        Family::schemas(schemas);
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Layers<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            input: &'a Option<Vec<u32>>,
            layers: &'a [LayerSpec],
        }
        match self {
            Self::Family(family) => family.serialize(serializer),
            Self::Layers { input, layers } => Layers { input, layers }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Layers {
            #[serde(default)]
            input: Option<Vec<u32>>,
            layers: Vec<LayerSpec>,
        }
        let value = Value::deserialize(deserializer)?;
        if value.get("layers").is_some() {
            let Layers { input, layers } = nested(value)?;
            return Ok(Self::Layers { input, layers });
        }
        if value.get("family").is_none() {
            return Err(D::Error::custom("needs `family = \"…\"` or `layers = […]`"));
        }
        nested(value).map(Self::Family)
    }
}

/// Deserialises a value, carrying the inner path out in the message as `path: message`, which
/// [`super::parse`] joins to the outer path.
fn nested<T: serde::de::DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => E::custom(error.inner()),
            path => E::custom(format_args!("\u{1}{path}\u{1}{}", error.inner())),
        }
    })
}

impl Serialize for LayerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: &'a Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            inputs: &'a Option<Vec<String>>,
            #[serde(flatten)]
            block: &'a Block,
        }
        Flat {
            name: &self.name,
            inputs: &self.inputs,
            block: &self.block,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::<String, Value>::deserialize(deserializer)?;
        let mut take = |field: &str| fields.remove(field);
        let name = take("name").map(nested::<String, D::Error>).transpose()?;
        let inputs = take("inputs").map(nested).transpose()?;
        if let Some(name) = &name {
            check_name(name).map_err(D::Error::custom)?;
        }
        Ok(Self {
            name,
            inputs,
            block: nested(Value::Object(fields))?,
        })
    }
}
