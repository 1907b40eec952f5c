//! Tells webhooks what is to be told: signed, again and again until they have taken it.
//!
//! The notices in the store are the truth. Whoever sends one first moves it to when its try will be
//! over, which only one of several processes can; when that one dies, the notice comes due again. So
//! a notice may arrive twice, under the same name, and is never lost before its time is over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use ipnet::IpNet;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use stoker_domain::audit::{Actor, AuditEntry, RECORD_VERSION, id_from};
use stoker_domain::notice::Notice;
use stoker_domain::port::{Catalog, CatalogKind, PLATFORM, StoreError, Vault};
use stoker_domain::tenant::{Role, SecretRecord};
use stoker_domain::time::Millis;
use stoker_domain::{Clock, FieldError, TenantId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::setup::SetupError;
use crate::sources::{Addresses, CheckedResolver, NOT_PUBLIC, system_lookup};

/// Notices that one look sees, those that are told at a time, and of those one tenant's.
const SEEN_MAX: usize = 1_024;
const AT_A_TIME_MAX: usize = 64;
const OF_A_TENANT_MAX: usize = 8;
/// Wait before the second try; doubled for each later one.
const BACKOFF_MS: u64 = 5_000;
/// Longest wait between tries.
const BACKOFF_MAX_MS: u64 = 3_600_000;

/// How webhooks are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifierConfig {
    /// Networks that may be told although they aren't on the public internet, as in `10.1.0.0/16`;
    /// also over plain HTTP.
    pub private: Vec<String>,
    /// Time between looks for what is due.
    pub poll: Millis,
    /// Longest wait for an answer.
    pub timeout: Millis,
    /// How long it is tried.
    pub life: Millis,
}

impl Default for NotifierConfig {
    fn default() -> Self {
        Self {
            private: Vec::new(),
            poll: Millis(500),
            timeout: Millis(10_000),
            life: Millis(24 * 3_600_000),
        }
    }
}

impl NotifierConfig {
    /// Checks what the types can't say.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<FieldError> = self.networks().err().into_iter().collect();
        for (field, length, most) in [
            ("poll", self.poll, 60_000),
            ("timeout", self.timeout, 60_000),
            ("life", self.life, 7 * 86_400_000),
        ] {
            if !(10..=most).contains(&length.0) {
                let message = format!("{length} is not in 10ms to {}", Millis(most));
                errors.push(FieldError::new(field, message));
            }
        }
        errors
    }

    fn networks(&self) -> Result<Vec<IpNet>, FieldError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                let message = format!("{text:?} is not a network such as 10.1.0.0/16");
                FieldError::new("private", message)
            })
        };
        self.private.iter().map(parse).collect()
    }
}

/// Tells webhooks what is to be told.
pub struct Notifier {
    catalog: Arc<dyn Catalog>,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
    config: NotifierConfig,
    /// Where https may go, and where plain http.
    public: Way,
    plain: Way,
    platform: TenantId,
}

/// Addresses that may be connected to, and a client that connects to no others.
struct Way {
    addresses: Arc<Addresses>,
    client: Client,
}

