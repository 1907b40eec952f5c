//! Sealed machine code: `magic | seal | engine hash | role | code`. The seal is a keyed BLAKE3 hash
//! of everything but itself, so only the holder of the key can make code that a host will run.

use crate::description::Role;
use crate::error::LoadError;
use std::fmt;

const MAGIC: &[u8; 8] = b"STKPLUG\x01";
const SEAL: std::ops::Range<usize> = 8..40;
const ENGINE: std::ops::Range<usize> = 40..72;
const ROLE: usize = 72;
const CODE: usize = 73;

/// The secret that authenticates artifacts, 32 bytes of good randomness.
#[derive(Clone)]
pub struct ArtifactKey([u8; 32]);

impl ArtifactKey {
    /// Takes a key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArtifactKey(..)")
    }
}

/// An artifact whose seal was checked.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) role: Role,
    pub(crate) code: &'a [u8],
}

pub(crate) fn seal(engine: blake3::Hash, role: Role, code: &[u8], key: &ArtifactKey) -> Vec<u8> {
    let mut artifact = Vec::with_capacity(CODE + code.len());
    artifact.extend_from_slice(MAGIC);
    artifact.extend_from_slice(&[0; 32]);
    artifact.extend_from_slice(engine.as_bytes());
    artifact.push(role as u8);
    artifact.extend_from_slice(code);
    let seal = seal_of(&artifact, key);
    artifact[SEAL].copy_from_slice(seal.as_bytes());
    artifact
}

pub(crate) fn open<'a>(
    artifact: &'a [u8],
    engine: blake3::Hash,
    key: &ArtifactKey,
) -> Result<Opened<'a>, LoadError> {
    if artifact.len() < CODE || !artifact.starts_with(MAGIC) {
        return Err(LoadError::Format);
    }
    let hash_at = |range| blake3::Hash::from_slice(&artifact[range]).map_err(|_| LoadError::Format);
    // The comparison of hashes takes the same time wherever they differ.
    if seal_of(artifact, key) != hash_at(SEAL)? {
        return Err(LoadError::Unauthenticated);
    }
    let found = hash_at(ENGINE)?;
    if found != engine {
        let [found, wanted] = [found, engine].map(|hash| hash.to_hex().to_string());
        return Err(LoadError::OtherEngine { found, wanted });
    }
    let role = Role::ALL
        .into_iter()
        .find(|role| *role as u8 == artifact[ROLE]);
    Ok(Opened {
        role: role.ok_or(LoadError::Format)?,
        code: &artifact[CODE..],
    })
}

fn seal_of(artifact: &[u8], key: &ArtifactKey) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(MAGIC).update(&artifact[SEAL.end..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_and_every_cut_is_refused() {
        let (engine, key) = (blake3::hash(b"engine"), ArtifactKey::new([7; 32]));
        let artifact = seal(engine, Role::Metric, b"code", &key);
        let opened = open(&artifact, engine, &key).unwrap();
        assert_eq!((opened.role, opened.code), (Role::Metric, &b"code"[..]));
        for bit in 0..artifact.len() * 8 {
            let mut changed = artifact.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&changed, engine, &key).is_err(), "bit {bit}");
        }
        for length in 0..artifact.len() {
            assert!(
                open(&artifact[..length], engine, &key).is_err(),
                "length {length}"
            );
        }
    }

    #[test]
    fn another_key_or_engine_is_refused() {
        let (engine, key) = (blake3::hash(b"engine"), ArtifactKey::new([7; 32]));
        let artifact = seal(engine, Role::Preprocess, b"code", &key);
        let told = open(&artifact, engine, &ArtifactKey::new([8; 32])).unwrap_err();
        assert!(matches!(told, LoadError::Unauthenticated), "{told}");
        let told = open(&artifact, blake3::hash(b"other"), &key).unwrap_err();
        assert!(matches!(told, LoadError::OtherEngine { .. }), "{told}");
    }
}
