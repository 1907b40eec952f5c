//! The API's configuration. Durations are text such as `30s`, sizes are bytes.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stoker_domain::FieldError;
use stoker_domain::spec::SPEC_MAX_BYTES;
use stoker_domain::time::Millis;

/// Longest life of a presigned URL.
const PRESIGNED_MAX_MS: u64 = 15 * 60 * 1000;

/// Largest part of an upload that may be configured: parts are held in memory.
const PART_MAX_BYTES: u64 = 1 << 30;

/// How the API is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Threads that serve requests; 0 for one per processor.
    pub workers: usize,
    /// Most connections that one thread serves at a time.
    pub connections_max: usize,
    /// Certificate and key; plain HTTP when absent.
    pub tls: Option<TlsConfig>,
    /// Where uploads lie until they are checked; the system's directory for temporary files when
    /// absent.
    pub spool_dir: Option<PathBuf>,
    /// Largest job spec.
    pub spec_max_bytes: usize,
    /// Largest data set.
    pub dataset_max_bytes: u64,
    /// Largest plugin module.
    pub plugin_max_bytes: u64,
    /// Most uploads at a time.
    pub uploads_max: usize,
    /// Largest body of rows to predict.
    pub predict_max_bytes: u64,
    /// Most requests for predictions at a time.
    pub predictions_max: usize,
    /// Most jobs that are explained at a time.
    pub explanations_max: usize,
    /// Entries of a page when the request doesn't say.
    pub page_default: usize,
    /// Most entries of a page.
    pub page_max: usize,
    /// Most metric points, and most log lines, of a page.
    pub points_max: usize,
    /// Longest that a client may take over a request's head.
    pub head_timeout: Millis,
    /// Longest that a request may take, but for uploads.
    pub request_timeout: Millis,
    /// Longest that an upload may take, with all that is done with it.
    pub upload_timeout: Millis,
    /// Longest that the store may take to show that it is there.
    pub readiness_timeout: Millis,
    /// Longest wait for requests in progress when the server stops.
    pub shutdown_timeout: Millis,
    /// Life of presigned URLs, at most 15 minutes.
    pub presigned_life: Millis,
    /// Uploads in parts.
    pub uploads: UploadsConfig,
    /// Event streams.
    pub events: EventsConfig,
    /// How often a tenant may ask.
    pub rate: RateConfig,
    /// Whose tokens are accepted.
    pub auth: AuthConfig,
}

/// Certificate and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, the server's own first.
    pub certificates: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Uploads in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadsConfig {
    /// Largest part, which is held in memory while it comes.
    pub part_max_bytes: u64,
    /// Most parts of an upload.
    pub parts_max: usize,
    /// Most uploads of a tenant that no data set was made of yet.
    pub open_max: usize,
    /// Life of an upload, from its creation.
    pub life: Millis,
}

/// Event streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Wait between looks at the store.
    pub poll: Millis,
    /// Wait between comments that keep an idle stream open.
    pub heartbeat: Millis,
    /// Longest life of a stream; its client resumes where it ended.
    pub life: Millis,
    /// Most streams at a time.
    pub streams_max: usize,
}

/// How often a tenant may ask, in each process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateConfig {
    /// Requests a second in the long run; 0 for no limit.
    pub per_s: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            per_s: 1_000,
            burst: 5_000,
        }
    }
}

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The `iss` that a token must have.
    pub issuer: String,
    /// The `aud` that a token must have.
    pub audience: String,
    /// Path of the claim with the tenant, its parts parted by dots.
    pub tenant_claim: String,
    /// Path of the claim with the role.
    pub role_claim: String,
    /// How far clocks may be apart.
    pub leeway: Millis,
    /// PEM file with an Ed25519 key that signs tokens made here, and verifies them.
    pub signing_key: Option<PathBuf>,
    /// File with a JSON Web Key Set of others whose tokens are accepted; read again when it
    /// changes.
    pub jwks: Option<PathBuf>,
    /// Wait between looks whether the key set changed.
    pub jwks_check: Millis,
    /// Address of a JSON Web Key Set of others whose tokens are accepted: HTTPS, or HTTP on this
    /// machine.
    pub jwks_url: Option<String>,
    /// Age at which the fetched key set is fetched again.
    pub jwks_max_age: Millis,
    /// Least wait between fetches, also when tokens name keys that aren't known.
    pub jwks_min_wait: Millis,
    /// How long the keys fetched last stay good when no newer ones can be fetched.
    pub jwks_outage: Millis,
    /// How long a verified token is taken for valid without another look; a token revoked
    /// elsewhere works this much longer.
    pub cache: Millis,
    /// Most tokens remembered.
    pub cache_entries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 0,
            connections_max: 10_000,
            tls: None,
            spool_dir: None,
            spec_max_bytes: SPEC_MAX_BYTES,
            dataset_max_bytes: 1 << 30,
            plugin_max_bytes: 32 << 20,
            uploads_max: 8,
            predict_max_bytes: 8 << 20,
            predictions_max: 4,
            explanations_max: 4,
            page_default: 50,
            page_max: 500,
            points_max: 100_000,
            head_timeout: Millis(10_000),
            request_timeout: Millis(30_000),
            upload_timeout: Millis(900_000),
            readiness_timeout: Millis(2_000),
            shutdown_timeout: Millis(10_000),
            presigned_life: Millis(PRESIGNED_MAX_MS),
            uploads: UploadsConfig::default(),
            events: EventsConfig::default(),
            rate: RateConfig::default(),
            auth: AuthConfig::default(),
        }
    }
}

