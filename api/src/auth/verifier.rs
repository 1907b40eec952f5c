//! Verifies tokens, and remembers for a few seconds which it has verified.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use jsonwebtoken::Validation;
use serde_json::{Map, Value};
use stoker_domain::port::KeySource;
use stoker_domain::{ErrorCode, Timestamp};

use super::claims::Caller;
use super::keys::KeySet;
use super::signing::SigningKey;
use crate::config::AuthConfig;
use crate::problem::ApiError;

/// Longest token, in bytes.
const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// Verifies tokens.
pub(crate) struct Verifier {
    config: AuthConfig,
    sets: Mutex<KeySets>,
    /// The keys of all sets.
    keys: RwLock<KeySet>,
    file: Option<Mutex<KeyFile>>,
    remote: Option<Remote>,
    known: Mutex<HashMap<blake3::Hash, Known>>,
}

/// A key set's file, as it was when it was last read.
struct KeyFile {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    checked_ms: u64,
}

/// Whose signatures are accepted.
#[derive(Default)]
struct KeySets {
    own: KeySet,
    file: KeySet,
    remote: KeySet,
}

/// A key set that is fetched.
struct Remote {
    source: Arc<dyn KeySource>,
    /// Held while it is fetched.
    fetches: tokio::sync::Mutex<Fetches>,
}

/// When the key set was fetched, and when that was last tried.
#[derive(Default)]
struct Fetches {
    fetched_ms: Option<u64>,
    tried_ms: Option<u64>,
}

/// A token that was verified.
struct Known {
    caller: Caller,
    at_ms: u64,
}

impl Verifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub(crate) fn new(
        config: AuthConfig,
        own: Option<&SigningKey>,
        remote: Option<Arc<dyn KeySource>>,
    ) -> Result<Self, String> {
        let mut sets = KeySets::default();
        if let Some(key) = own {
            sets.own.push(key.verifying_key()?);
        }
        let mut file = None;
        if let Some(path) = &config.jwks {
            let mut key_file = KeyFile {
                path: path.clone(),
                seen: None,
                checked_ms: 0,
            };
            sets.file = key_file.read_if_changed()?.unwrap_or_default();
            file = Some(Mutex::new(key_file));
        }
        Ok(Self {
            config,
            keys: RwLock::new(sets.all()),
            sets: Mutex::new(sets),
            file,
            remote: remote.map(|source| Remote {
                source,
                fetches: tokio::sync::Mutex::default(),
            }),
            known: Mutex::default(),
        })
    }

    /// The caller of a token that was found valid, revocation included, moments ago.
    pub(crate) fn remembered(&self, token: &str, now: Timestamp, now_ms: u64) -> Option<Caller> {
        let hash = blake3::hash(token.as_bytes());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&hash)
            .filter(|known| now_ms.saturating_sub(known.at_ms) < self.config.cache.0)
            .filter(|known| now < known.caller.until)
            .map(|known| known.caller.clone())
    }

    /// Remembers a token that was found valid, revocation included.
    pub(crate) fn remember(&self, token: &str, caller: &Caller, now_ms: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.config.cache_entries {
            let life = self.config.cache.0;
            known.retain(|_, known| now_ms.saturating_sub(known.at_ms) < life);
        }
        if known.len() >= self.config.cache_entries {
            known.clear();
        }
        let entry = Known {
            caller: caller.clone(),
            at_ms: now_ms,
        };
        known.insert(blake3::hash(token.as_bytes()), entry);
    }

    /// Forgets a token that was revoked here.
    pub(crate) fn forget(&self, token_id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.caller.token.as_deref() != Some(token_id));
    }

    /// Checks signature, issuer, audience and times.
    pub(crate) fn verify(
        &self,
        token: &str,
        now: Timestamp,
        now_ms: u64,
    ) -> Result<Caller, ApiError> {
        self.refresh(now_ms);
        self.claims(token)
            .and_then(|claims| Caller::from_claims(&claims, &self.config, now))
            .map_err(|why| ApiError::new(ErrorCode::Unauthenticated, why))
    }

    fn claims(&self, token: &str) -> Result<Map<String, Value>, String> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(format!("the token has more than {TOKEN_MAX_BYTES} bytes"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| "the token can't be read, or its algorithm isn't one that is accepted")?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys
            .find(header.kid.as_deref())
            .ok_or("the token's key is not known")?;
        if header.alg != key.algorithm {
            return Err("the token's algorithm is not its key's".to_owned());
        }
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // Times are checked by the `Clock` port.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        jsonwebtoken::decode(token, &key.decoding, &validation)
            .map(|decoded| decoded.claims)
            .map_err(|error| reason(error.kind()))
    }

    /// Reads the key set again when its file has changed. A set that can't be read changes nothing.
    fn refresh(&self, now_ms: u64) {
        let Some(file) = &self.file else { return };
        let Ok(mut file) = file.try_lock() else {
            return;
        };
        if now_ms.saturating_sub(file.checked_ms) < self.config.jwks_check.0 {
            return;
        }
        file.checked_ms = now_ms;
        match file.read_if_changed() {
            Ok(Some(others)) => self.change_keys(|sets| sets.file = others),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(
                    error,
                    "the changed key set can't be read; the old one stays"
                );
            }
        }
    }
}

