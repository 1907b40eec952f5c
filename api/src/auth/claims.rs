//! From a token's claims to a caller.

use serde_json::{Map, Value};
use stoker_domain::port::PLATFORM;
use stoker_domain::project::ProjectRecord;
use stoker_domain::tenant::Role;
use stoker_domain::{TenantId, Timestamp};

use crate::config::AuthConfig;

/// Longest `sub` and `jti`, in bytes.
const TEXT_MAX_BYTES: usize = 256;

/// Who is calling, as a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) subject: String,
    pub(crate) role: Role,
    /// The one project whose jobs it may touch; all of the tenant's when absent.
    pub(crate) project: Option<String>,
    /// The token's id, by which it can be revoked.
    pub(crate) token: Option<String>,
    /// When the token ends, leeway included.
    pub(crate) until: Timestamp,
}

impl Caller {
    /// Whether it may do everything in all of the tenant's projects.
    pub(crate) fn rules_all(&self) -> bool {
        self.role >= Role::Admin && self.project.is_none()
    }

    /// What it may do in a project; nothing when it isn't its to see.
    pub(crate) fn role_in(&self, project: &ProjectRecord) -> Option<Role> {
        match &self.project {
            None => project.role_of(&self.subject, self.role),
            Some(own) => (*own == project.name).then_some(self.role),
        }
    }

    /// Reads claims whose signature, issuer and audience were verified.
    pub(crate) fn from_claims(
        claims: &Map<String, Value>,
        config: &AuthConfig,
        now: Timestamp,
    ) -> Result<Self, String> {
        let leeway = config.leeway.0;
        let until = seconds(claims, "exp")?
            .ok_or("the token has no `exp`")?
            .plus_millis(leeway);
        if now >= until {
            return Err("the token has expired".to_owned());
        }
        if seconds(claims, "nbf")?.is_some_and(|from| now.plus_millis(leeway) < from) {
            return Err("the token isn't valid yet".to_owned());
        }
        let subject = text(claims, "sub")?.ok_or("the token has no `sub`")?;
        let tenant = at_path(claims, &config.tenant_claim)
            .ok_or_else(|| format!("the token has no tenant at `{}`", config.tenant_claim))?;
        let tenant: TenantId = tenant
            .parse()
            .ok()
            .filter(|tenant: &TenantId| tenant.as_str() != PLATFORM)
            .ok_or("the token's tenant is not one that may be used")?;
        let role = at_path(claims, &config.role_claim)
            .and_then(|role| serde_json::from_value(Value::from(role)).ok())
            .ok_or_else(|| {
                format!(
                    "the token has no role at `{}`: one of viewer, developer, admin, operator",
                    config.role_claim
                )
            })?;
        Ok(Self {
            tenant,
            subject,
            role,
            project: None,
            token: text(claims, "jti")?,
            until,
        })
    }
}

/// A NumericDate: seconds since the Unix epoch, with or without a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    value
        .as_f64()
        .filter(|seconds| (0.0..1e12).contains(seconds))
        .map(|seconds| Some(Timestamp::from_millis((seconds * 1000.0) as i64)))
        .ok_or_else(|| format!("the token's `{name}` is not a time"))
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=TEXT_MAX_BYTES).contains(&text.len()) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(format!(
            "the token's `{name}` is not a text of 1 to {TEXT_MAX_BYTES} bytes"
        )),
    }
}

/// The text at `path`: a claim of that very name (some issuers use URLs), or one level of objects
/// per part.
fn at_path<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a str> {
    if let Some(value) = claims.get(path) {
        return value.as_str();
    }
    let mut parts = path.split('.');
    let mut value = claims.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    value.as_str()
}

/// Puts `value` where [`at_path`] finds it.
pub(super) fn put_at_path(claims: &mut Map<String, Value>, path: &str, value: &str) {
    let parts: Vec<&str> = if path.contains("://") {
        vec![path]
    } else {
        path.split('.').collect()
    };
    let Some((last, objects)) = parts.split_last() else {
        return;
    };
    let mut level = claims;
    for part in objects {
        let object = level
            .entry(*part)
            .or_insert_with(|| Value::Object(Map::new()));
        if !object.is_object() {
            *object = Value::Object(Map::new());
        }
        let Some(next) = object.as_object_mut() else {
            return;
        };
        level = next;
    }
    level.insert((*last).to_owned(), Value::from(value));
}
