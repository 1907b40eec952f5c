//! The one place that turns bytes into machine code.
#![expect(unsafe_code, reason = "the engine trusts the code that it is given")]

use crate::artifact::Opened;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads code whose seal was checked.
pub(crate) fn load_component(engine: &Engine, opened: &Opened<'_>) -> wasmtime::Result<Component> {
    // SAFETY: `Opened` exists only after its seal was checked with the platform's secret key, which
    // seals nothing but what `Engine::precompile_component` made in our compile child. The engine
    // hash under the same seal equals this engine's, so that the code fits it.
    unsafe { Component::deserialize(engine, opened.code) }
}
