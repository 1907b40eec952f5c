//! The model part of a spec: a family with its parameters, or a graph of named blocks.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::block::Block;
use super::check::Checks;
use super::family::Family;
use crate::error::FieldError;
use crate::id::check_name;

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

impl ModelSpec {
    /// Whether what is predicted are the features themselves, so that `data.target` is left out.
    #[must_use]
    pub const fn predicts_features(&self) -> bool {
        match self {
            Self::Family(family) => family.predicts_features(),
            Self::Layers { .. } => false,
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
        // A family may have a number of layers.
        if value.get("family").is_some() {
            return nested(value).map(Self::Family);
        }
        if value.get("layers").is_some() {
            let Layers { input, layers } = nested(value)?;
            return Ok(Self::Layers { input, layers });
        }
        Err(D::Error::custom("needs `family = \"…\"` or `layers = […]`"))
    }
}

/// Deserialises a value, carrying the inner path out in the message as `path: message`, which
/// [`super::parse`] joins to the outer path.
pub(super) fn nested<T: serde::de::DeserializeOwned, E: serde::de::Error>(
    value: Value,
) -> Result<T, E> {
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
