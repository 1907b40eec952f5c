//! The keys whose signatures are accepted. Each is for one algorithm, whatever a token claims.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};

/// Shortest modulus of an RSA key, in base64url characters: 2,048 bits.
const RSA_MODULUS_MIN_CHARS: usize = 342;
/// Most keys of a set.
const KEYS_MAX: usize = 100;

/// A key and the one algorithm that it is used with.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
}

/// The keys whose signatures are accepted.
#[derive(Clone, Default)]
pub(crate) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517). Keys that aren't for signatures are passed over.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let set: JwkSet =
            serde_json::from_str(text).map_err(|error| format!("not a key set: {error}"))?;
        if set.keys.len() > KEYS_MAX {
            let count = set.keys.len();
            return Err(format!("{count} keys given, at most {KEYS_MAX} allowed"));
        }
        let for_signatures = (set.keys.iter())
            .filter(|key| !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)));
        for_signatures
            .map(Key::from_jwk)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn push(&mut self, key: Key) {
        self.0.push(key);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The key that a token names; the only one there is for a token that names none.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

impl Key {
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self, String> {
        let id = jwk.common.key_id.clone();
        let name = id.as_deref().unwrap_or("without an id").to_owned();
        let refused = |why: &str| format!("key {name}: {why}");
        let (algorithm, declared) = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::RSA(key) if key.n.len() >= RSA_MODULUS_MIN_CHARS => {
                (Algorithm::RS256, KeyAlgorithm::RS256)
            }
            AlgorithmParameters::RSA(_) => {
                return Err(refused("the RSA modulus has fewer than 2048 bits"));
            }
            _ => return Err(refused("only Ed25519, P-256 and RSA keys can be used")),
        };
        if jwk.common.key_algorithm.is_some_and(|alg| alg != declared) {
            return Err(refused("only EdDSA, ES256 and RS256 can be used"));
        }
        let decoding = DecodingKey::from_jwk(jwk).map_err(|error| refused(&error.to_string()))?;
        Ok(Self {
            id,
            algorithm,
            decoding,
        })
    }
}
