//! The platform's own key: signs the tokens that `create_token` makes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};
use stoker_domain::tenant::Role;
use stoker_domain::{TenantId, Timestamp};

use super::claims::put_at_path;
use super::keys::Key;
use crate::config::AuthConfig;

/// Why a key can't be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("the key file {path:?} can't be used")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read the file.
    #[error("the key file {0:?} can be read by others: its mode must be 600")]
    Readable(PathBuf),
    /// The file holds something else.
    #[error("the key file {path:?} isn't usable: {message}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The cryptographic library refused.
    #[error("no key could be made: {0}")]
    Crypto(String),
}

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Grant<'a> {
    /// The token's id (`jti`), by which it can be revoked.
    pub id: Option<&'a str>,
    /// Whom it speaks for (`sub`).
    pub subject: &'a str,
    /// In which tenant.
    pub tenant: &'a TenantId,
    /// What it may do.
    pub role: Role,
    /// When it is made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An Ed25519 key that signs tokens.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    encoding: EncodingKey,
    /// RFC 7638 thumbprint of the public key.
    id: String,
    jwk: Jwk,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|error| KeyError::Crypto(error.to_string()))?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec()).map_err(KeyError::Crypto)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, String> {
        let encoding = EncodingKey::from_ed_der(&pkcs8);
        let describe = |error: jsonwebtoken::errors::Error| error.to_string();
        let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).map_err(describe)?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(describe)?;
        jwk.common.key_id = Some(id.clone());
        Ok(Self {
            pkcs8,
            encoding,
            id,
            jwk,
        })
    }

    /// Reads a key that [`SigningKey::save`] wrote: PKCS #8 in PEM, mode 600.
    ///
    /// # Errors
    /// [`KeyError`]: the file is missing, broken, or readable by others.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let content = |message: String| KeyError::Content {
            path: path.to_owned(),
            message,
        };
        if fs::metadata(path).map_err(file)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Readable(path.to_owned()));
        }
        let text = fs::read(path).map_err(file)?;
        let block = pem::parse(&text).map_err(|error| content(error.to_string()))?;
        if block.tag() != "PRIVATE KEY" {
            return Err(content(format!(
                "it holds a {:?}, not a \"PRIVATE KEY\"",
                block.tag()
            )));
        }
        Self::from_pkcs8(block.into_contents()).map_err(content)
    }

    /// Writes the key to a new file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError::File`]; also when there is a file already.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let text = pem::encode(&pem::Pem::new("PRIVATE KEY", self.pkcs8.clone()));
        let mut options = OpenOptions::new();
        let mut file_handle = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        file_handle.write_all(text.as_bytes()).map_err(file)?;
        file_handle.sync_all().map_err(file)
    }

    /// The key at `path`; a new one, saved there, when there is none.
    ///
    /// # Errors
    /// As [`SigningKey::load`] and [`SigningKey::save`].
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                match key.save(path) {
                    // Another process was first: its key is the one.
                    Err(KeyError::File { source, .. })
                        if source.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        Self::load(path)
                    }
                    saved => saved.map(|()| key),
                }
            }
            loaded => loaded,
        }
    }

    /// Signs a token with the issuer, audience and claim paths of `config`.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn sign(&self, grant: &Grant<'_>, config: &AuthConfig) -> Result<String, KeyError> {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), Value::from(config.issuer.as_str()));
        claims.insert("aud".to_owned(), Value::from(config.audience.as_str()));
        claims.insert("sub".to_owned(), Value::from(grant.subject));
        let seconds = |at: Timestamp| Value::from(at.as_millis().div_euclid(1000));
        claims.insert("iat".to_owned(), seconds(grant.issued_at));
        claims.insert("exp".to_owned(), seconds(grant.expires_at));
        if let Some(id) = grant.id {
            claims.insert("jti".to_owned(), Value::from(id));
        }
        put_at_path(&mut claims, &config.tenant_claim, grant.tenant.as_str());
        put_at_path(&mut claims, &config.role_claim, grant.role.as_str());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.encoding)
            .map_err(|error| KeyError::Crypto(error.to_string()))
    }

    /// The public key, as others may put it in a JSON Web Key Set.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        serde_json::to_value(&self.jwk).unwrap_or_default()
    }

    pub(super) fn verifying_key(&self) -> Result<Key, String> {
        Key::from_jwk(&self.jwk)
    }
}
