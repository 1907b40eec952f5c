//! Reads an upload from end to end: validates it, and notes what it imports and exports.

use super::TYPES;
use super::caps::Caps;
use crate::config::Config;
use crate::rejection::{Reason, Rejection};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{
    BinaryReaderError, Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

/// Core modules may import these: the functions that make and drop handles of their own resources.
const INTRINSICS: &str = "[export]stoker:plugin/";

/// What a walk found.
pub(super) struct Summary {
    pub(super) shape: Shape,
    /// The names of the outermost exports.
    pub(super) exports: Vec<String>,
}

/// What an upload is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A core module; with metadata if its toolchain described its exports.
    Module {
        /// Whether there is a section that `wit-bindgen` and its kin write.
        has_metadata: bool,
    },
    /// A component.
    Component,
}

/// What plugins may use: WebAssembly 2.0 and components; no threads, relaxed SIMD, 64-bit or several
/// memories, garbage collection, exceptions, tail calls or async.
fn allowed_features() -> WasmFeatures {
    WasmFeatures::WASM2
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::COMPONENT_MODEL)
}

pub(super) fn walk(bytes: &[u8], config: &Config) -> Result<Summary, Rejection> {
    Walk::default()
        .run(bytes, config)
        .map_err(|rejection| match rejection.reason {
            Reason::Malformed => blame_feature(bytes, rejection),
            _ => rejection,
        })
}

/// Whether the fault is only that a feature isn't allowed.
fn blame_feature(bytes: &[u8], rejection: Rejection) -> Rejection {
    match Validator::new_with_features(WasmFeatures::all()).validate_all(bytes) {
        Ok(_) => {
            let message = format!(
                "it uses a feature beyond WebAssembly 2.0 and components, which are allowed: {}",
                rejection.message
            );
            Rejection::new(Reason::Feature, message)
        }
        Err(_) => rejection,
    }
}

#[derive(Default)]
struct Walk {
    depth: u32,
    encoding: Option<Encoding>,
    has_metadata: bool,
    imports: Vec<String>,
    exports: Vec<String>,
    caps: Caps,
}

impl Walk {
    fn run(mut self, bytes: &[u8], config: &Config) -> Result<Summary, Rejection> {
        let features = allowed_features();
        let mut validator = Validator::new_with_features(features);
        let mut parser = Parser::new(0);
        parser.set_features(features);
        let mut types = None;
        for payload in parser.parse_all(bytes) {
            let payload = payload.map_err(malformed)?;
            // Noted first, so that a count that is too large is never worked on.
            self.note(&payload, config)?;
            match validator.payload(&payload).map_err(malformed)? {
                ValidPayload::Func(function, body) => {
                    self.caps.count_function(function, &body, config)?;
                }
                ValidPayload::End(end) => types = Some(end),
                ValidPayload::Ok | ValidPayload::Parser(_) => {}
            }
        }
        let shape = match self.encoding {
            Some(Encoding::Component) => Shape::Component,
            _ => Shape::Module {
                has_metadata: self.has_metadata,
            },
        };
        self.check_imports(shape, types.as_ref())?;
        Ok(Summary {
            shape,
            exports: self.exports,
        })
    }

    fn note(&mut self, payload: &Payload<'_>, config: &Config) -> Result<(), Rejection> {
        match payload {
            Payload::Version { encoding, .. } if self.encoding.is_none() => {
                self.encoding = Some(*encoding);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth += 1;
                self.caps.count_nested(config)?;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.caps.count_memory(memory.map_err(malformed)?, config)?;
                }
            }
            _ if self.depth == 0 => self.note_border(payload)?,
            _ => {}
        }
        Ok(())
    }

    /// What the outermost module or component shares with the world.
    fn note_border(&mut self, payload: &Payload<'_>) -> Result<(), Rejection> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    let import = import.map_err(malformed)?;
                    let is_intrinsic = import.module.starts_with(INTRINSICS);
                    if !is_intrinsic {
                        return Err(forbidden(&format!("{}#{}", import.module, import.name)));
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    self.imports
                        .push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    self.exports
                        .push(export.map_err(malformed)?.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    self.exports
                        .push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                self.has_metadata = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_imports(&self, shape: Shape, types: Option<&Types>) -> Result<(), Rejection> {
        if shape != Shape::Component {
            return Ok(());
        }
        let allowed = |name: &str| name == TYPES && types.is_some_and(|t| is_types_only(t, name));
        match self.imports.iter().find(|name| !allowed(name)) {
            Some(name) => Err(forbidden(name)),
            None => Ok(()),
        }
    }
}

fn is_types_only(types: &Types, import: &str) -> bool {
    match types.component_item_for_import(import).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(instance)) => types[instance]
            .exports
            .values()
            .all(|item| matches!(item.ty, ComponentEntityType::Type { .. })),
        _ => false,
    }
}

fn forbidden(import: &str) -> Rejection {
    let message = format!(
        "it imports `{}`; only the types of `{TYPES}` may be imported",
        shorten(import)
    );
    Rejection::new(Reason::Import, message)
}

/// A name from the upload, cut to what fits into a message.
pub(super) fn shorten(name: &str) -> String {
    let mut short: String = name.chars().take(100).collect();
    if short.len() < name.len() {
        short.push_str("...");
    }
    short
}

pub(super) fn malformed(error: BinaryReaderError) -> Rejection {
    let message = format!(
        "it isn't valid WebAssembly: {} (at byte {})",
        error.message(),
        error.offset()
    );
    Rejection::new(Reason::Malformed, message)
}