impl Default for UploadsConfig {
    fn default() -> Self {
        Self {
            part_max_bytes: 8 << 20,
            parts_max: 10_000,
            open_max: 16,
            life: Millis(86_400_000),
        }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            poll: Millis(75),
            heartbeat: Millis(10_000),
            life: Millis(3_600_000),
            streams_max: 1_000,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: "stoker".to_owned(),
            audience: "stoker".to_owned(),
            tenant_claim: "stoker.tenant".to_owned(),
            role_claim: "stoker.role".to_owned(),
            leeway: Millis(60_000),
            signing_key: None,
            jwks: None,
            jwks_check: Millis(5_000),
            jwks_url: None,
            jwks_max_age: Millis(600_000),
            jwks_min_wait: Millis(10_000),
            jwks_outage: Millis(86_400_000),
            cache: Millis(5_000),
            cache_entries: 10_000,
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// One error per field.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                errors.push(FieldError::new(field, message));
            }
        };
        for (field, value) in [
            ("connections_max", self.connections_max),
            ("spec_max_bytes", self.spec_max_bytes),
            ("uploads_max", self.uploads_max),
            ("predictions_max", self.predictions_max),
            ("explanations_max", self.explanations_max),
            ("page_default", self.page_default),
            ("points_max", self.points_max),
            ("uploads.parts_max", self.uploads.parts_max),
            ("uploads.open_max", self.uploads.open_max),
            ("events.streams_max", self.events.streams_max),
            ("auth.cache_entries", self.auth.cache_entries),
        ] {
            check(value > 0, field, "must be above 0".to_owned());
        }
        for (field, length) in [
            ("head_timeout", self.head_timeout),
            ("request_timeout", self.request_timeout),
            ("upload_timeout", self.upload_timeout),
            ("readiness_timeout", self.readiness_timeout),
            ("presigned_life", self.presigned_life),
            ("uploads.life", self.uploads.life),
            ("events.heartbeat", self.events.heartbeat),
            ("events.life", self.events.life),
        ] {
            check(length.0 > 0, field, "must be above 0s".to_owned());
        }
        let in_page = self.page_default <= self.page_max;
        check(in_page, "page_max", "is below page_default".to_owned());
        let part = (1..=PART_MAX_BYTES).contains(&self.uploads.part_max_bytes);
        let message = format!("is not in 1 to {PART_MAX_BYTES}");
        check(part, "uploads.part_max_bytes", message);
        let rate = self.rate.per_s == 0 || self.rate.burst > 0;
        check(rate, "rate.burst", "must be above 0".to_owned());
        let within = self.presigned_life.0 <= PRESIGNED_MAX_MS;
        check(within, "presigned_life", "at most 15m".to_owned());
        let poll = (10..=1_000).contains(&self.events.poll.0);
        check(poll, "events.poll", "is not in 10ms to 1s".to_owned());
        errors.extend(self.auth.validate().into_iter().map(|e| e.under("auth")));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

impl AuthConfig {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, text) in [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("tenant_claim", &self.tenant_claim),
            ("role_claim", &self.role_claim),
        ] {
            if text.split('.').any(str::is_empty) && !text.contains("://") {
                let message = format!("{text:?} has an empty part");
                errors.push(FieldError::new(field, message));
            }
        }
        for (field, length) in [
            ("jwks_max_age", self.jwks_max_age),
            ("jwks_min_wait", self.jwks_min_wait),
        ] {
            if length.0 == 0 {
                errors.push(FieldError::new(field, "must be above 0s"));
            }
        }
        if self.signing_key.is_none() && self.jwks.is_none() && self.jwks_url.is_none() {
            let message = "without this, `jwks` or `jwks_url` no token could be accepted";
            errors.push(FieldError::new("signing_key", message));
        }
        errors
    }
}
