//! One instance's store: its limits, its deadline, and what its failures mean.

mod allowance;

use crate::bindings::types;
use crate::config::RunLimits;
use crate::error::{PluginError, PluginErrorKind as Kind};
use crate::meter::Usage;
use allowance::Allowance;
use wasmtime::{Engine, Store, Trap};

/// What stops a call that takes too long.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pacing {
    /// The clock; the host's ticker advances it.
    Epoch,
    /// This many units of fuel, about one an instruction.
    Fuel(u64),
}

/// The data of a store; only the engine looks at it.
pub(crate) struct State(Allowance);

/// A store, and what guards it. A trap may leave the guest's memory in any state, so after one every
/// call is refused.
pub(crate) struct Sandbox {
    store: Store<State>,
    limits: RunLimits,
    pacing: Pacing,
    broken: bool,
    usage: Usage,
    fuel_used: u64,
}

impl Sandbox {
    pub(crate) fn new(engine: &Engine, limits: &RunLimits, pacing: Pacing) -> Self {
        let mut store = Store::new(engine, State(Allowance::new(limits)));
        store.limiter(|state| &mut state.0);
        store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
        let (usage, fuel_used) = (Usage::default(), 0);
        Self {
            store,
            limits: limits.clone(),
            pacing,
            broken: false,
            usage,
            fuel_used,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.store.data().0.peak_bytes(),
            ..self.usage
        }
    }

    /// The fuel of the dearest call so far; 0 unless paced by fuel.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.fuel_used
    }

    /// Makes one call under a fresh deadline.
    pub(crate) fn call<T>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        let told = |kind, message| PluginError {
            kind,
            call: name,
            message,
        };
        if self.broken {
            let message = "the instance was stopped by an earlier failure".to_owned();
            return Err(told(Kind::Trap, message));
        }
        self.renew_deadline()
            .map_err(|e| told(Kind::Platform, format!("{e:#}")))?;
        self.store.data_mut().0.forget_denial();
        let Self { store, usage, .. } = self;
        let result = usage.measure(|| call(store));
        if let (Pacing::Fuel(budget), Ok(left)) = (self.pacing, self.store.get_fuel()) {
            self.fuel_used = self.fuel_used.max(budget - left);
        }
        result.map_err(|error| {
            self.broken = true;
            let (kind, message) = self.judge(&error, name == INSTANTIATE);
            told(kind, message)
        })
    }

    /// As [`Sandbox::call`], for calls that may give a typed error of the contract, which leaves the
    /// instance usable.
    pub(crate) fn try_call<T>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<T, types::Error>>,
    ) -> Result<T, PluginError> {
        self.call(name, call)?.map_err(|error| {
            let (kind, message) = match error {
                types::Error::InvalidConfig(message) => (Kind::InvalidConfig, message),
                types::Error::InvalidBatch(message) => (Kind::InvalidBatch, message),
                types::Error::Failed(message) => (Kind::Failed, message),
            };
            PluginError {
                kind,
                call: name,
                message,
            }
        })
    }

    fn renew_deadline(&mut self) -> wasmtime::Result<()> {
        match self.pacing {
            Pacing::Fuel(budget) => self.store.set_fuel(budget)?,
            Pacing::Epoch => {
                let tick = self.limits.epoch_tick.as_nanos().max(1);
                let ticks = self.limits.call_deadline.as_nanos().div_ceil(tick);
                // The tick under way may end at once, so it doesn't count.
                self.store
                    .set_epoch_deadline(u64::try_from(ticks)?.saturating_add(1));
            }
        }
        Ok(())
    }

    fn judge(&self, error: &wasmtime::Error, instantiating: bool) -> (Kind, String) {
        let trap = error.downcast_ref::<Trap>();
        if let Some(denied) = self.store.data().0.denial() {
            return (Kind::Memory, denied);
        }
        match trap {
            Some(Trap::Interrupt) => {
                let deadline = self.limits.call_deadline.as_secs_f64();
                (
                    Kind::Deadline,
                    format!("took longer than the {deadline} s allowed for one call"),
                )
            }
            Some(Trap::OutOfFuel) => (
                Kind::Deadline,
                "took more instructions than allowed for one call".to_owned(),
            ),
            Some(trap) => (Kind::Trap, trap.to_string()),
            None if is_output_overrun(error) => {
                let allowed = self.limits.output_bytes;
                (
                    Kind::Output,
                    format!("gave back more than the {allowed} bytes allowed"),
                )
            }
            None if instantiating => (Kind::Platform, format!("{error:#}")),
            // The guest's results couldn't be read: a bad pointer, bad UTF-8, an unknown variant.
            None => (Kind::Output, format!("broke the contract: {:#}", error)),
        }
    }
}

/// The name under which instances are made.
pub(crate) const INSTANTIATE: &str = "instantiate";

/// The engine has no type for this error.
fn is_output_overrun(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.to_string().contains("fuel allocated for hostcalls"))
}
