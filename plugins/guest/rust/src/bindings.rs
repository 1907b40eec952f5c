//! What `wit-bindgen` makes of the contract, one module a world. Both share one set of types.

pub mod preprocess {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "preprocess-plugin",
        runtime_path: "::stoker_guest::bindings::runtime",
        pub_export_macro: true,
        default_bindings_module: "::stoker_guest::bindings::preprocess",
    });
}

pub mod metric {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "metric-plugin",
        runtime_path: "::stoker_guest::bindings::runtime",
        with: { "stoker:plugin/types@0.1.0": crate::bindings::preprocess::stoker::plugin::types },
        pub_export_macro: true,
        default_bindings_module: "::stoker_guest::bindings::metric",
    });
}

pub use wit_bindgen::rt as runtime;
