//! Steps that change a batch before the model sees it.

use stoker_domain::FieldError;
use stoker_domain::spec::{Apply, PreprocessSpec, Preprocessing, read_settings};
use stoker_model::{InputDescription, Normalise, RandomCrop};

use crate::augment::Augment;
use crate::error::EngineError;

/// Changes the features of one virtual shard.
pub trait Transform: Send {
    /// Changes `features`, `[rows.len(), width]` row-major, in place or by other contents of the
    /// same length. `rows` are the rows' ids. `seed` is a function of the job's seed, the epoch,
    /// the batch and the shard, so that the number of workers changes nothing. What is given must
    /// depend on these alone: shards come in any order where a process runs several ranks.
    ///
    /// # Errors
    /// Of kind `plugin` as a rule. The engine adds the step and the rows.
    fn apply(
        &mut self,
        features: &mut Vec<f32>,
        rows: &[u64],
        seed: u64,
    ) -> Result<(), EngineError>;
}

/// One preprocessing step of a run.
pub struct Preprocess {
    pub(crate) apply: Apply,
    pub(crate) kind: PreprocessKind,
}

pub(crate) enum PreprocessKind {
    Normalise(Normalise),
    Augment(Augment),
    Custom(Box<dyn Transform>),
}

impl Preprocess {
    /// A step of the caller's, such as a plugin.
    #[must_use]
    pub fn custom(apply: Apply, transform: Box<dyn Transform>) -> Self {
        Self {
            apply,
            kind: PreprocessKind::Custom(transform),
        }
    }

    /// A built-in step on rows of `input`, or nothing when the spec names a plugin or a step that
    /// isn't the engine's.
    ///
    /// # Errors
    /// At the step's field that is wrong, as in `config.mode`.
    pub fn builtin(
        spec: &PreprocessSpec,
        input: &InputDescription,
    ) -> Result<Option<Self>, FieldError> {
        let (apply, kind) = match spec.builtin {
            Some(Preprocessing::Normalise) => {
                let kind = PreprocessKind::Normalise(Normalise::parse(&spec.config)?);
                (spec.apply, kind)
            }
            Some(Preprocessing::Flip) => {
                let flip = Augment::flip(read_settings(&spec.config)?, &input.shape);
                (Apply::Train, PreprocessKind::Augment(flip))
            }
            Some(Preprocessing::Crop) if spec.config.contains_key("padding") => {
                let crop = Augment::crop(RandomCrop::parse(&spec.config)?, &input.shape);
                (Apply::Train, PreprocessKind::Augment(crop))
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { apply, kind }))
    }
}
