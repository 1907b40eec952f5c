//! API keys: bearer tokens that the platform keeps no copy of. Unlike JSON Web Tokens they need no
//! signing key, so that they can be made where another issuer signs.

use stoker_domain::tenant::ApiKeyRecord;
use stoker_domain::{ErrorCode, Timestamp};

use super::Caller;
use crate::problem::ApiError;

/// What every key begins with, so that a leaked one is found by scanners.
const PREFIX: &str = "stk_";
/// Bytes of a key's id, and of its secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A new key: its id, and the key itself.
pub(crate) fn generate() -> Result<(String, String), ApiError> {
    let mut bytes = [0; ID_BYTES + SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ApiError::internal("no random numbers"))?;
    let (id, secret) = bytes.split_at(ID_BYTES);
    let (id, secret) = (hex(id), hex(secret));
    let key = format!("{PREFIX}{id}_{secret}");
    Ok((id, key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id of what looks like a key.
pub(crate) fn id_of(bearer: &str) -> Option<&str> {
    let (id, secret) = bearer.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES;
    (is_ours && is_hex(id) && is_hex(secret)).then_some(id)
}

/// What is kept of a key. Its secret has 256 random bits: no salt or slow hash is needed.
pub(crate) fn hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

/// Who calls with that key.
///
/// # Errors
/// `unauthenticated` when it isn't the record's, was revoked, or has expired.
pub(crate) fn check(
    key: &str,
    record: Option<ApiKeyRecord>,
    now: Timestamp,
) -> Result<Caller, ApiError> {
    let refused = |why: &str| Err(ApiError::new(ErrorCode::Unauthenticated, why));
    // Hashes may be compared as they come: who could use the time could invert the hash.
    let record = record.filter(|record| record.key_blake3 == hash(key));
    match record {
        None => refused("the API key is not known"),
        Some(record) if record.revoked => refused("the API key was revoked"),
        Some(record) if record.expires_at <= now => refused("the API key has expired"),
        Some(record) => Ok(Caller {
            tenant: record.tenant,
            subject: format!("key:{}", record.name),
            role: record.role,
            project: record.project,
            token: Some(record.id),
            until: record.expires_at,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_id_and_a_form() {
        let (id, key) = generate().unwrap();
        assert_eq!(id_of(&key), Some(id.as_str()));
        assert_ne!(generate().unwrap().1, key);
        for other in [
            "",
            "stk_",
            "stk_12_34",
            "ey.a.b",
            &key[1..],
            &format!("{key}0"),
        ] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
