//! What is to be told of a job: written in one step with the event that it tells of, and kept until
//! somebody has taken it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::id_from;
use crate::id::{JobId, TenantId};
use crate::job::{Event, JobRecord};
use crate::port::{CatalogKind, Document, PLATFORM};
use crate::time::Timestamp;

/// Version tag of stored notices.
pub const RECORD_VERSION: u16 = 1;

/// One event for one webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Version tag of this form.
    pub record_version: u16,
    /// Whose job it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// Names the delivery: every try has the same.
    pub delivery: String,
    /// Where to.
    pub url: String,
    /// The tenant's secret that signs it.
    pub secret: String,
    /// What is sent.
    pub body: Value,
    /// When it came to be.
    pub created_at: Timestamp,
    /// Tries so far.
    pub tries: u32,
}

impl Notice {
    /// The notices of a job's new events.
    pub(crate) fn of<'a>(
        job: &'a JobRecord,
        events: &'a [Event],
    ) -> impl Iterator<Item = Self> + 'a {
        let webhooks = job.spec.notify.webhooks.iter().enumerate();
        webhooks.flat_map(move |(index, webhook)| {
            let told = move |event: &&Event| {
                let name = event.body.type_name();
                webhook.events.iter().any(|wanted| wanted == name)
            };
            events.iter().filter(told).map(move |event| {
                let delivery = format!("{}-{}-{index}", job.id, event.position);
                Self {
                    record_version: RECORD_VERSION,
                    tenant: job.tenant.clone(),
                    job: job.id,
                    body: json!({
                        "delivery": delivery,
                        "job": {
                            "id": job.id,
                            "name": job.spec.name,
                            "project": job.spec.project,
                            "tags": job.spec.tags,
                            "state": job.state,
                        },
                        "event": event,
                    }),
                    delivery,
                    url: webhook.url.clone(),
                    secret: webhook.secret.clone(),
                    created_at: event.at,
                    tries: 0,
                }
            })
        })
    }

    /// The key of a notice that is due at that time: keys sort as times do.
    #[must_use]
    pub fn key(&self, due_at: Timestamp) -> String {
        format!("{}-{}", id_from(due_at), self.delivery)
    }

    /// As it is kept until that time.
    #[must_use]
    pub fn document(&self, due_at: Timestamp) -> Option<Document> {
        Some(Document {
            kind: CatalogKind::Notice,
            tenant: PLATFORM.parse().ok()?,
            key: self.key(due_at),
            value: serde_json::to_value(self).ok()?,
        })
    }
}
