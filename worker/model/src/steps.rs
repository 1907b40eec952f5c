//! The built-in preprocessing steps: which settings they take, and which models they fit.

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::spec::{JobSpec, Loss, PreprocessSpec, Preprocessing, read_settings};

use crate::plan::Plan;

/// Settings of the built-in step `normalise`. Numbers that embeddings take as ids aren't changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalise {
    /// What is scaled.
    pub of: Of,
    /// What it is scaled to.
    pub mode: Scale,
    /// Over what the statistics are taken.
    pub per: Per,
}

/// What `normalise` scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// What the model sees.
    #[default]
    Features,
    /// What it predicts: the loss is of scaled numbers, metrics and predictions are scaled back.
    Target,
}

/// What `normalise` scales features to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Mean 0, deviation 1.
    #[default]
    Standard,
    /// 0 to 1.
    MinMax,
}

/// Over what `normalise` takes its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each feature.
    #[default]
    Feature,
    /// All features together.
    All,
}

impl Normalise {
    /// Reads a step's `config`.
    ///
    /// # Errors
    /// At the setting that is wrong, as in `config.mode`.
    pub fn parse(config: &serde_json::Map<String, serde_json::Value>) -> Result<Self, FieldError> {
        read_settings(config)
    }
}

/// Settings of the built-in step `flip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flip {
    /// What changes places.
    pub axis: Axis,
}

/// What `flip` turns around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Left and right.
    #[default]
    Horizontal,
    /// Top and bottom.
    Vertical,
}

/// Settings of the built-in step `crop` as an augmentation: pictures are framed with zeros, and cut
/// to their size at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Pixels of the frame: 1 to 256.
    pub padding: u16,
}

impl RandomCrop {
    /// Reads a step's `config`.
    ///
    /// # Errors
    /// At the setting that is wrong.
    pub fn parse(config: &serde_json::Map<String, serde_json::Value>) -> Result<Self, FieldError> {
        let settings: Self = read_settings(config)?;
        if !(1..=256).contains(&settings.padding) {
            let message = format!("{} is not in 1 to 256", settings.padding);
            return Err(FieldError::new("config.padding", message));
        }
        Ok(settings)
    }
}

/// Checks the steps that change a batch at a time.
#[must_use]
pub fn check_preprocess(spec: &JobSpec) -> Vec<FieldError> {
    let mut scaled = 0;
    let check = |(index, step): (usize, &PreprocessSpec)| {
        let checked = match step.builtin {
            Some(Preprocessing::Normalise) => Normalise::parse(&step.config).and_then(|settings| {
                scaled += usize::from(settings.of == Of::Target);
                check_scaled(settings, scaled, &spec.train.loss)
            }),
            Some(Preprocessing::Flip) => read_settings::<Flip>(&step.config).map(|_| ()),
            Some(Preprocessing::Crop) if step.config.contains_key("padding") => {
                RandomCrop::parse(&step.config).map(|_| ())
            }
            _ => Ok(()),
        };
        let error = checked.err()?;
        Some(error.under(&format!("preprocess[{index}]")))
    };
    spec.preprocess
        .iter()
        .enumerate()
        .filter_map(check)
        .collect()
}

/// Checks a step that scales the target.
fn check_scaled(settings: Normalise, count: usize, loss: &Loss) -> Result<(), FieldError> {
    if settings.of != Of::Target {
        return Ok(());
    }
    let fits = matches!(
        loss,
        Loss::Mse | Loss::Mae | Loss::Huber { .. } | Loss::Quantile { .. }
    );
    if !fits {
        let message = format!(
            "`target`: {} takes the target as it is; mse, mae, huber and quantile take a scaled one",
            loss.as_str()
        );
        return Err(FieldError::new("config.of", message));
    }
    if count > 1 {
        return Err(FieldError::new("config.of", "`target` is scaled already"));
    }
    Ok(())
}

/// Checks that steps on pictures have some.
pub(crate) fn check_pictures(steps: &[PreprocessSpec], plan: &Plan) -> Option<FieldError> {
    let changes = |step: &PreprocessSpec| match step.builtin {
        Some(Preprocessing::Flip) => true,
        Some(Preprocessing::Crop) => step.config.contains_key("padding"),
        _ => false,
    };
    let index = steps.iter().position(changes)?;
    let shape = &plan.input.shape;
    (shape.len() != 3).then(|| {
        let message = format!(
            "takes pictures, [channels, height, width]; a row of the features has the shape {shape:?}"
        );
        FieldError::new(format!("preprocess[{index}].builtin"), message)
    })
}

/// Checks that not all features are ids, which built-in steps leave alone.
pub(crate) fn check_tokens(steps: &[PreprocessSpec], plan: &Plan) -> Option<FieldError> {
    let scales = |step: &PreprocessSpec| {
        let settings = Normalise::parse(&step.config).unwrap_or_default();
        step.builtin == Some(Preprocessing::Normalise) && settings.of == Of::Features
    };
    let index = steps.iter().position(scales)?;
    let ids = plan.ids();
    let is_id = |number| {
        ids.iter()
            .any(|span| (span.first..span.first + span.count).contains(&number))
    };
    (0..plan.input.width).all(is_id).then(|| {
        let message = "all features are ids that `embedding` takes, which `normalise` leaves alone";
        FieldError::new(format!("preprocess[{index}].builtin"), message)
    })
}
