//! The job spec: what a user asks for, as data.
//!
//! The same type is read from TOML and JSON, sent by the SDK, stored in the record and described in
//! the OpenAPI document. Unknown fields are refused, and every error names its field.

mod autoencoder;
mod block;
mod check;
mod family;
mod lengths;
mod loss;
mod metric;
mod model;
mod monitor;
mod notify;
mod optimizer;
mod parse;
mod recommender;
mod schedule;
mod train;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use autoencoder::{Autoencoder, AutoencoderKind};
pub use block::{Activation, Block, Cell, Positions, Upsampling};
pub use family::{Family, ResidualBlock, Stem, UnetNorm};
pub use loss::Loss;
pub use metric::{Measure, MetricSpec, RECALL_K_DEFAULT, TOP_K_DEFAULT};
pub use model::{LayerSpec, ModelSpec};
pub use monitor::{EarlyStopSpec, Goal, MonitorSpec};
pub use notify::{EVENTS, NotifySpec, WebhookSpec};
pub use optimizer::OptimizerSpec;
pub use parse::{Format, SPEC_MAX_BYTES, read_json, read_settings};
pub use recommender::{Recommender, RecommenderKind};
pub use schedule::ScheduleSpec;
pub use train::{CheckpointSpec, ClipSpec, EmaSpec, TrainSpec};

use crate::error::FieldError;
use crate::id::{PoolName, Ref, check_name};
use crate::job::FailureKind;
use crate::time::Millis;

/// Most tags on one job.
pub const TAGS_MAX: usize = 32;
/// Most preprocessing steps, and most metrics, in one job.
pub const STEPS_MAX: usize = 16;

/// A training job, as a user writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// A name for people; needn't be unique.
    pub name: String,
    /// The project the job belongs to.
    #[serde(default = "default_project")]
    pub project: String,
    /// Free labels to find the job by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Jobs of a higher class start first.
    #[serde(default)]
    pub priority: Priority,
    /// What to train on.
    pub data: DataSpec,
    /// Steps that change a batch before the model sees it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preprocess: Vec<PreprocessSpec>,
    /// What to train.
    pub model: ModelSpec,
    /// How to train it.
    pub train: TrainSpec,
    /// What to measure on the held-out rows after each epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSpec>,
    /// Where to run.
    #[serde(default)]
    pub resources: ResourceSpec,
    /// What to do when an attempt fails.
    #[serde(default)]
    pub retry: RetrySpec,
    /// Whom to tell what happens.
    #[serde(default, skip_serializing_if = "NotifySpec::is_empty")]
    pub notify: NotifySpec,
}

fn default_project() -> String {
    "default".to_owned()
}

/// Priority class.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Starts after everything else.
    Low,
    /// The usual class.
    #[default]
    Normal,
    /// Starts before everything else.
    High,
}

impl Priority {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// Which rows and columns to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The data set: `name`, or `name@version`. The newest version is pinned when the job is created.
    pub dataset: Ref,
    /// Columns the model sees; all but the target when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The column to predict; absent where the family predicts its own features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What fills a row of a sequence after its end: a row is as long as its last position that
    /// isn't all padding, and at least 1. Positions after it are seen by no layer, loss or metric.
    /// Nothing is padding when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<f32>,
    /// Lengths that batches are cut to, ascending, the last one at least the data's: rows of
    /// similar length share a batch, which takes the first that holds its longest row. All batches
    /// have the data's length when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<u32>,
    /// How rows are held out.
    #[serde(default)]
    pub split: SplitSpec,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_true(value: &bool) -> bool {
    *value
}

/// How rows are held out for evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSpec {
    /// Share of rows held out, from 0 (none) up to, not including, 1.
    pub test: f64,
    /// Whether the rows held out are chosen at random; else they are the last ones, as a forecast
    /// needs it.
    #[serde(skip_serializing_if = "is_true")]
    pub shuffle: bool,
    /// Seed of the choice.
    pub seed: u64,
    /// Keep each class's share equal on both sides (classification only).
    pub stratify: bool,
}

impl Default for SplitSpec {
    fn default() -> Self {
        Self {
            test: 0.2,
            shuffle: true,
            seed: 0,
            stratify: false,
        }
    }
}