impl Way {
    fn new(addresses: Addresses, timeout: Millis) -> Result<Self, reqwest::Error> {
        let addresses = Arc::new(addresses);
        let resolver = CheckedResolver {
            addresses: Arc::clone(&addresses),
            lookup: system_lookup(),
        };
        let client = Client::builder()
            .user_agent(concat!("stoker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .timeout(timeout.into())
            .build()?;
        Ok(Self { addresses, client })
    }
}

/// What became of a try.
enum Tried {
    Taken,
    /// It may be taken later.
    Failed(String),
    /// It never will be.
    Refused(String),
}

impl Notifier {
    /// # Errors
    /// [`SetupError::Config`] when a setting can't be used.
    pub fn new(
        config: &NotifierConfig,
        catalog: Arc<dyn Catalog>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let failed = |message: String| SetupError::Config {
            field: "notify",
            message,
        };
        let private = config.networks();
        let private = private.map_err(|error| failed(error.to_string()))?;
        let way = |addresses| {
            Way::new(addresses, config.timeout)
                .map_err(|error| failed(format!("can't set up TLS: {error}")))
        };
        Ok(Self {
            catalog,
            vault,
            clock,
            config: config.clone(),
            public: way(Addresses::new(private.clone()))?,
            plain: way(Addresses::only(private))?,
            platform: PLATFORM.parse().map_err(|_| failed(PLATFORM.to_owned()))?,
        })
    }

    /// Tells what is due, until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let notifier = Arc::new(self);
        let mut telling: JoinSet<TenantId> = JoinSet::new();
        let mut told: BTreeMap<TenantId, usize> = BTreeMap::new();
        let mut seen_failure = false;
        while !*stop.borrow() {
            match notifier.due(&told).await {
                Ok(due) => {
                    seen_failure = false;
                    for (key, notice) in due {
                        let tenant = notice.tenant.clone();
                        *told.entry(tenant.clone()).or_default() += 1;
                        let notifier = Arc::clone(&notifier);
                        telling.spawn(async move {
                            if let Err(error) = notifier.tell(&key, notice).await {
                                tracing::warn!(%error, "a webhook's notice is left for later");
                            }
                            tenant
                        });
                    }
                }
                Err(error) if !seen_failure => {
                    seen_failure = true;
                    tracing::warn!(%error, "can't look for what webhooks are to be told; will try again");
                }
                Err(_) => {}
            }
            // Who is slow keeps nobody else waiting.
            let poll = tokio::time::sleep(notifier.config.poll.into());
            tokio::pin!(poll);
            loop {
                tokio::select! {
                    () = &mut poll => break,
                    _ = stop.changed() => break,
                    Some(ended) = telling.join_next() => {
                        let count = ended.ok().and_then(|tenant| told.get_mut(&tenant));
                        if let Some(count) = count {
                            *count = count.saturating_sub(1);
                        }
                        told.retain(|_, count| *count > 0);
                    }
                }
            }
        }
    }

    /// What is due and may be told now, beside what `told` is being told; no tenant takes the place
    /// of the others.
    async fn due(
        &self,
        told: &BTreeMap<TenantId, usize>,
    ) -> Result<Vec<(String, Notice)>, StoreError> {
        let entries = (self.catalog)
            .list(CatalogKind::Notice, &self.platform, "", None, SEEN_MAX)
            .await?;
        // Keys begin with the time at which they are due.
        let now = id_from(self.clock.now().plus_millis(1));
        let (mut told, mut due) = (told.clone(), Vec::new());
        let mut at_a_time: usize = told.values().sum();
        for entry in entries.into_iter().take_while(|entry| entry.key < now) {
            let notice: Notice = match serde_json::from_value(entry.value) {
                Ok(notice) => notice,
                Err(error) => {
                    tracing::error!(notice = entry.key, %error, "a notice can't be read: it is dropped");
                    let kind = CatalogKind::Notice;
                    (self.catalog)
                        .delete(kind, &self.platform, &entry.key, &[])
                        .await?;
                    continue;
                }
            };
            let own = told.entry(notice.tenant.clone()).or_default();
            if at_a_time < AT_A_TIME_MAX && *own < OF_A_TENANT_MAX {
                *own += 1;
                at_a_time += 1;
                due.push((entry.key, notice));
            }
        }
        Ok(due)
    }

    async fn tell(&self, key: &str, mut notice: Notice) -> Result<(), StoreError> {
        notice.tries += 1;
        let doublings = (notice.tries - 1).min(20);
        let wait_ms = (BACKOFF_MS << doublings).min(BACKOFF_MAX_MS);
        // Until then it is this process's, whatever becomes of it.
        let again_at = self
            .clock
            .now()
            .plus_millis(wait_ms + self.config.timeout.0);
        let Some(moved) = notice.document(again_at) else {
            return Err(StoreError::Corrupt(format!("{key} can't be moved")));
        };
        let kind = CatalogKind::Notice;
        let mine = (self.catalog)
            .delete(kind, &self.platform, key, std::slice::from_ref(&moved))
            .await?;
        if !mine {
            return Ok(());
        }
        let over = again_at.millis_since(notice.created_at) > self.config.life.0;
        let longest = Duration::from(self.config.timeout) * 2;
        let sent = tokio::time::timeout(longest, self.send(&notice)).await;
        let outcome = sent.unwrap_or_else(|_| Tried::Failed("it took too long".to_owned()));
        let why = match outcome {
            Tried::Taken => {
                self.catalog
                    .delete(kind, &self.platform, &moved.key, &[])
                    .await?;
                return Ok(());
            }
            Tried::Failed(why) if !over => {
                tracing::debug!(job.id = %notice.job, webhook = shown(&notice.url), why, "a webhook will be told again");
                return Ok(());
            }
            Tried::Failed(why) | Tried::Refused(why) => why,
        };
        tracing::warn!(job.id = %notice.job, webhook = shown(&notice.url), why, "a webhook is given up");
        let told = [self.given_up(&notice, &why).document(&notice.tenant)];
        self.catalog
            .delete(kind, &self.platform, &moved.key, &told)
            .await
            .map(drop)
    }

    /// What its tenant's admins see of a notice that nobody took.
    fn given_up(&self, notice: &Notice, why: &str) -> AuditEntry {
        let at = self.clock.now();
        AuditEntry {
            record_version: RECORD_VERSION,
            id: AuditEntry::id(at, &notice.delivery),
            at,
            actor: Actor {
                subject: "stoker".to_owned(),
                role: Role::Operator,
                token: None,
            },
            action: "give_up_webhook".to_owned(),
            target: format!("job {}", notice.job),
            before: notice.body.clone(),
            after: serde_json::json!({
                "url": shown(&notice.url),
                "tries": notice.tries,
                "why": why,
            }),
        }
    }

    async fn send(&self, notice: &Notice) -> Tried {
        let url = match Url::parse(&notice.url) {
            Ok(url) => url,
            Err(error) => return Tried::Refused(format!("its URL can't be read: {error}")),
        };
        let way = match url.scheme() {
            "https" => &self.public,
            "http" => &self.plain,
            other => return Tried::Refused(format!("{other} isn't spoken")),
        };
        // A literal address isn't resolved: it is checked here.
        let host = url.host_str().unwrap_or_default();
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>()
            && let Err(why) = way.addresses.check(host, ip)
        {
            return Tried::Refused(why.to_string());
        }
        let secret = match self.secret(notice).await {
            Ok(secret) => secret,
            Err(why) => return why,
        };
        let body = notice.body.to_string();
        let signature = sign(&secret, self.clock.now(), &body);
        let request = way
            .client
            .post(url)
            .header("Content-Type", "application/json")
            .header("Stoker-Delivery", &notice.delivery)
            .header("Stoker-Signature", signature)
            .body(body);
        match request.send().await {
            Ok(response) if response.status().is_success() => Tried::Taken,
            Ok(response) if response.status() == StatusCode::GONE => {
                Tried::Refused("it answered 410 Gone".to_owned())
            }
            Ok(response) => Tried::Failed(format!("it answered {}", response.status())),
            Err(error) => {
                let why = innermost(&error);
                match why.contains(NOT_PUBLIC) {
                    true => Tried::Refused(why),
                    false => Tried::Failed(why),
                }
            }
        }
    }

    async fn secret(&self, notice: &Notice) -> Result<Vec<u8>, Tried> {
        let (tenant, name) = (&notice.tenant, &notice.secret);
        let found = self.catalog.get(CatalogKind::Secret, tenant, name).await;
        let found = found.map_err(|error| Tried::Failed(error.to_string()))?;
        let found = found
            .ok_or_else(|| Tried::Failed(format!("the secret `{name}` isn't there any more")))?;
        let record: SecretRecord = serde_json::from_value(found.value)
            .map_err(|error| Tried::Failed(error.to_string()))?;
        let opened = self.vault.open(tenant, name, &record.sealed);
        opened.map_err(|error| Tried::Failed(error.to_string()))
    }
}

/// `t=<seconds>,v1=<hex>`: HMAC-SHA-256 of the seconds, a dot, and the body. The time is in it so that
/// a receiver can refuse what somebody sends again later.
fn sign(secret: &[u8], at: Timestamp, body: &str) -> String {
    let seconds = at.as_millis() / 1_000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={seconds},v1={hex}")
}

/// What comes after `?` may be secret.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// The deepest cause of an error: the sentence that says what happened. It names no URL.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it didn't answer in time".to_owned();
    }
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is that of Python's `hmac`.
    #[test]
    fn a_signature_is_an_hmac_of_time_and_body() {
        let signed = sign(b"key", Timestamp::from_millis(1_700_000_000_999), "{}");
        let expected = "t=1700000000,v1=";
        assert!(signed.starts_with(expected), "{signed}");
        assert_eq!(signed.len(), expected.len() + 64);
        let hex = "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert!(signed.ends_with(hex), "{signed}");
    }

    #[test]
    fn settings_are_checked() {
        let config = NotifierConfig {
            private: vec!["10.0.0.0/33".to_owned()],
            poll: Millis(1),
            ..NotifierConfig::default()
        };
        let fields: Vec<String> = config.validate().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["private", "poll"]);
        assert!(NotifierConfig::default().validate().is_empty());
    }
}
