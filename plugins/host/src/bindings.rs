//! What the engine makes of the contract, one module a world. Both share one set of types.

pub(crate) mod preprocess {
    wasmtime::component::bindgen!({ path: "../wit", world: "preprocess-plugin" });
}

pub(crate) mod metric {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "metric-plugin",
        with: { "stoker:plugin/types@0.1.0": crate::bindings::preprocess::stoker::plugin::types },
    });
}

pub(crate) use preprocess::stoker::plugin::types;
