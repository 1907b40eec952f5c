//! The role `metric`.

use crate::bindings::metric::exports::stoker::plugin::metric as exports;
use crate::{Batch, Error};
use std::cell::RefCell;

pub use exports::{Better, Description as MetricDescription};

/// A metric that is counted shard by shard.
pub trait Metric: Sized + 'static {
    /// The configuration. Derive `Deserialize` with `deny_unknown_fields`, so that a typo is told.
    type Config: serde::de::DeserializeOwned;

    /// What this plugin is.
    fn describe() -> MetricDescription;

    /// Takes a configuration, or says what is wrong with it, and starts empty.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// Adds one shard.
    fn update(&mut self, predictions: Batch, targets: Batch) -> Result<(), Error>;

    /// The state as bytes.
    fn save(&self) -> Vec<u8>;

    /// Adds a state that [`Metric::save`] gave.
    fn merge(&mut self, state: Vec<u8>) -> Result<(), Error>;

    /// The value over all that was added.
    fn finish(&self) -> Result<f64, Error>;
}

/// Carries a [`Metric`] over the border.
pub struct Accumulator<T>(RefCell<T>);

impl<T: Metric> exports::GuestAccumulator for Accumulator<T> {
    fn create(config: String) -> Result<exports::Accumulator, Error> {
        let inner = T::new(crate::read_config(&config)?)?;
        Ok(exports::Accumulator::new(Self(RefCell::new(inner))))
    }

    fn update(&self, predictions: Batch, targets: Batch) -> Result<(), Error> {
        self.0.borrow_mut().update(predictions, targets)
    }

    fn save(&self) -> Vec<u8> {
        self.0.borrow().save()
    }

    fn merge(&self, state: Vec<u8>) -> Result<(), Error> {
        self.0.borrow_mut().merge(state)
    }

    fn finish(&self) -> Result<f64, Error> {
        self.0.borrow().finish()
    }
}

impl<T: Metric> exports::Guest for Accumulator<T> {
    type Accumulator = Self;

    fn describe() -> MetricDescription {
        T::describe()
    }
}

/// Exports a [`Metric`] type as the plugin.
#[macro_export]
macro_rules! metric {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::Accumulator<$plugin>;
    $crate::bindings::metric::export!(Exported with_types_in $crate::bindings::metric);
        };
    };
}
