//! Decides whether an upload may be compiled: allow-lists and caps, before any code is generated.
//!
//! It reads every byte of a hostile file, so it belongs into the compile child.

mod caps;
mod lift;
mod walk;

use crate::config::Config;
use crate::description::Role;
use crate::rejection::{Reason, Rejection};
use walk::Shape;

/// An upload that may be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// The component: the upload itself, or made of it if it was a core module.
    pub component: Vec<u8>,
    /// What it exports.
    pub role: Role,
}

/// The one import that is allowed; it may hold types only.
const TYPES: &str = "stoker:plugin/types@0.1.0";

/// Checks an upload, and lifts it to a component if it is a core module.
///
/// # Errors
/// The first fault as a [`Rejection`].
pub fn screen(bytes: &[u8], config: &Config) -> Result<Screened, Rejection> {
    check_size(bytes.len() as u64, config)?;
    let summary = walk::walk(bytes, config)?;
    match summary.shape {
        Shape::Component => {
            let role = only_role(&summary.exports, |export, role| export == role.interface())?;
            Ok(Screened {
                component: bytes.to_vec(),
                role,
            })
        }
        Shape::Module { has_metadata } => {
            let role = only_role(&summary.exports, is_call_of)?;
            let component = lift::lift(bytes, role, has_metadata)?;
            // What was made is checked as an upload would be: metadata may ask for anything.
            let lifted = walk::walk(&component, config)?;
            only_role(&lifted.exports, |export, role| export == role.interface())?;
            Ok(Screened { component, role })
        }
    }
}

/// Whether an upload of this size may be read at all.
pub(crate) fn check_size(size_bytes: u64, config: &Config) -> Result<(), Rejection> {
    let allowed = config.screen.module_bytes;
    if size_bytes <= allowed {
        return Ok(());
    }
    let message = format!("it has {size_bytes} bytes; at most {allowed} are allowed");
    Err(Rejection::new(Reason::TooLarge, message))
}

/// Whether a core module's export is a function of `role`: `interface#function`.
fn is_call_of(export: &str, role: Role) -> bool {
    export
        .strip_prefix(role.interface())
        .is_some_and(|rest| rest.starts_with('#'))
}

fn only_role(exports: &[String], is_of: impl Fn(&str, Role) -> bool) -> Result<Role, Rejection> {
    let exported = |role: &Role| exports.iter().any(|export| is_of(export, *role));
    let roles: Vec<Role> = Role::ALL.into_iter().filter(exported).collect();
    let wanted = Role::ALL.map(Role::interface).join("` or `");
    match roles.as_slice() {
        [role] => Ok(*role),
        [] => {
            let mut shown: Vec<String> = exports
                .iter()
                .take(8)
                .map(|export| walk::shorten(export))
                .collect();
            if shown.len() < exports.len() {
                shown.push("...".to_owned());
            }
            let message = format!("it exports `{}`, but not `{wanted}`", shown.join("`, `"));
            Err(Rejection::new(Reason::Role, message))
        }
        _ => {
            let message = format!("it exports several roles; it must export one of `{wanted}`");
            Err(Rejection::new(Reason::Role, message))
        }
    }
}
