//! Makes a component of a core module. Any language can be used that can export functions under the
//! names of the canonical ABI.

use crate::description::Role;
use crate::rejection::{Reason, Rejection};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

const CONTRACT: [(&str, &str); 3] = [
    ("types.wit", include_str!("../../../wit/types.wit")),
    (
        "preprocess.wit",
        include_str!("../../../wit/preprocess.wit"),
    ),
    ("metric.wit", include_str!("../../../wit/metric.wit")),
];

/// `has_metadata`: its toolchain wrote down the types of its exports; else those of `role` are
/// taken, and checked.
pub(super) fn lift(module: &[u8], role: Role, has_metadata: bool) -> Result<Vec<u8>, Rejection> {
    let told = |why: String| {
        let message = format!("it can't be made a {role} component: {why}");
        Rejection::new(Reason::Role, message)
    };
    let mut module = module.to_vec();
    if !has_metadata {
        embed(&mut module, role).map_err(told)?;
    }
    let mut encoder = ComponentEncoder::default();
    encoder
        .validate(true)
        .module(&module)
        .map_err(|e| told(format!("{e:#}")))?;
    encoder.encode().map_err(|e| told(format!("{e:#}")))
}

fn embed(module: &mut Vec<u8>, role: Role) -> Result<(), String> {
    let mut sources = SourceMap::default();
    CONTRACT
        .iter()
        .for_each(|(name, text)| sources.push_str(name, *text));
    let group = sources.parse().map_err(|(_, e)| e.to_string())?;
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).map_err(|e| e.to_string())?;
    let world = resolve
        .select_world(&[package], Some(role.world()))
        .map_err(|e| format!("{e:#}"))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8, false)
        .map_err(|e| format!("{e:#}"))
}
