//! What is minimised.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::check::check_positive;
use super::model::nested;
use crate::error::FieldError;

/// Most quantiles of one prediction.
const LEVELS_MAX: usize = 64;
/// Most weights of classes.
const CLASS_WEIGHTS_MAX: usize = 1 << 16;

/// What is minimised: a name alone, as in `loss = "mse"`, or with settings, as in
/// `loss = { name = "huber", delta = 2.0 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Softmax cross-entropy against a class index; the target column holds 0, 1, … . With PyTorch's
    /// definitions of smoothing and weights.
    CrossEntropy {
        /// Share of each target spread over all classes, 0 up to, not including, 1 (Szegedy et al.
        /// 2016).
        #[serde(default, skip_serializing_if = "is_zero")]
        label_smoothing: f32,
        /// A weight per class; the mean is over the weights of the rows' classes. None: all alike.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        class_weights: Vec<f32>,
    },
    /// Binary cross-entropy of the logistic function of each output against the target's values,
    /// which are 0 to 1; the mean over a row's numbers.
    Bce,
    /// Mean squared error against the target's values.
    Mse,
    /// Mean absolute error against the target's values.
    Mae,
    /// Squared near 0, linear beyond `delta` (Huber 1964), with PyTorch's factor of a half.
    Huber {
        /// Error from which it is linear.
        #[serde(default = "default_delta")]
        delta: f32,
    },
    /// The pinball loss (Koenker & Bassett 1978) of a prediction per quantile of each of the
    /// target's values: the model gives them value by value, in the order of `levels`.
    Quantile {
        /// The quantiles, each above 0 and below 1.
        #[serde(default = "default_levels")]
        levels: Vec<f32>,
    },
    /// 1 - the soft Dice coefficient (Milletari et al. 2016) of the softmax of the scores and the
    /// target's classes, over the positions of a row, the mean of the classes.
    Dice {
        /// Added above and below, so that a class that is nowhere counts as found.
        #[serde(default = "default_smooth")]
        smooth: f32,
    },
    /// Kullback-Leibler divergence of the softmax of the scores from the target, which holds a
    /// probability per output.
    Kl,
}

const fn default_delta() -> f32 {
    1.0
}
fn default_levels() -> Vec<f32> {
    vec![0.1, 0.5, 0.9]
}
const fn default_smooth() -> f32 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

impl Loss {
    /// The name as it is written in a spec.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::Bce => "bce",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Huber { .. } => "huber",
            Self::Quantile { .. } => "quantile",
            Self::Dice { .. } => "dice",
            Self::Kl => "kl",
        }
    }

    /// Whether the target is a class index, not numbers.
    #[must_use]
    pub const fn takes_classes(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. } | Self::Dice { .. })
    }

    pub(super) fn validate(&self) -> Vec<FieldError> {
        match self {
            Self::CrossEntropy {
                label_smoothing,
                class_weights,
            } => {
                let mut errors =
                    super::check::check_shares(&[("label_smoothing", *label_smoothing)]);
                if class_weights.len() > CLASS_WEIGHTS_MAX {
                    let message = format!(
                        "{} given, at most {CLASS_WEIGHTS_MAX} allowed",
                        class_weights.len()
                    );
                    errors.push(FieldError::new("class_weights", message));
                }
                let weights = class_weights.iter().take(CLASS_WEIGHTS_MAX).enumerate();
                for (index, &weight) in weights {
                    errors.extend(check_positive(&[(
                        &format!("class_weights[{index}]"),
                        weight,
                    )]));
                }
                errors
            }
            Self::Huber { delta } => check_positive(&[("delta", *delta)]),
            Self::Dice { smooth } => check_positive(&[("smooth", *smooth)]),
            Self::Quantile { levels } => check_levels(levels),
            Self::Bce | Self::Mse | Self::Mae | Self::Kl => Vec::new(),
        }
    }
}

fn check_levels(levels: &[f32]) -> Vec<FieldError> {
    if !(1..=LEVELS_MAX).contains(&levels.len()) {
        let message = format!("{} given, 1 to {LEVELS_MAX} allowed", levels.len());
        return vec![FieldError::new("levels", message)];
    }
    let wrong = levels.iter().enumerate().filter(|(_, level)| {
        let inside = **level > 0.0 && **level < 1.0;
        !inside
    });
    wrong
        .map(|(index, level)| {
            let message = format!("{level} is not above 0 and below 1");
            FieldError::new(format!("levels[{index}]"), message)
        })
        .collect()
}

/// For `#[serde(with)]`: a loss without settings is its name alone.
pub(super) mod form {
    use super::{Deserialize, Deserializer, Loss, Serialize, Serializer, Value, json, nested};

    pub(in super::super) fn serialize<S: Serializer>(
        loss: &Loss,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let value = serde_json::to_value(loss).map_err(serde::ser::Error::custom)?;
        let alone = value.as_object().is_some_and(|fields| fields.len() == 1);
        if alone {
            loss.as_str().serialize(serializer)
        } else {
            // Not the value: it would turn the numbers to double precision.
            loss.serialize(serializer)
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Loss, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => nested(json!({ "name": name })),
            value => nested(value),
        }
    }
}

/// For the OpenAPI document: a name, or an object.
pub(super) fn schema() -> RefOr<Schema> {
    let name = ObjectBuilder::new().schema_type(Type::String);
    let either = OneOfBuilder::new().item(name).item(Loss::schema());
    Schema::OneOf(either.build()).into()
}