impl Verifier {
    /// Takes other keys into use, and forgets the tokens that were verified with the old ones.
    fn change_keys(&self, change: impl FnOnce(&mut KeySets)) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sets);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = sets.all();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
    }

    fn knows_key_of(&self, token: &str) -> bool {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            // It is refused whatever the keys are.
            return true;
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.find(header.kid.as_deref()).is_some()
    }

    /// Fetches the other issuer's keys when they are old, or when the token names a key that isn't
    /// known. Only who needs a new key waits for it.
    pub(crate) async fn fetch(&self, token: &str, now_ms: u64) {
        let Some(remote) = &self.remote else { return };
        let is_known = self.knows_key_of(token);
        let mut fetches = if is_known {
            let Ok(fetches) = remote.fetches.try_lock() else {
                return;
            };
            fetches
        } else {
            remote.fetches.lock().await
        };
        let age = |at_ms: Option<u64>| at_ms.map_or(u64::MAX, |at| now_ms.saturating_sub(at));
        // Another request may have fetched it while this one waited.
        let is_wanted =
            age(fetches.fetched_ms) >= self.config.jwks_max_age.0 || !self.knows_key_of(token);
        if !is_wanted || age(fetches.tried_ms) < self.config.jwks_min_wait.0 {
            return;
        }
        fetches.tried_ms = Some(now_ms);
        let fetched = remote
            .source
            .fetch()
            .await
            .map_err(|error| error.to_string());
        match fetched.and_then(|text| KeySet::parse(&text)) {
            Ok(keys) => {
                fetches.fetched_ms = Some(now_ms);
                self.change_keys(|sets| sets.remote = keys);
            }
            Err(error) => {
                tracing::error!(error, "the key set can't be fetched");
                if age(fetches.fetched_ms) >= self.config.jwks_outage.0 {
                    self.change_keys(|sets| sets.remote = KeySet::default());
                }
            }
        }
    }
}

impl KeySets {
    fn all(&self) -> KeySet {
        let mut keys = self.own.clone();
        keys.extend(&self.file);
        keys.extend(&self.remote);
        keys
    }
}

impl KeyFile {
    fn read_if_changed(&mut self) -> Result<Option<KeySet>, String> {
        let about = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let metadata = std::fs::metadata(&self.path).map_err(|error| about(&error))?;
        let modified = metadata.modified().map_err(|error| about(&error))?;
        let stamp = Some((modified, metadata.len()));
        if stamp == self.seen {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| about(&error))?;
        let keys = KeySet::parse(&text).map_err(|error| about(&error))?;
        self.seen = stamp;
        Ok(Some(keys))
    }
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> String {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidIssuer => "the token is from another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::MissingRequiredClaim(name) => format!("the token has no `{name}`"),
        _ => "the token's signature is not valid".to_owned(),
    }
}
