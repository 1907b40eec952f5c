//! Whom to tell what happens to a job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{FieldError, nearest};
use crate::id::check_name;

/// Most webhooks of a job.
const WEBHOOKS_MAX: usize = 8;
/// Longest URL, in bytes.
const URL_MAX_BYTES: usize = 2_048;

/// The events that may be told.
pub const EVENTS: [&str; 13] = [
    "queued",
    "dispatched",
    "started",
    "checkpointed",
    "requeued",
    "pausing",
    "preempting",
    "cancelling",
    "paused",
    "inexact",
    "succeeded",
    "failed",
    "cancelled",
];

/// The events that are told when nothing else is said: the job's end.
const ENDS: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// Whom to tell what happens to a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifySpec {
    /// Programs that are told by a POST.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookSpec>,
}

/// A program that is told by a signed POST, again and again until it answers with a status of 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// Where: https, on the public internet unless the operator permits more.
    pub url: String,
    /// The tenant's secret that signs what is sent.
    pub secret: String,
    /// The types of events that are told; `succeeded`, `failed` and `cancelled` when absent.
    #[serde(default = "ends")]
    pub events: Vec<String>,
}

fn ends() -> Vec<String> {
    ENDS.map(str::to_owned).to_vec()
}

impl NotifySpec {
    /// Whether nobody is to be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.webhooks.is_empty()
    }

    pub(super) fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.webhooks.len() > WEBHOOKS_MAX {
            let count = self.webhooks.len();
            let message = format!("{count} given, at most {WEBHOOKS_MAX} allowed");
            errors.push(FieldError::new("notify.webhooks", message));
        }
        for (index, webhook) in self.webhooks.iter().enumerate() {
            let under = |error: FieldError| error.under(&format!("notify.webhooks[{index}]"));
            errors.extend(webhook.validate().into_iter().map(under));
        }
        errors
    }
}

impl WebhookSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Err(why) = check_url(&self.url) {
            errors.push(FieldError::new("url", why));
        }
        if let Err(error) = check_name(&self.secret) {
            errors.push(FieldError::new("secret", error.to_string()));
        }
        if self.events.is_empty() {
            let message = "names no event: leave it out for the job's end";
            errors.push(FieldError::new("events", message));
        }
        for (index, event) in self.events.iter().enumerate() {
            if !EVENTS.contains(&event.as_str()) {
                let shown: String = event.chars().take(40).collect();
                let hint = nearest(&shown, EVENTS)
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let known = EVENTS.join(", ");
                let message = format!("{shown:?} is not one of {known}{hint}");
                errors.push(FieldError::new(format!("events[{index}]"), message));
            }
        }
        errors
    }
}

/// What can be told of a URL without asking anybody. Whoever sends checks the rest.
fn check_url(url: &str) -> Result<(), String> {
    if url.len() > URL_MAX_BYTES {
        let length = url.len();
        return Err(format!(
            "{length} bytes given, at most {URL_MAX_BYTES} allowed"
        ));
    }
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("needs to begin with https:// (or http://, where the operator permits it)")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    if host.contains('@') {
        return Err("may not hold a name and password: what is sent is signed".to_owned());
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("may not hold spaces or control characters".to_owned());
    }
    Ok(())
}
