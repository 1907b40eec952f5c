//! The model part of a spec: a family with its parameters, or a graph of named blocks.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::id::check_name;

/// Most layers in one model.
const LAYERS_MAX: usize = 1024;
/// Layers that a block of the `gpt` family expands to.
const GPT_BLOCK_LAYERS: usize = 10;
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
    /// A decoder-only transformer over token ids, which predicts the token at each position
    /// (Radford et al. 2019: normalisation before each half of a block).
    Gpt {
        /// Blocks of attention and feed-forward layers.
        #[serde(default = "default_depth")]
        depth: u32,
        /// Numbers per position.
        #[serde(default = "default_model_width")]
        width: u32,
        /// Attention heads; divides `width`.
        #[serde(default = "default_heads")]
        heads: u32,
        /// Heads of keys and values, shared by groups of heads; divides `heads`, which it is when
        /// absent (Ainslie et al. 2023).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kv_heads: Option<u32>,
        /// Units of the feed-forward layers; 4 times `width` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feed_forward: Option<u32>,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Share of each half's output dropped in training, 0 up to, not including, 1.
        #[serde(default)]
        dropout: f32,
    },
}

const fn default_depth() -> u32 {
    4
}
const fn default_model_width() -> u32 {
    128
}
const fn default_heads() -> u32 {
    4
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

/// What a block does. Shapes are per row: `[features]`, `[length, features]` or
/// `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// y = x Wᵀ + b over the last dimension; `[…, n]` to `[…, units]`. Weight `[units, n]`, as
    /// PyTorch has it.
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
    /// A vector per token id; `[length]` to `[length, units]`. Weight `[vocabulary, units]`.
    Embedding {
        /// Numbers per token.
        units: u32,
        /// Token ids are 0 up to, not including, this; what the data holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<u32>,
        /// Standard deviation of the initial weights.
        #[serde(default = "default_embedding_deviation")]
        deviation: f32,
    },
    /// Adds a learned vector per position; `[length, n]` to the same. Weight `[length, n]`.
    Position {
        /// Standard deviation of the initial weights.
        #[serde(default = "default_position_deviation")]
        deviation: f32,
    },
    /// Layer normalisation over the last dimension (Ba et al. 2016), with gain and bias.
    LayerNorm {
        /// Added to the variance.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
    },
    /// Normalisation by the root of the mean square of the last dimension (Zhang & Sennrich
    /// 2019), with gain.
    RmsNorm {
        /// Added to the mean square.
        #[serde(default = "default_norm_epsilon")]
        epsilon: f32,
    },
    /// Multi-head self-attention with its projections (Vaswani et al. 2017); `[length, n]` to the
    /// same. Names and shapes of PyTorch's `MultiheadAttention`; with fewer `kv_heads`,
    /// `in_proj_weight` has that many fewer rows.
    Attention {
        /// Heads; divides n.
        heads: u32,
        /// Heads of keys and values, shared by groups of heads; divides `heads`, which it is when
        /// absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kv_heads: Option<u32>,
        /// Whether a position sees itself and those before it only.
        #[serde(default)]
        causal: bool,
        /// Whether the projections have biases.
        #[serde(default = "default_true")]
        bias: bool,
    },
    /// The sum of its inputs, which all have one shape: a residual connection.
    Add {},
}

const fn default_embedding_deviation() -> f32 {
    1.0
}
const fn default_position_deviation() -> f32 {
    0.02
}
const fn default_norm_epsilon() -> f32 {
    1e-5
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
            Self::Embedding { .. } => "embedding",
            Self::Position { .. } => "position",
            Self::LayerNorm { .. } => "layer_norm",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Attention { .. } => "attention",
            Self::Add {} => "add",
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

    fn optional_width(&mut self, field: String, value: Option<u32>) {
        self.width(field, value.unwrap_or(1));
    }

    fn above_zero(&mut self, field: String, value: f32) {
        if !(value > 0.0 && value.is_finite()) {
            let message = format!("{value} is not a number above 0");
            self.0.push(FieldError::new(field, message));
        }
    }

    /// `part` must divide `whole`; what is out of range is told elsewhere.
    fn divides(&mut self, field: String, part: u32, whole: u32, name: &str) {
        if part > 0 && !whole.is_multiple_of(part) {
            let message = format!("{part} doesn't divide {name}, which is {whole}");
            self.0.push(FieldError::new(field, message));
        }
    }

    fn heads(&mut self, at: &str, heads: u32, kv_heads: Option<u32>) {
        self.width(format!("{at}heads"), heads);
        self.optional_width(format!("{at}kv_heads"), kv_heads);
        self.divides(
            format!("{at}kv_heads"),
            kv_heads.unwrap_or(1),
            heads,
            "`heads`",
        );
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
            Self::Gpt {
                depth,
                width,
                heads,
                kv_heads,
                feed_forward,
                vocabulary,
                dropout,
            } => {
                checks.count("depth", *depth as usize * GPT_BLOCK_LAYERS);
                checks.width("depth".to_owned(), *depth);
                checks.width("width".to_owned(), *width);
                checks.heads("", *heads, *kv_heads);
                checks.divides("heads".to_owned(), *heads, *width, "`width`");
                checks.optional_width("feed_forward".to_owned(), *feed_forward);
                checks.optional_width("vocabulary".to_owned(), *vocabulary);
                checks.share("dropout".to_owned(), *dropout);
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
            Self::Embedding {
                units,
                vocabulary,
                deviation,
            } => {
                checks.width(format!("{at}.units"), *units);
                checks.optional_width(format!("{at}.vocabulary"), *vocabulary);
                checks.above_zero(format!("{at}.deviation"), *deviation);
            }
            Self::Position { deviation } => {
                checks.above_zero(format!("{at}.deviation"), *deviation);
            }
            Self::LayerNorm { epsilon } | Self::RmsNorm { epsilon } => {
                checks.above_zero(format!("{at}.epsilon"), *epsilon);
            }
            Self::Attention {
                heads, kv_heads, ..
            } => checks.heads(&format!("{at}."), *heads, *kv_heads),
            Self::Flatten {} | Self::Activation { .. } | Self::Add {} => {}
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