impl SplitSpec {
    /// Rows held out of `rows`: the share is rounded up.
    #[must_use]
    pub fn count_held_out(&self, rows: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let held_out = (rows as f64 * self.test).ceil() as u64;
        held_out
    }
}

/// One preprocessing step: a built-in one or a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreprocessSpec {
    /// A plugin, as `name@version`; excludes `builtin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Ref>,
    /// A built-in step; excludes `plugin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Preprocessing>,
    /// The step's own settings.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Which rows it changes.
    #[serde(default)]
    pub apply: Apply,
}

impl PreprocessSpec {
    /// The setting `tokenizer` of a step that tokenises: the data set that holds it.
    ///
    /// # Errors
    /// At `config.tokenizer`, when it names none.
    pub fn tokenizer(&self) -> Result<Option<Ref>, FieldError> {
        let given = match self.builtin {
            Some(Preprocessing::Tokenise) => self.config.get("tokenizer"),
            _ => None,
        };
        let read = given.map(|given| {
            serde_json::from_value(given.clone())
                .map_err(|error| FieldError::new("config.tokenizer", error.to_string()))
        });
        read.transpose()
    }

    /// Sets it.
    pub fn set_tokenizer(&mut self, reference: &Ref) {
        let value = serde_json::Value::from(reference.to_string());
        self.config.insert("tokenizer".to_owned(), value);
    }
}

/// The built-in preprocessing steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocessing {
    /// Scales features, or the target, by statistics of the training rows.
    Normalise,
    /// Fills in values that are missing.
    Impute,
    /// Makes a number of 0 or 1 of each category.
    OneHot,
    /// Makes ids, or a bag of words, of any text by hashing it.
    Hash,
    /// Cuts numbers off at limits.
    Clip,
    /// Brings pictures to one size, as numbers of 0 to 1.
    Resize,
    /// Cuts pictures: to their centre, or in training at random.
    Crop,
    /// Mirrors pictures at random in training.
    Flip,
    /// Puts rows that follow one another side by side, to predict those after them.
    Window,
    /// Adds columns of earlier rows.
    Lag,
    /// Makes token ids of text.
    Tokenise,
}

impl Preprocessing {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normalise => "normalise",
            Self::Impute => "impute",
            Self::OneHot => "one_hot",
            Self::Hash => "hash",
            Self::Clip => "clip",
            Self::Resize => "resize",
            Self::Crop => "crop",
            Self::Flip => "flip",
            Self::Window => "window",
            Self::Lag => "lag",
            Self::Tokenise => "tokenise",
        }
    }
}

/// Which rows a preprocessing step changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apply {
    /// Training and evaluation rows.
    #[default]
    Always,
    /// Training rows only (augmentation).
    Train,
}

/// Where a job runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// The pool of workers.
    #[serde(default = "default_pool")]
    pub pool: PoolName,
    /// How long it may run, over all attempts, 1s to 8760h; then it saves a checkpoint and fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "8h")]
    pub max_time: Option<Millis>,
    /// What it may cost, over all attempts, at the pool's prices; then it saves a checkpoint and
    /// fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
}

fn default_pool() -> PoolName {
    #[expect(clippy::unwrap_used, reason = "a constant name that is well formed")]
    "default".parse().unwrap()
}

impl Default for ResourceSpec {
    fn default() -> Self {
        Self {
            pool: default_pool(),
            max_time: None,
            max_cost: None,
        }
    }
}

/// What happens after an attempt that failed for a reason that may pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// Most attempts that count, 1 to 100. Deaths of a worker and drains don't count.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each later one, up to 64-fold.
    #[schema(value_type = String, example = "10s")]
    pub backoff: Millis,
    /// Rules of their own for kinds of failures that may pass: `capacity`, `hardware`, `platform`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<FailureKind, RetryRule>,
}

/// What happens after failures of one kind, which are counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRule {
    /// Most attempts that fail so, 1 to 100.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each later one, up to 64-fold.
    #[schema(value_type = String, example = "1m")]
    pub backoff: Millis,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Millis(10_000),
            on: BTreeMap::new(),
        }
    }
}

