//! The role `preprocess`.

use crate::bindings::preprocess::exports::stoker::plugin::preprocess as exports;
use crate::{Batch, Error};

pub use exports::Description as PreprocessDescription;

/// A transformation of batches. It may keep its configuration, and nothing else: runs are repeated,
/// reordered and moved between instances.
pub trait Preprocess: Sized + 'static {
    /// The configuration. Derive `Deserialize` with `deny_unknown_fields`, so that a typo is told.
    type Config: serde::de::DeserializeOwned;

    /// What this plugin is.
    fn describe() -> PreprocessDescription;

    /// Takes a configuration, or says what is wrong with it.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Changes one shard; all randomness comes from `seed`.
    fn run(&self, batch: Batch, seed: u64) -> Result<Batch, Error>;
}

/// Carries a [`Preprocess`] over the border.
pub struct Transform<T>(T);

impl<T: Preprocess> exports::GuestTransform for Transform<T> {
    fn create(config: String) -> Result<exports::Transform, Error> {
        T::new(crate::read_config(&config)?).map(|inner| exports::Transform::new(Self(inner)))
    }

    fn run(&self, batch: Batch, seed: u64) -> Result<Batch, Error> {
        self.0.run(batch, seed)
    }
}

impl<T: Preprocess> exports::Guest for Transform<T> {
    type Transform = Self;

    fn describe() -> PreprocessDescription {
        T::describe()
    }
}

/// Exports a [`Preprocess`] type as the plugin.
#[macro_export]
macro_rules! preprocess {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::Transform<$plugin>;
            $crate::bindings::preprocess::export!(
                Exported with_types_in $crate::bindings::preprocess
            );
        };
    };
}