impl ResourceSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        let max_time = self.max_time.unwrap_or(Millis(1_000));
        let message = format!("{max_time} is not in 1s to 8760h");
        let range = 1_000..=365 * 86_400_000;
        check(range.contains(&max_time.0), "resources.max_time", message);
        let max_cost = self.max_cost.unwrap_or(1.0);
        let message = format!("{max_cost} is not more than 0, and at most 1000000000");
        check(
            max_cost > 0.0 && max_cost <= 1e9,
            "resources.max_cost",
            message,
        );
        errors
    }
}

impl RetrySpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check_attempts = |field: String, attempts: u32| {
            if !(1..=100).contains(&attempts) {
                let message = format!("{attempts} is not in 1 to 100");
                errors.push(FieldError::new(field, message));
            }
        };
        check_attempts("retry.attempts".to_owned(), self.attempts);
        for (kind, rule) in &self.on {
            check_attempts(
                format!("retry.on.{}.attempts", kind.as_str()),
                rule.attempts,
            );
        }
        let hopeless = self.on.keys().filter(|kind| !kind.retryable());
        errors.extend(hopeless.map(|kind| {
            let message = "failures of this kind don't pass by trying again; \
                           capacity, hardware and platform may be retried";
            FieldError::new(format!("retry.on.{}", kind.as_str()), message)
        }));
        errors
    }
}

impl JobSpec {
    /// Checks what the types can't say. Everything that is wrong is reported at once.
    ///
    /// # Errors
    /// One error per field.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors = self.validate_names();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        let test = self.data.split.test;
        let message = format!("{test} is not a share: from 0 up to, not including, 1");
        check((0.0..1.0).contains(&test), "data.split.test", message);
        let own = self.model.predicts_features();
        let message = match own {
            true => "this family predicts its own features: leave it out",
            false => "missing: the column to predict",
        };
        check(
            self.data.target.is_none() == own,
            "data.target",
            message.to_owned(),
        );
        check(
            self.data.split.shuffle || !self.data.split.stratify,
            "data.split.stratify",
            "needs rows chosen at random: `shuffle = false` holds out the last ones".to_owned(),
        );
        let steps: Vec<bool> = self
            .preprocess
            .iter()
            .map(|step| step.plugin.is_some() != step.builtin.is_some())
            .collect();
        let metrics: Vec<bool> = self
            .metrics
            .iter()
            .map(|m| m.plugin.is_some() != m.builtin.is_some())
            .collect();
        for (field, one_of_two) in [("preprocess", steps), ("metrics", metrics)] {
            let count = one_of_two.len();
            let message = format!("{count} given, at most {STEPS_MAX} allowed");
            check(count <= STEPS_MAX, field, message);
            for (index, right) in one_of_two.into_iter().enumerate() {
                let message = "needs exactly one of `plugin` and `builtin`".to_owned();
                check(right, &format!("{field}[{index}]"), message);
            }
        }
        errors.extend(self.resources.validate());
        errors.extend(self.retry.validate());
        errors.extend(self.notify.validate());
        errors.extend(metric::check_names(&self.metrics));
        errors.extend(self.data.check_lengths());
        errors.extend(self.train.check_monitor(&self.metrics, test));
        errors.extend(
            self.train
                .validate()
                .into_iter()
                .map(|error| error.under("train")),
        );
        errors.extend(
            self.model
                .validate()
                .into_iter()
                .map(|error| error.under("model")),
        );
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn validate_names(&self) -> Vec<FieldError> {
        let names = [("name", &self.name), ("project", &self.project)];
        let mut errors: Vec<FieldError> = names
            .into_iter()
            .filter_map(|(field, name)| {
                check_name(name)
                    .err()
                    .map(|error| FieldError::new(field, error.to_string()))
            })
            .collect();
        let well_formed =
            |(key, value): (&String, &String)| check_name(key).is_ok() && value.len() <= 256;
        if self.tags.len() > TAGS_MAX || !self.tags.iter().all(well_formed) {
            let message =
                format!("at most {TAGS_MAX} tags, each a name with a value of at most 256 bytes");
            errors.push(FieldError::new("tags", message));
        }
        errors
    }

    /// BLAKE3 of the canonical JSON form, as lower-case hex.
    #[must_use]
    pub fn blake3(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&json).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests;
